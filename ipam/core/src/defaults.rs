//! Pools for networks that name no subnet.

use dockline_types::PoolCidr;
use ipnet::IpNet;

use crate::{PoolError, Subnet};

/// Why a range cannot be cut into pools.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefaultPoolError {
    /// The range is no place for containers.
    #[error("default_pools: {0} cannot be a pool")]
    Base(PoolCidr, #[source] PoolError),
    /// The pools would be larger than the range, or longer than an address.
    #[error("default_pools: {base} cannot be cut into pools of /{size}: it must be at least /{}, at most /{}", base.net().prefix_len(), base.net().max_prefix_len() - 2)]
    Size {
        /// The range.
        base: PoolCidr,
        /// The prefix length of the pools.
        size: u8,
    },
}

/// A range that is cut into pools of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultPool {
    base: Subnet,
    size: u8,
}

impl DefaultPool {
    /// Pools with prefix length `size` from `base`, with room for two addresses at least.
    pub fn new(base: PoolCidr, size: u8) -> Result<Self, DefaultPoolError> {
        let subnet = Subnet::try_from(base).map_err(|error| DefaultPoolError::Base(base, error))?;
        let net = base.net();
        if (net.prefix_len()..=net.max_prefix_len() - 2).contains(&size) {
            Ok(Self { base: subnet, size })
        } else {
            Err(DefaultPoolError::Size { base, size })
        }
    }

    fn is_v6(self) -> bool {
        matches!(self.base.cidr().net(), IpNet::V6(_))
    }

    /// The first pool of the range that overlaps none of `taken`.
    fn first_free(self, taken: &[PoolCidr]) -> Option<Subnet> {
        let (mut offset, step) = (0, 1 << (self.base.cidr().net().max_prefix_len() - self.size));
        // Each turn gets past one of `taken` at least, for good.
        for _ in 0..=taken.len() {
            let first = self.base.at(offset);
            let pool: PoolCidr = IpNet::new(first, self.size).ok()?.try_into().ok()?;
            let Some(obstacle) = taken.iter().find(|taken| taken.overlaps(pool)) else {
                return self.base.cidr().covers(pool).then_some(Subnet::try_from(pool).ok()?);
            };
            let last = obstacle.net().broadcast().max(pool.net().broadcast());
            // Beyond the range there is nothing to be had.
            offset = self.base.offset(last)? / step * step + step;
            self.base.cidr().net().broadcast().cmp(&last).is_gt().then_some(())?;
        }
        None
    }
}

/// The next default pool of a family that overlaps none of the pools in `taken`.
pub fn next_default(defaults: &[DefaultPool], v6: bool, taken: &[PoolCidr]) -> Option<Subnet> {
    defaults.iter().filter(|pool| pool.is_v6() == v6).find_map(|pool| pool.first_free(taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> PoolCidr {
        text.parse().unwrap()
    }

    #[test]
    fn each_is_another_until_none_is_left() {
        let defaults = [
            DefaultPool::new(cidr("10.0.0.0/22"), 24).unwrap(),
            DefaultPool::new(cidr("fd00::/48"), 64).unwrap(),
            DefaultPool::new(cidr("10.9.0.0/30"), 30).unwrap(),
        ];
        // One in the middle is in use as part of something larger, one by something smaller.
        let mut taken = vec![cidr("10.0.2.128/25"), cidr("10.9.0.0/16"), cidr("fd00::/63")];
        let mut given = Vec::new();
        while let Some(pool) = next_default(&defaults, false, &taken) {
            taken.push(pool.cidr());
            given.push(pool.cidr().to_string());
        }
        assert_eq!(given, ["10.0.0.0/24", "10.0.1.0/24", "10.0.3.0/24"]);
        assert_eq!(next_default(&defaults, true, &taken).unwrap().cidr(), cidr("fd00:0:0:2::/64"));
        // A pool around all of the range leaves nothing of it.
        assert_eq!(next_default(&defaults[..1], false, &[cidr("10.0.0.0/8")]), None);
        // What was given back is given again.
        taken.retain(|pool| *pool != cidr("10.0.1.0/24"));
        assert_eq!(next_default(&defaults, false, &taken).unwrap().cidr(), cidr("10.0.1.0/24"));
    }

    #[test]
    fn sizes_that_make_no_pools_are_refused() {
        for (base, size) in [("10.0.0.0/16", 15), ("10.0.0.0/16", 31), ("fd00::/48", 127)] {
            let error = DefaultPool::new(cidr(base), size).unwrap_err();
            assert!(matches!(error, DefaultPoolError::Size { .. }), "{error}");
        }
        let error = DefaultPool::new(cidr("224.0.0.0/8"), 24).unwrap_err();
        assert!(matches!(error, DefaultPoolError::Base(..)), "{error}");
    }
}
