//! Names of network interfaces.

use std::fmt;
use std::str::FromStr;

/// Why a text is not an interface name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an interface name: 1 to 15 of A-Z a-z 0-9 _ . - are expected, and not . or .."
)]
pub struct IfNameError(String);

/// The name of a network interface: at most 15 bytes (the kernel's `IFNAMSIZ` less its final NUL).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IfName(String);

impl IfName {
    /// The kernel's limit in bytes.
    pub const LONGEST: usize = 15;

    /// The name as the kernel has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = IfNameError;

    fn from_str(text: &str) -> Result<Self, IfNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let fits = (1..=Self::LONGEST).contains(&text.len());
        if fits && text.bytes().all(allowed) && text != "." && text != ".." {
            Ok(Self(text.to_owned()))
        } else {
            Err(IfNameError(text.chars().take(Self::LONGEST + 1).collect()))
        }
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::serde_as_text!(IfName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_limit_holds() {
        assert!("a23456789012345".parse::<IfName>().is_ok());
        for bad in ["", "a234567890123456", "a/b", "a b", ".", ".."] {
            assert!(bad.parse::<IfName>().is_err(), "{bad:?}");
        }
    }
}
