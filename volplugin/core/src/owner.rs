//! Who owns the folder that a container gets, and what others may do in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a mode: three octal digits are expected, as in 0755 or 700")]
pub struct ModeError(String);

/// The permissions of a folder, `000` to `777`.
///
/// Set-id and sticky bits are left out: `mkfs.xfs` cannot make a folder with the sticky bit, and a
/// container that wants them can set them on its own volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DirMode(u16);

impl DirMode {
    /// The permissions as the number `chmod` takes.
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }
}

impl Default for DirMode {
    fn default() -> Self {
        Self(0o755)
    }
}

impl FromStr for DirMode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        let malformed = || ModeError(text.chars().take(16).collect());
        let digits = if text.len() == 4 { text.strip_prefix('0') } else { Some(text) };
        let digits = digits.filter(|digits| digits.len() == 3).ok_or_else(malformed)?;
        if !digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
            return Err(malformed());
        }
        u16::from_str_radix(digits, 8).map(Self).map_err(|_| malformed())
    }
}

impl TryFrom<String> for DirMode {
    type Error = ModeError;

    fn try_from(text: String) -> Result<Self, ModeError> {
        text.parse()
    }
}

impl From<DirMode> for String {
    fn from(mode: DirMode) -> Self {
        mode.to_string()
    }
}

impl fmt::Display for DirMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0{:03o}", self.0)
    }
}

/// The owner and the permissions of the folder that a container gets; root's and 0755 by default.
///
/// With user-namespace remapping a container's root is another user on the host; Docker does not
/// tell a plugin which, so the volume's creator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RootOwner {
    /// The user, as the host numbers users.
    pub uid: u32,
    /// The group, as the host numbers groups.
    pub gid: u32,
    /// The permissions.
    pub mode: DirMode,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_octal_digits_with_or_without_a_zero() {
        for (text, shown) in [("755", "0755"), ("0700", "0700"), ("000", "0000")] {
            assert_eq!(text.parse::<DirMode>().unwrap().to_string(), shown);
        }
        for bad in ["", "7", "75", "1777", "7777", "788", "+75", "00755", "rwx", "0o7"] {
            assert!(bad.parse::<DirMode>().is_err(), "{bad:?}");
        }
    }
}
