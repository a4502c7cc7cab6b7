//! What came of a transaction that did not plainly succeed: undone, done otherwise than meant, or
//! not known.

use serde_json::Value;

/// Why the database refused an operation (RFC 7047 section 3.1 and 5.2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", if details.is_empty() { tag } else { details })]
pub struct Refusal {
    /// The kind.
    pub kind: RefusalKind,
    /// The server's short word for it.
    pub tag: String,
    /// The server's explanation.
    pub details: String,
}

/// The kinds of refusal that a caller can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// A guard does not hold: somebody else was faster, or what was expected never was.
    Guard,
    /// A name is taken, or a value is out of its column's range.
    Constraint,
    /// A row refers to one that does not exist.
    Reference,
    /// Anything else.
    Other,
}

impl Refusal {
    pub(crate) fn read(result: &Value) -> Self {
        let text = |key| result.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let tag = text("error");
        let kind = match tag.as_str() {
            "timed out" => RefusalKind::Guard,
            "constraint violation" => RefusalKind::Constraint,
            "referential integrity violation" => RefusalKind::Reference,
            _ => RefusalKind::Other,
        };
        Self { kind, tag, details: text("details") }
    }
}

/// Why it is not known whether a transaction was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The connection broke before the answer.
    Connection,
    /// The deadline passed before the answer.
    Deadline,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connection => "the connection broke before the answer came",
            Self::Deadline => "no answer came in time",
        })
    }
}

/// What came of a transaction that did not plainly succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransactError {
    /// Undone: it was never sent, since there was no connection within the deadline.
    #[error("the OVS database did not answer in time; is ovsdb-server running?")]
    NotSent,
    /// **Unknown**: it was sent and may have been carried out. Look before deciding.
    #[error("the OVS database may or may not have made the change: {0}")]
    Unknown(Lost),
    /// Undone: an operation was refused.
    #[error("the OVS database refused operation {index}")]
    Operation {
        /// Which one, from 0.
        index: usize,
        /// Why.
        #[source]
        refusal: Refusal,
    },
    /// Undone: the operations were fine, their result was not.
    #[error("the OVS database refused the change as a whole")]
    Commit {
        /// Why.
        #[source]
        refusal: Refusal,
    },
    /// Undone: the server refused the call itself.
    #[error("the OVS database refused the call: {0}")]
    Call(String),
    /// **Done**, but an operation touched another number of rows than it must.
    #[error("operation {index} touched {touched:?} rows of the OVS database, not {expected}")]
    Count {
        /// Which one, from 0.
        index: usize,
        /// How many it should have.
        expected: u64,
        /// How many it did.
        touched: Option<u64>,
    },
    /// **Unknown**: the answer cannot be understood.
    #[error("the OVS database's answer is {0}")]
    Answer(&'static str),
}

impl TransactError {
    /// Whether the transaction may have been carried out, in part or otherwise than meant: look.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Answer(_) | Self::Count { .. })
    }

    /// What the database refused, if that is what happened.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Operation { refusal, .. } | Self::Commit { refusal } => Some(refusal),
            _ => None,
        }
    }
}
