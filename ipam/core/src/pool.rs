//! Pools: what may be one, what they are called, and which of their addresses can be used.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use dockline_types::{CidrError, PoolCidr};
use ipnet::IpNet;

use crate::names::{NameError, SpaceName};

/// The shortest prefix of an IPv4 pool: the whole of 10.0.0.0/8.
const SHORTEST_V4: u8 = 8;

/// The shortest prefix of an IPv6 pool: more than any site has.
const SHORTEST_V6: u8 = 16;

/// Why a range cannot be a pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Larger than is supported.
    #[error("the subnet {0} is too large: the prefix must be at least /8 for IPv4, /16 for IPv6")]
    TooLarge(PoolCidr),
    /// No host can have an address of it.
    #[error("the subnet {0} is for multicast, loopback or no host at all: choose another")]
    NotUnicast(PoolCidr),
    /// The sub-range is not within the subnet.
    #[error("the range {range} is not within the subnet {pool}: name a part of the subnet")]
    RangeOutside {
        /// `--ip-range`.
        range: PoolCidr,
        /// `--subnet`.
        pool: PoolCidr,
    },
    /// It shares addresses with another pool of the space.
    #[error(
        "the subnet {wanted} overlaps {existing}, which is in use in the address space {space}: \
         use {existing} itself, a subnet beside it, or another space (--ipam-opt space=NAME)"
    )]
    Overlap {
        /// What was asked for.
        wanted: PoolCidr,
        /// The pool that is there.
        existing: PoolCidr,
        /// The space of both.
        space: SpaceName,
    },
}

/// Why an address of a pool cannot be given to anyone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// An IPv4 address of an IPv6 pool, or the other way round.
    #[error("the address {address} is not of the same family as the subnet {pool}")]
    WrongFamily {
        /// What was asked for.
        address: IpAddr,
        /// The pool.
        pool: PoolCidr,
    },
    /// Not of the pool.
    #[error("the address {address} is not in the subnet {pool}: choose one of {first} to {last}")]
    Outside {
        /// What was asked for.
        address: IpAddr,
        /// The pool.
        pool: PoolCidr,
        /// The first address that can be used.
        first: IpAddr,
        /// The last address that can be used.
        last: IpAddr,
    },
    /// The network's own address, or its broadcast address.
    #[error(
        "the address {address} is the {what} of the subnet {pool}: choose one of {first} to {last}"
    )]
    Reserved {
        /// What was asked for.
        address: IpAddr,
        /// What it is.
        what: &'static str,
        /// The pool.
        pool: PoolCidr,
        /// The first address that can be used.
        first: IpAddr,
        /// The last address that can be used.
        last: IpAddr,
    },
}

/// A pool's subnet: a range that has been found fit to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subnet(PoolCidr);

impl TryFrom<PoolCidr> for Subnet {
    type Error = PoolError;

    fn try_from(cidr: PoolCidr) -> Result<Self, PoolError> {
        let (shortest, special) = match cidr.net() {
            IpNet::V4(net) => {
                let first = net.network();
                (
                    SHORTEST_V4,
                    first.octets()[0] >= 224 || first.is_loopback() || first.octets()[0] == 0,
                )
            }
            IpNet::V6(net) => {
                let first = net.network();
                // What begins with zeros is loopback, unspecified, or IPv4 in disguise.
                (SHORTEST_V6, first.is_multicast() || first.segments()[0] == 0)
            }
        };
        if cidr.net().prefix_len() < shortest {
            Err(PoolError::TooLarge(cidr))
        } else if special {
            Err(PoolError::NotUnicast(cidr))
        } else {
            Ok(Self(cidr))
        }
    }
}

/// An address as a number.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Subnet {
    /// Its range of addresses.
    pub fn cidr(self) -> PoolCidr {
        self.0
    }

    /// An address with the subnet's prefix length.
    pub fn with_prefix(self, address: IpAddr) -> IpNet {
        let prefix = self.0.net().prefix_len();
        // Of the same family, of which the prefix length is within bounds.
        IpNet::new(address, prefix).unwrap_or_else(|_| address.into())
    }

    /// Checks that `range` is a part of the subnet.
    pub fn check_range(self, range: PoolCidr) -> Result<(), PoolError> {
        if self.0.covers(range) {
            Ok(())
        } else {
            Err(PoolError::RangeOutside { range, pool: self.0 })
        }
    }

    /// How many bits of an address are not of the prefix.
    fn host_bits(self) -> u8 {
        self.0.net().max_prefix_len() - self.0.net().prefix_len()
    }

    /// The first and the last address that can be used, as offsets.
    ///
    /// An IPv4 subnet loses its first address (the network) and its last (broadcast) unless it is
    /// a /31 (RFC 3021) or /32; an IPv6 subnet loses its first, which is every router's (RFC 4291
    /// 2.6.1), unless it is a /127 (RFC 6164) or /128.
    pub(crate) fn usable(self) -> (u128, u128) {
        let last = (1 << self.host_bits()) - 1;
        match (self.0.net(), self.host_bits()) {
            (_, 0 | 1) => (0, last),
            (IpNet::V4(_), _) => (1, last - 1),
            (IpNet::V6(_), _) => (1, last),
        }
    }

    /// The usable part of a range of the subnet, or of all of it, as offsets; the first is beyond
    /// the last if nothing of the range is usable.
    pub(crate) fn usable_in(self, range: Option<PoolCidr>) -> (u128, u128) {
        let (first, last) = self.usable();
        let Some(range) = range else { return (first, last) };
        let base = number(self.0.net().network());
        let from = number(range.net().network()).saturating_sub(base);
        let to = number(range.net().broadcast()).saturating_sub(base);
        (first.max(from), last.min(to))
    }

    /// The address at an offset.
    pub(crate) fn at(self, offset: u128) -> IpAddr {
        match self.0.net() {
            IpNet::V4(net) => {
                // An offset is below 2^24.
                let offset = u32::try_from(offset).unwrap_or(u32::MAX);
                Ipv4Addr::from_bits(net.network().to_bits().saturating_add(offset)).into()
            }
            IpNet::V6(net) => {
                Ipv6Addr::from_bits(net.network().to_bits().saturating_add(offset)).into()
            }
        }
    }

    /// The offset of an address, if it is in the subnet.
    pub(crate) fn offset(self, address: IpAddr) -> Option<u128> {
        self.0.contains(address).then(|| number(address) - number(self.0.net().network()))
    }

    /// Checks that somebody may have `address`.
    pub fn check_address(self, address: IpAddr) -> Result<(), AddressError> {
        let pool = self.0;
        let family = |net: IpNet| matches!(net, IpNet::V4(_));
        if address.is_ipv4() != family(pool.net()) {
            return Err(AddressError::WrongFamily { address, pool });
        }
        let usable = self.usable();
        let (first, last) = (self.at(usable.0), self.at(usable.1));
        let Some(offset) = self.offset(address) else {
            return Err(AddressError::Outside { address, pool, first, last });
        };
        let what = match (offset < usable.0, address) {
            _ if (usable.0..=usable.1).contains(&offset) => return Ok(()),
            (true, IpAddr::V4(_)) => "network address",
            (true, IpAddr::V6(_)) => "address of all routers",
            (false, _) => "broadcast address",
        };
        Err(AddressError::Reserved { address, what, pool, first, last })
    }
}

/// Checks a new pool against the pools of its space. A pool that is there already is no overlap.
pub fn check_overlap(
    space: &SpaceName,
    wanted: Subnet,
    existing: impl IntoIterator<Item = PoolCidr>,
) -> Result<(), PoolError> {
    let wanted = wanted.cidr();
    match existing.into_iter().find(|pool| *pool != wanted && pool.overlaps(wanted)) {
        None => Ok(()),
        Some(existing) => Err(PoolError::Overlap { wanted, existing, space: space.clone() }),
    }
}

/// Which pool: a subnet in an address space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    /// The space.
    pub space: SpaceName,
    /// The subnet.
    pub subnet: Subnet,
}

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.space, self.subnet.cidr())
    }
}

/// Why a text is not the id of a pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolIdError {
    /// Not of the form of an id.
    #[error("{0:?} is not the id of a pool: space/subnet or space/subnet/range is expected")]
    Malformed(String),
    /// The space has an impossible name.
    #[error("not the id of a pool")]
    Space(#[from] NameError),
    /// The subnet or range is not one.
    #[error("not the id of a pool")]
    Cidr(#[from] CidrError),
    /// The subnet or range cannot be a pool's.
    #[error("not the id of a pool")]
    Pool(#[from] PoolError),
}

/// What Docker calls a pool by: the pool and the range in it that addresses are chosen from.
///
/// Its text is `space/subnet` or `space/subnet/range`, as in `dockline/10.1.0.0/16/10.1.4.0/22`.
/// It holds all there is to know, on every host and after every restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId {
    key: PoolKey,
    range: Option<PoolCidr>,
}

impl PoolId {
    /// The id of a pool with a range of it, if the range is within.
    pub fn new(key: PoolKey, range: Option<PoolCidr>) -> Result<Self, PoolError> {
        range.map_or(Ok(()), |range| key.subnet.check_range(range))?;
        Ok(Self { key, range })
    }

    /// The pool.
    pub fn key(&self) -> &PoolKey {
        &self.key
    }

    /// The range that addresses are chosen from; all of the pool without one.
    pub fn range(&self) -> Option<PoolCidr> {
        self.range
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)?;
        self.range.map_or(Ok(()), |range| write!(f, "/{range}"))
    }
}

impl FromStr for PoolId {
    type Err = PoolIdError;

    fn from_str(text: &str) -> Result<Self, PoolIdError> {
        let malformed = || PoolIdError::Malformed(text.chars().take(160).collect());
        let parts: Vec<&str> = text.splitn(6, '/').collect();
        let (space, subnet, range) = match parts[..] {
            [space, address, prefix] => (space, format!("{address}/{prefix}"), None),
            [space, address, prefix, first, length] => {
                (space, format!("{address}/{prefix}"), Some(format!("{first}/{length}")))
            }
            _ => return Err(malformed()),
        };
        let subnet = Subnet::try_from(subnet.parse::<PoolCidr>()?)?;
        let range = range.map(|range| range.parse::<PoolCidr>()).transpose()?;
        let id = Self::new(PoolKey { space: space.parse()?, subnet }, range)?;
        // One pool, one spelling: what Docker stored is compared as text.
        if id.to_string() == text { Ok(id) } else { Err(malformed()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse::<PoolCidr>().unwrap().try_into().unwrap()
    }

    fn cidr() -> impl Strategy<Value = PoolCidr> {
        let v4 = (0x0a00_0000..0xdfff_ffffu32, 8..=32u8)
            .prop_map(|(bits, prefix)| (IpAddr::from(Ipv4Addr::from_bits(bits)), prefix));
        let v6 = (0x2000_u128 << 112..0xfe00_u128 << 112, 16..=128u8)
            .prop_map(|(bits, prefix)| (IpAddr::from(Ipv6Addr::from_bits(bits)), prefix));
        prop_oneof![v4, v6].prop_map(|(address, prefix)| {
            IpNet::new(address, prefix).unwrap().trunc().try_into().unwrap()
        })
    }

    fn id() -> impl Strategy<Value = PoolId> {
        ("[a-zA-Z0-9_-]{1,32}", cidr(), 0..=4u8, any::<bool>()).prop_filter_map(
            "127.0.0.0/8 is no pool",
            |(space, cidr, longer, ranged)| {
                let subnet = Subnet::try_from(cidr).ok()?;
                let prefix = (cidr.net().prefix_len() + longer).min(cidr.net().max_prefix_len());
                let range = IpNet::new(cidr.net().broadcast(), prefix).ok()?.trunc();
                let range = ranged.then(|| range.try_into().ok()).flatten();
                PoolId::new(PoolKey { space: space.parse().ok()?, subnet }, range).ok()
            },
        )
    }

    proptest! {
        #[test]
        fn an_id_is_read_back_as_it_was_written(id in id()) {
            prop_assert_eq!(id.to_string().parse::<PoolId>(), Ok(id));
        }

        #[test]
        fn no_text_panics_and_what_is_taken_has_one_spelling(text in "[a-f0-9:./]{0,60}|\\PC{0,40}") {
            if let Ok(id) = text.parse::<PoolId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn addresses_and_offsets_are_each_others_inverse(cidr in cidr(), seed: u128) {
            let Ok(subnet) = Subnet::try_from(cidr) else { return Ok(()) };
            let (first, last) = subnet.usable();
            for offset in [first, last, first + seed % (last - first + 1)] {
                let address = subnet.at(offset);
                prop_assert_eq!(subnet.offset(address), Some(offset));
                prop_assert_eq!(subnet.check_address(address), Ok(()));
            }
        }
    }

    #[test]
    fn ids_that_are_not_ours_are_refused() {
        let bad = [
            "",
            "dockline",
            "dockline/10.0.0.0",
            "/10.0.0.0/8",
            "a/b/10.0.0.0/8",
            "a b/10.0.0.0/8",
            "dockline/10.0.0.1/8",
            "dockline/10.0.0.0/08",
            "dockline/10.0.0.0/8/11.0.0.0/16",
            "dockline/10.0.0.0/8/fd00::/64",
            "dockline/10.0.0.0/8/",
            "dockline/FD00::/64",
            "dockline/10.0.0.0/8/10.1.0.0/16/x",
            "dockline/10.0.0.0/8\n",
            "../10.0.0.0/8",
        ];
        for bad in bad {
            assert!(bad.parse::<PoolId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_ends_of_a_subnet_are_kept_back() {
        let usable = |text: &str| {
            let subnet = subnet(text);
            let (first, last) = subnet.usable();
            (subnet.at(first).to_string(), subnet.at(last).to_string())
        };
        let pair = |first: &str, last: &str| (first.to_owned(), last.to_owned());
        assert_eq!(usable("10.0.0.0/24"), pair("10.0.0.1", "10.0.0.254"));
        assert_eq!(usable("10.0.0.0/30"), pair("10.0.0.1", "10.0.0.2"));
        assert_eq!(usable("10.0.0.0/31"), pair("10.0.0.0", "10.0.0.1"));
        assert_eq!(usable("10.0.0.7/32"), pair("10.0.0.7", "10.0.0.7"));
        assert_eq!(usable("10.0.0.0/8"), pair("10.0.0.1", "10.255.255.254"));
        assert_eq!(usable("fd00::/64"), pair("fd00::1", "fd00::ffff:ffff:ffff:ffff"));
        assert_eq!(usable("fd00::2/127"), pair("fd00::2", "fd00::3"));
        assert_eq!(usable("fd00::7/128"), pair("fd00::7", "fd00::7"));
    }

    #[test]
    fn an_address_nobody_can_have_is_refused_in_words() {
        let refused = |pool: &str, address: &str| {
            subnet(pool).check_address(address.parse().unwrap()).unwrap_err().to_string()
        };
        let network = refused("10.0.0.0/24", "10.0.0.0");
        assert!(network.contains("the network address of the subnet 10.0.0.0/24"), "{network}");
        assert!(network.contains("10.0.0.1 to 10.0.0.254"), "{network}");
        assert!(refused("10.0.0.0/24", "10.0.0.255").contains("the broadcast address"));
        assert!(refused("fd00::/64", "fd00::").contains("the address of all routers"));
        assert!(refused("10.0.0.0/24", "10.0.1.1").contains("not in the subnet"));
        assert!(refused("10.0.0.0/24", "fd00::1").contains("not of the same family"));
        assert!(refused("fd00::/64", "10.0.0.1").contains("not of the same family"));
    }

    #[test]
    fn what_no_container_can_be_in_is_no_pool() {
        let refused = |text: &str| Subnet::try_from(text.parse::<PoolCidr>().unwrap()).unwrap_err();
        for large in ["10.0.0.0/7", "0.0.0.0/0", "fc00::/15", "::/0"] {
            assert!(matches!(refused(large), PoolError::TooLarge(_)), "{large}");
        }
        for odd in [
            "127.0.0.0/8",
            "224.0.0.0/24",
            "0.0.0.0/8",
            "255.255.255.255/32",
            "ff00::/16",
            "::/64",
            "::1/128",
            "::ffff:10.0.0.0/112",
        ] {
            assert!(matches!(refused(odd), PoolError::NotUnicast(_)), "{odd}");
        }
    }

    #[test]
    fn an_overlap_names_the_pool_that_is_there() {
        let space: SpaceName = "prod".parse().unwrap();
        let existing: Vec<PoolCidr> =
            ["10.0.0.0/16", "10.2.0.0/16", "fd00::/64"].map(|text| text.parse().unwrap()).into();
        let check = |text: &str| check_overlap(&space, subnet(text), existing.iter().copied());
        for free in ["10.1.0.0/16", "10.0.0.0/16", "10.3.0.0/24", "fd00:0:0:1::/64"] {
            assert_eq!(check(free), Ok(()), "{free}");
        }
        for (wanted, named) in [
            ("10.2.3.0/24", "10.2.0.0/16"),
            ("10.0.0.0/8", "10.0.0.0/16"),
            ("fd00::/32", "fd00::/64"),
        ] {
            let error = check(wanted).unwrap_err().to_string();
            assert!(error.contains(&format!("overlaps {named}")), "{error}");
            assert!(error.contains("space prod"), "{error}");
        }
    }
}
