//! VLAN ids.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a VLAN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a VLAN: a number from 1 to 4094 is expected (0 and 4095 are reserved)")]
pub struct VlanError(String);

/// An IEEE 802.1Q VLAN id, 1 to 4094.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VlanId(u16);

impl VlanId {
    /// The id as a number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for VlanId {
    type Error = VlanError;

    fn try_from(number: u16) -> Result<Self, VlanError> {
        if (1..=4094).contains(&number) {
            Ok(Self(number))
        } else {
            Err(VlanError(number.to_string()))
        }
    }
}

impl FromStr for VlanId {
    type Err = VlanError;

    fn from_str(text: &str) -> Result<Self, VlanError> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse::<u16>().ok() } else { None };
        number
            .and_then(|number| Self::try_from(number).ok())
            .ok_or_else(|| VlanError(text.chars().take(32).collect()))
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

crate::serde_as_text!(VlanId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserved_ids_and_garbage_are_refused() {
        assert_eq!("1".parse::<VlanId>().unwrap().get(), 1);
        assert_eq!("4094".parse::<VlanId>().unwrap().get(), 4094);
        for bad in ["0", "4095", "abc", "", "-1", "+1", "1.0", " 1", "70000", "99999999999"] {
            assert!(bad.parse::<VlanId>().is_err(), "{bad:?}");
        }
    }
}
