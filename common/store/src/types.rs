//! Keys, values, revisions and transactions, with the limits that etcd's defaults leave.

use std::collections::BTreeSet;
use std::fmt;

/// The longest key, in bytes. Nothing needs more; a key is in memory wherever its entry is.
pub const MAX_KEY_BYTES: usize = 512;

/// The largest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 << 10;

/// The most compares, and the most operations, of one transaction: etcd's `--max-txn-ops` is 128,
/// of which the store on etcd needs two itself.
pub const MAX_TXN_OPS: usize = 126;

/// The most bytes of keys and values in one transaction: etcd's `--max-request-bytes` is 1.5 MiB.
pub const MAX_TXN_BYTES: usize = 1 << 20;

/// The most entries of one page of a scan.
pub const MAX_PAGE: usize = 4096;

/// What a key, a value or a transaction has too much of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// A key is empty or longer than [`MAX_KEY_BYTES`].
    #[error("a key of {0} bytes: 1 to {MAX_KEY_BYTES} are allowed")]
    Key(usize),
    /// A value is longer than [`MAX_VALUE_BYTES`].
    #[error("a value of {0} bytes: at most {MAX_VALUE_BYTES} are allowed")]
    Value(usize),
    /// More than [`MAX_TXN_OPS`] compares or operations.
    #[error("a transaction of {0} compares or operations: at most {MAX_TXN_OPS} are allowed")]
    Ops(usize),
    /// More than [`MAX_TXN_BYTES`] in all.
    #[error("a transaction of {0} bytes: at most {MAX_TXN_BYTES} are allowed")]
    Bytes(usize),
    /// Two operations on one key; which would win is not defined.
    #[error("a transaction writes the key {0} twice")]
    SameKeyTwice(Key),
}

/// A key: 1 to [`MAX_KEY_BYTES`] bytes, ordered bytewise.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Vec<u8>);

impl Key {
    /// A key of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, LimitError> {
        let bytes = bytes.into();
        if (1..=MAX_KEY_BYTES).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(LimitError::Key(bytes.len()))
        }
    }

    /// A key of whatever length that a store has.
    #[cfg(feature = "etcd")]
    pub(crate) fn stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A value: at most [`MAX_VALUE_BYTES`] bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Value(Vec<u8>);

impl Value {
    /// A value of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, LimitError> {
        let bytes = bytes.into();
        if bytes.len() <= MAX_VALUE_BYTES {
            Ok(Self(bytes))
        } else {
            Err(LimitError::Value(bytes.len()))
        }
    }

    /// A value of whatever length that a store has.
    #[cfg(feature = "etcd")]
    pub(crate) fn stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What the keys of a scan or a watch begin with. The empty prefix means every key.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Prefix(Vec<u8>);

impl Prefix {
    /// A prefix of these bytes, at most [`MAX_KEY_BYTES`].
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, LimitError> {
        let bytes = bytes.into();
        if bytes.len() <= MAX_KEY_BYTES {
            Ok(Self(bytes))
        } else {
            Err(LimitError::Key(bytes.len()))
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether `key` begins with the prefix.
    pub fn holds(&self, key: &[u8]) -> bool {
        key.starts_with(&self.0)
    }

    /// The first key after all that begin with the prefix; `None` if there is no such key.
    pub fn end(&self) -> Option<Vec<u8>> {
        let mut end = self.0.clone();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return Some(end);
            }
        }
        None
    }
}

/// Shows bytes as text, with what is not printable escaped.
macro_rules! show_bytes {
    ($($type:ty),*) => { $(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.escape_ascii())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"{}\"", self.0.escape_ascii())
            }
        }
    )* };
}
show_bytes!(Key, Value, Prefix);

/// A point in the store's history: it grows with every transaction that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key with its value and its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: Value,
    /// When it was created; a key that was deleted and put again is a new one.
    pub create_revision: Revision,
    /// When it was last put.
    pub mod_revision: Revision,
}

/// One condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(Key),
    /// The key exists.
    Present(Key),
    /// The key exists and was last put at this revision: nobody changed it since it was read.
    Unchanged(Key, Revision),
    /// The key exists and has this value.
    Equals(Key, Value),
    /// No key begins with these bytes. What is found otherwise is the first that does.
    NoneUnder(Key),
}

impl Compare {
    /// The key it is about, or what the keys it is about begin with.
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key)
            | Self::Present(key)
            | Self::Unchanged(key, _)
            | Self::Equals(key, _)
            | Self::NoneUnder(key) => key,
        }
    }

    /// Whether it depends on what is stored under `key`.
    pub fn is_about(&self, key: &Key) -> bool {
        match self {
            Self::NoneUnder(prefix) => key.0.starts_with(&prefix.0),
            other => other.key() == key,
        }
    }

    /// Whether it is true of what was found under its key.
    pub fn holds(&self, found: Option<&Entry>) -> bool {
        match (self, found) {
            (Self::Absent(_) | Self::NoneUnder(_), found) => found.is_none(),
            (_, None) => false,
            (Self::Present(_), Some(_)) => true,
            (Self::Unchanged(_, revision), Some(entry)) => entry.mod_revision == *revision,
            (Self::Equals(_, value), Some(entry)) => entry.value == *value,
        }
    }

    fn bytes(&self) -> usize {
        let value = if let Self::Equals(_, value) = self { value.0.len() } else { 0 };
        self.key().0.len() + value
    }
}

/// One change of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Creates the key or replaces its value.
    Put(Key, Value),
    /// Removes the key. Removing one that is not there changes nothing.
    Delete(Key),
}

impl Op {
    /// The key it changes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }

    fn bytes(&self) -> usize {
        let value = if let Self::Put(_, value) = self { value.0.len() } else { 0 };
        self.key().0.len() + value
    }
}

/// A transaction: if every compare holds, all operations are done, else none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    compares: Vec<Compare>,
    ops: Vec<Op>,
}

impl Txn {
    /// A transaction within the limits: at most [`MAX_TXN_OPS`] of each, [`MAX_TXN_BYTES`] in all,
    /// no key written twice.
    pub fn new(compares: Vec<Compare>, ops: Vec<Op>) -> Result<Self, LimitError> {
        let most = compares.len().max(ops.len());
        if most > MAX_TXN_OPS {
            return Err(LimitError::Ops(most));
        }
        let mut written = BTreeSet::new();
        if let Some(twice) = ops.iter().map(Op::key).find(|key| !written.insert(*key)) {
            return Err(LimitError::SameKeyTwice(twice.clone()));
        }
        let txn = Self { compares, ops };
        if txn.bytes() > MAX_TXN_BYTES {
            return Err(LimitError::Bytes(txn.bytes()));
        }
        Ok(txn)
    }

    /// Neither conditions nor changes.
    #[cfg(feature = "etcd")]
    pub(crate) fn nothing() -> Self {
        Self { compares: Vec::new(), ops: Vec::new() }
    }

    /// Creates a key that must not exist.
    pub fn create(key: Key, value: Value) -> Self {
        Self { compares: vec![Compare::Absent(key.clone())], ops: vec![Op::Put(key, value)] }
    }

    /// Replaces the value of an entry that must not have changed since it was read.
    pub fn replace(entry: &Entry, value: Value) -> Self {
        Self {
            compares: vec![Compare::Unchanged(entry.key.clone(), entry.mod_revision)],
            ops: vec![Op::Put(entry.key.clone(), value)],
        }
    }

    /// Removes an entry that must not have changed since it was read.
    pub fn remove(entry: &Entry) -> Self {
        Self {
            compares: vec![Compare::Unchanged(entry.key.clone(), entry.mod_revision)],
            ops: vec![Op::Delete(entry.key.clone())],
        }
    }

    /// The conditions.
    pub fn compares(&self) -> &[Compare] {
        &self.compares
    }

    /// The changes.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// How many bytes of keys and values it carries.
    pub fn bytes(&self) -> usize {
        let compares: usize = self.compares.iter().map(Compare::bytes).sum();
        compares + self.ops.iter().map(Op::bytes).sum::<usize>()
    }
}

/// What became of a transaction that the store has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every compare held and everything is done, durably.
    Committed {
        /// The revision of the changes; of the store, if there were none to make.
        revision: Revision,
    },
    /// A compare did not hold, and nothing is done.
    Failed {
        /// The revision at which the compares were looked at.
        revision: Revision,
        /// What was found under the key of each compare, in their order.
        found: Vec<Option<Entry>>,
    },
}

/// A change that a watch tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The key was created or its value replaced.
    Put(Entry),
    /// The key was removed.
    Delete {
        /// The key.
        key: Key,
        /// The revision of the removal.
        revision: Revision,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// When it changed.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put(entry) => entry.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn limits_are_refused_where_a_value_is_made() {
        assert_eq!(Key::new(""), Err(LimitError::Key(0)));
        assert!(Key::new(vec![0; MAX_KEY_BYTES]).is_ok());
        assert_eq!(Key::new(vec![0; 513]), Err(LimitError::Key(513)));
        assert_eq!(Value::new(vec![0; 65537]), Err(LimitError::Value(65537)));
        assert_eq!(Prefix::new(vec![0; 513]), Err(LimitError::Key(513)));

        let puts = |count: usize, size: usize| {
            let put = |at: usize| Op::Put(key(&at.to_string()), Value::new(vec![0; size]).unwrap());
            Txn::new(vec![], (0..count).map(put).collect())
        };
        assert!(puts(MAX_TXN_OPS, 1).is_ok());
        assert_eq!(puts(MAX_TXN_OPS + 1, 1), Err(LimitError::Ops(MAX_TXN_OPS + 1)));
        assert!(matches!(puts(17, MAX_VALUE_BYTES), Err(LimitError::Bytes(_))));
        let twice = vec![Op::Delete(key("a")), Op::Delete(key("a"))];
        assert_eq!(Txn::new(vec![], twice), Err(LimitError::SameKeyTwice(key("a"))));
    }

    #[test]
    fn a_prefix_ends_before_the_next_key_that_does_not_begin_with_it() {
        assert_eq!(Prefix::new("a/").unwrap().end(), Some(b"a0".to_vec()));
        assert_eq!(Prefix::new([7, 255, 255]).unwrap().end(), Some(vec![8]));
        assert_eq!(Prefix::new([255, 255]).unwrap().end(), None);
        assert_eq!(Prefix::default().end(), None);
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_escaped() {
        assert_eq!(Key::new([b'a', 0, 255]).unwrap().to_string(), "a\\x00\\xff");
    }
}
