//! Names of volumes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a volume's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeNameError {
    /// Docker's retry of a request carries no name.
    #[error("the volume name is empty")]
    Empty,
    /// Longer than [`VolumeName::LONGEST`].
    #[error("the volume name has {0} bytes: at most {longest} are allowed", longest = VolumeName::LONGEST)]
    TooLong(usize),
    /// Starts with a dot, a dash or an underscore.
    #[error("volume name {0:?}: the first character must be one of A-Z a-z 0-9")]
    First(String),
    /// Contains what is not allowed, a slash or a control character for instance.
    #[error("volume name {name:?}: {bad:?} is not allowed, only A-Z a-z 0-9 _ . -")]
    Character {
        /// The name.
        name: String,
        /// The first character that is not allowed.
        bad: char,
    },
}

/// The name of a volume: 1 to 200 of `A-Z a-z 0-9 _ . -`, beginning with a letter or a digit.
///
/// Docker does not check the names of plugins' volumes. These rules make a name one component of
/// a path, never `.` or `..`, and leave room for a suffix within the 255 bytes of a file's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

impl VolumeName {
    /// The longest name, in bytes.
    pub const LONGEST: usize = 200;

    /// The name as Docker knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = VolumeNameError;

    fn from_str(text: &str) -> Result<Self, VolumeNameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if text.len() > Self::LONGEST {
            return Err(VolumeNameError::TooLong(text.len()));
        }
        if let Some(bad) = text.chars().find(|&c| !allowed(c)) {
            return Err(VolumeNameError::Character { name: text.to_owned(), bad });
        }
        match text.chars().next() {
            None => Err(VolumeNameError::Empty),
            Some(first) if first.is_ascii_alphanumeric() => Ok(Self(text.to_owned())),
            Some(_) => Err(VolumeNameError::First(text.to_owned())),
        }
    }
}

impl TryFrom<String> for VolumeName {
    type Error = VolumeNameError;

    fn try_from(text: String) -> Result<Self, VolumeNameError> {
        text.parse()
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_docker_makes_are_names() {
        let anonymous = "0123456789abcdef".repeat(4);
        for name in ["data1", "proj_vol", "A.b-c_d", "0", &anonymous, &"a".repeat(200)] {
            assert_eq!(name.parse::<VolumeName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn each_refusal_names_its_rule() {
        for (bad, text) in [
            ("", "the volume name is empty"),
            ("..", "volume name \"..\": the first character must be one of A-Z a-z 0-9"),
            ("-rf", "volume name \"-rf\": the first character must be one of A-Z a-z 0-9"),
            ("a/b", "volume name \"a/b\": '/' is not allowed, only A-Z a-z 0-9 _ . -"),
            ("a\nb", "volume name \"a\\nb\": '\\n' is not allowed, only A-Z a-z 0-9 _ . -"),
            ("é", "volume name \"é\": 'é' is not allowed, only A-Z a-z 0-9 _ . -"),
        ] {
            assert_eq!(bad.parse::<VolumeName>().unwrap_err().to_string(), text);
        }
        let long = "a".repeat(300).parse::<VolumeName>().unwrap_err();
        assert_eq!(long.to_string(), "the volume name has 300 bytes: at most 200 are allowed");
    }

    proptest! {
        #[test]
        fn a_name_is_one_plain_component_of_a_path(text in "\\PC{0,12}|[a-z./_-]{1,6}") {
            if let Ok(name) = text.parse::<VolumeName>() {
                let path = std::path::Path::new("/r").join(name.as_str());
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("/r")));
                prop_assert_eq!(path.file_name().and_then(|n| n.to_str()), Some(name.as_str()));
            }
        }
    }
}
