//! Where things stand in the store.
//!
//! | key | value |
//! |---|---|
//! | `ipam/layout` | the number of this layout |
//! | `ipam/space/<space>` | nothing: it changes whenever a pool of the space comes or goes |
//! | `ipam/pool/<space>/<subnet>` | a [`PoolRecord`](crate::PoolRecord) |
//! | `ipam/address/<space>/<subnet>/<address>` | an [`AddressRecord`](crate::AddressRecord) |

use std::fmt;
use std::net::IpAddr;

use dockline_types::PoolCidr;

use crate::{PoolKey, SpaceName, Subnet};

/// What all keys begin with.
pub const ROOT: &str = "ipam/";

/// The number of this layout. A store with a higher one belongs to a newer version.
pub const LAYOUT: u32 = 1;

/// What a key is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The number of the layout.
    Layout,
    /// The guard of a space's pools: who adds or removes one compares it and puts it anew, so that
    /// two who add overlapping pools at once cannot both succeed.
    Space(SpaceName),
    /// A pool.
    Pool(PoolKey),
    /// An address that is held.
    Address(PoolKey, IpAddr),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ROOT)?;
        match self {
            Self::Layout => f.write_str("layout"),
            Self::Space(space) => write!(f, "space/{space}"),
            Self::Pool(pool) => write!(f, "pool/{pool}"),
            Self::Address(pool, address) => write!(f, "address/{pool}/{address}"),
        }
    }
}

impl Place {
    /// What the keys of a pool's addresses begin with.
    pub fn addresses_of(pool: &PoolKey) -> String {
        format!("{ROOT}address/{pool}/")
    }

    /// Reads a key; `None` if it is not one of ours, which is left alone.
    pub fn read(key: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(key).ok()?;
        let place = Self::parse(text.strip_prefix(ROOT)?)?;
        // Only the spelling that we write.
        (place.to_string() == text).then_some(place)
    }

    fn parse(rest: &str) -> Option<Self> {
        let pool = |space: &str, network: &str, prefix: &str| {
            let cidr: PoolCidr = format!("{network}/{prefix}").parse().ok()?;
            Some(PoolKey { space: space.parse().ok()?, subnet: Subnet::try_from(cidr).ok()? })
        };
        let parts: Vec<&str> = rest.splitn(6, '/').collect();
        match parts[..] {
            ["layout"] => Some(Self::Layout),
            ["space", space] => Some(Self::Space(space.parse().ok()?)),
            ["pool", space, network, prefix] => Some(Self::Pool(pool(space, network, prefix)?)),
            ["address", space, network, prefix, address] => {
                let pool = pool(space, network, prefix)?;
                let address = address.parse().ok()?;
                pool.subnet.check_address(address).ok()?;
                Some(Self::Address(pool, address))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_as_they_were_written() {
        let good = [
            "ipam/layout",
            "ipam/space/prod",
            "ipam/pool/prod/10.0.0.0/8",
            "ipam/pool/prod/fd00::/64",
            "ipam/address/prod/10.0.0.0/8/10.1.2.3",
            "ipam/address/prod/fd00::/64/fd00::3",
        ];
        for key in good {
            let place = Place::read(key.as_bytes()).unwrap();
            assert_eq!(place.to_string(), key);
            if let Place::Address(pool, _) = place {
                assert!(key.starts_with(&Place::addresses_of(&pool)));
            }
        }
    }

    #[test]
    fn foreign_keys_are_not_taken_for_ours() {
        let bad = [
            "",
            "ipam",
            "ipam/",
            "ipam/other",
            "ipam/layout/x",
            "net/layout",
            "ipam/space/",
            "ipam/space/a/b",
            "ipam/pool/prod/10.0.0.1/8",
            "ipam/pool/prod/10.0.0.0/8/",
            "ipam/address/prod/10.0.0.0/8/11.0.0.1",
            "ipam/address/prod/10.0.0.0/8/10.0.0.0",
            "ipam/address/prod/fd00::/64/FD00::3",
            "ipam/address/prod/fd00::/64/fd00::0:3",
            "ipam/address/prod/10.0.0.0/8/10.1.2.3/4",
        ];
        for key in bad {
            assert_eq!(Place::read(key.as_bytes()), None, "{key:?}");
        }
        assert_eq!(Place::read(b"ipam/space/\xff"), None);
    }
}
