//! Where a volume's room comes from: how it is allotted, and from which class of disks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a volume gets its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// From a pool, as it is written to: volumes may be promised more than there is.
    Thin,
    /// All of it at once.
    Thick,
}

impl Layout {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Thin, Self::Thick];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Thin => "thin",
            Self::Thick => "thick",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layout {
    type Err = ();

    /// Fails for all but the exact names; the caller says which are allowed.
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|layout| layout.name() == text).ok_or(())
    }
}

/// Why a text is not a class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a class: 1 to 32 of a-z 0-9 - are expected, as in ssd")]
pub struct ClassError(String);

/// A class of volume groups, as the configuration names it: 1 to 32 of `a-z 0-9 -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Class(String);

impl FromStr for Class {
    type Err = ClassError;

    fn from_str(text: &str) -> Result<Self, ClassError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=32).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ClassError(text.chars().take(40).collect()))
        }
    }
}

impl TryFrom<String> for Class {
    type Error = ClassError;

    fn try_from(text: String) -> Result<Self, ClassError> {
        text.parse()
    }
}

impl From<Class> for String {
    fn from(class: Class) -> Self {
        class.0
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
