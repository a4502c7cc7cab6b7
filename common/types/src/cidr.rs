//! Address ranges.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// Why a text is not an address range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not `address/prefix`.
    #[error("{0:?} is not a subnet: an address and a prefix length, as in 10.100.0.0/24")]
    Malformed(String),
    /// Bits are set beyond the prefix.
    #[error("{given} has host bits set: did you mean {canonical}?")]
    HostBits {
        /// What was written.
        given: IpNet,
        /// The range it lies in.
        canonical: IpNet,
    },
}

/// A range of addresses in canonical form: no bits beyond the prefix, no leading zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolCidr(IpNet);

impl PoolCidr {
    /// The range as a network.
    pub fn net(self) -> IpNet {
        self.0
    }

    /// Whether `address` is in the range.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether every address of `other` is in this range.
    pub fn covers(self, other: PoolCidr) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether the ranges share an address. Two prefixes do only if one holds the other.
    pub fn overlaps(self, other: PoolCidr) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl TryFrom<IpNet> for PoolCidr {
    type Error = CidrError;

    fn try_from(given: IpNet) -> Result<Self, CidrError> {
        let canonical = given.trunc();
        if given == canonical {
            Ok(Self(given))
        } else {
            Err(CidrError::HostBits { given, canonical })
        }
    }
}

impl FromStr for PoolCidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let malformed = || CidrError::Malformed(text.chars().take(64).collect());
        // The standard parser of addresses is strict about leading zeros, which ipnet's is not.
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let digits = (1..=3).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix: u8 = if digits { prefix.parse().ok() } else { None }.ok_or_else(malformed)?;
        IpNet::new(address, prefix).map_err(|_| malformed())?.try_into()
    }
}

impl fmt::Display for PoolCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

crate::serde_as_text!(PoolCidr);

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(text: &str) -> PoolCidr {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_canonical_form_is_taken() {
        assert_eq!(pool("10.100.0.0/24").to_string(), "10.100.0.0/24");
        assert_eq!(pool("2001:DB8::/64").to_string(), "2001:db8::/64");
        for bad in
            ["", "10.100.0.0", "010.0.0.0/8", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0/8", "::/129"]
        {
            assert!(matches!(bad.parse::<PoolCidr>(), Err(CidrError::Malformed(_))), "{bad:?}");
        }
        let refused = "10.100.0.5/24".parse::<PoolCidr>().unwrap_err().to_string();
        assert_eq!(refused, "10.100.0.5/24 has host bits set: did you mean 10.100.0.0/24?");
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        assert!(pool("10.0.0.0/8").overlaps(pool("10.1.0.0/16")));
        assert!(pool("10.1.0.0/16").overlaps(pool("10.0.0.0/8")));
        assert!(!pool("10.0.0.0/16").overlaps(pool("10.1.0.0/16")));
        assert!(!pool("0.0.0.0/0").overlaps(pool("::/0")));
        assert!(pool("10.0.0.0/8").covers(pool("10.1.0.0/16")));
        assert!(!pool("10.1.0.0/16").covers(pool("10.0.0.0/8")));
    }
}
