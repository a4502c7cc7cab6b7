//! OVSDB's values (RFC 7047 section 5.1): atoms, sets, maps and UUIDs, read into Rust types and
//! written from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

/// A value that is not what its column holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {got}")]
pub struct ValueError {
    expected: &'static str,
    got: String,
}

impl ValueError {
    pub(crate) fn new(expected: &'static str, got: &Value) -> Self {
        let mut got = got.to_string();
        if let Some((end, _)) = got.char_indices().nth(80) {
            got.truncate(end);
        }
        Self { expected, got }
    }
}

/// The identity of a row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid(u128);

impl FromStr for Uuid {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::new("a UUID", &Value::from(text));
        let groups: Vec<&str> = text.split('-').collect();
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        if lengths != [8, 4, 4, 4, 12] || !text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
        {
            return Err(wrong());
        }
        u128::from_str_radix(&groups.concat(), 16).map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value to write into a column, well-formed by construction.
#[derive(Debug, Clone, PartialEq)]
pub struct Datum(Value);

impl Datum {
    /// The empty set: an optional column without a value, or a set or map without elements.
    pub fn none() -> Self {
        Self(json!(["set", []]))
    }

    /// A set of values.
    pub fn set<T: Into<Self>>(elements: impl IntoIterator<Item = T>) -> Self {
        let elements: Vec<Value> = elements.into_iter().map(|element| element.into().0).collect();
        Self(json!(["set", elements]))
    }

    /// A map of text to text.
    pub fn map<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let pairs: Vec<Value> =
            pairs.into_iter().map(|(key, value)| json!([key.as_ref(), value.as_ref()])).collect();
        Self(json!(["map", pairs]))
    }

    /// The row that an insert of the same transaction makes under this name.
    pub fn new_row(name: &str) -> Self {
        Self(json!(["named-uuid", name]))
    }

    pub(crate) fn into_json(self) -> Value {
        self.0
    }
}

impl From<&str> for Datum {
    fn from(text: &str) -> Self {
        Self(Value::from(text))
    }
}

impl From<String> for Datum {
    fn from(text: String) -> Self {
        Self(Value::from(text))
    }
}

impl From<i64> for Datum {
    fn from(number: i64) -> Self {
        Self(Value::from(number))
    }
}

impl From<bool> for Datum {
    fn from(truth: bool) -> Self {
        Self(Value::from(truth))
    }
}

impl From<Uuid> for Datum {
    fn from(uuid: Uuid) -> Self {
        Self(json!(["uuid", uuid.to_string()]))
    }
}

impl<T: Into<Self>> From<Option<T>> for Datum {
    fn from(value: Option<T>) -> Self {
        value.map_or_else(Self::none, Into::into)
    }
}

/// A single value of a column.
pub(crate) trait Atom: Sized {
    fn read(json: &Value) -> Result<Self, ValueError>;
}

impl Atom for String {
    fn read(json: &Value) -> Result<Self, ValueError> {
        json.as_str().map(str::to_owned).ok_or_else(|| ValueError::new("a string", json))
    }
}

impl Atom for i64 {
    fn read(json: &Value) -> Result<Self, ValueError> {
        json.as_i64().ok_or_else(|| ValueError::new("an integer", json))
    }
}

impl Atom for Uuid {
    fn read(json: &Value) -> Result<Self, ValueError> {
        match tagged(json, "uuid") {
            Some(Value::String(text)) => text.parse(),
            _ => Err(ValueError::new("a UUID", json)),
        }
    }
}

/// `["tag", X]` to X.
fn tagged<'a>(json: &'a Value, tag: &str) -> Option<&'a Value> {
    match json.as_array()?.as_slice() {
        [Value::String(first), second] if first == tag => Some(second),
        _ => None,
    }
}

/// The elements of a set; a set of one element may be written as the element alone.
fn elements(json: &Value) -> Result<&[Value], ValueError> {
    match tagged(json, "set") {
        Some(Value::Array(elements)) => Ok(elements),
        Some(_) => Err(ValueError::new("a set", json)),
        None => Ok(std::slice::from_ref(json)),
    }
}

fn pairs<K: Atom, V: Atom>(json: &Value) -> Result<Vec<(K, V)>, ValueError> {
    let wrong = || ValueError::new("a map", json);
    let Some(Value::Array(pairs)) = tagged(json, "map") else { return Err(wrong()) };
    pairs
        .iter()
        .map(|pair| match pair.as_array().map(Vec::as_slice) {
            Some([key, value]) => Ok((K::read(key)?, V::read(value)?)),
            _ => Err(wrong()),
        })
        .collect()
}

/// A column of a row in memory.
pub(crate) trait Column {
    /// Takes the column's new value.
    fn assign(&mut self, json: &Value) -> Result<(), ValueError>;

    /// Takes what `update2` and `update3` send for a changed column: the new value where the column
    /// holds at most one, otherwise what is to be added, removed or replaced
    /// (ovsdb-server(7), "Update2 Notification").
    fn alter(&mut self, json: &Value) -> Result<(), ValueError> {
        self.assign(json)
    }
}

macro_rules! scalar {
    ($($type:ty),*) => {$(
        impl Column for $type {
            fn assign(&mut self, json: &Value) -> Result<(), ValueError> {
                *self = Atom::read(json)?;
                Ok(())
            }
        }
    )*};
}
scalar!(String, i64);

impl<T: Atom> Column for Option<T> {
    fn assign(&mut self, json: &Value) -> Result<(), ValueError> {
        *self = match elements(json)? {
            [] => None,
            [one] => Some(T::read(one)?),
            _ => return Err(ValueError::new("at most one value", json)),
        };
        Ok(())
    }
}

impl<T: Atom + Ord> Column for BTreeSet<T> {
    fn assign(&mut self, json: &Value) -> Result<(), ValueError> {
        *self = elements(json)?.iter().map(T::read).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn alter(&mut self, json: &Value) -> Result<(), ValueError> {
        for element in elements(json)? {
            let element = T::read(element)?;
            if !self.remove(&element) {
                self.insert(element);
            }
        }
        Ok(())
    }
}

impl<K: Atom + Ord, V: Atom + PartialEq> Column for BTreeMap<K, V> {
    fn assign(&mut self, json: &Value) -> Result<(), ValueError> {
        *self = pairs(json)?.into_iter().collect();
        Ok(())
    }

    fn alter(&mut self, json: &Value) -> Result<(), ValueError> {
        for (key, value) in pairs(json)? {
            if self.get(&key) == Some(&value) {
                self.remove(&key);
            } else {
                self.insert(key, value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn uuids_are_read_strictly() {
        let text = "0f2b4c6e-1111-2222-3333-0123456789ab";
        assert_eq!(text.parse::<Uuid>().unwrap().to_string(), text);
        for bad in ["", "0f2b4c6e", "+f2b4c6e-1111-2222-3333-0123456789ab", "é", &text[1..]] {
            assert!(bad.parse::<Uuid>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn columns_take_all_spellings_and_refuse_other_types() {
        let mut tag = Some(7_i64);
        tag.assign(&json!(["set", []])).unwrap();
        assert_eq!(tag, None);
        tag.assign(&json!(100)).unwrap();
        assert_eq!(tag, Some(100));
        assert!(tag.assign(&json!(["set", [1, 2]])).is_err());
        assert!(tag.assign(&json!("7")).is_err());

        let mut trunks = BTreeSet::from([1_i64]);
        trunks.assign(&json!(10)).unwrap();
        assert_eq!(trunks, BTreeSet::from([10]));
        assert!(trunks.assign(&json!(["set", 3])).is_err());

        let mut ids = BTreeMap::<String, String>::new();
        ids.assign(&json!(["map", [["a", "1"]]])).unwrap();
        assert!(ids.assign(&json!(["map", [["a"]]])).is_err());
        assert!(ids.assign(&json!(["set", []])).is_err());
        let error = ids.assign(&Value::from("x".repeat(500))).unwrap_err();
        assert!(error.to_string().len() < 150, "{error}");
    }

    proptest! {
        /// What the server sends is the symmetric difference of old and new (for maps with the new
        /// value of a changed key): applying it to old gives new.
        #[test]
        fn differences_lead_from_old_to_new(
            old in prop::collection::btree_map("[a-d]", "[xy]", 0..4),
            new in prop::collection::btree_map("[a-d]", "[xy]", 0..4),
        ) {
            let mut sent: BTreeMap<_, _> = new.clone();
            sent.retain(|key, value| old.get(key) != Some(value));
            sent.extend(old.clone().into_iter().filter(|(key, _)| !new.contains_key(key)));
            let mut column = old.clone();
            column.alter(&Datum::map(&sent).into_json()).unwrap();
            prop_assert_eq!(&column, &new);

            let (old, new): (BTreeSet<_>, BTreeSet<_>) =
                (old.into_keys().collect(), new.into_keys().collect());
            let sent = Datum::set(old.symmetric_difference(&new).map(String::as_str)).into_json();
            let mut column = old;
            column.alter(&sent).unwrap();
            prop_assert_eq!(column, new);
        }
    }
}
