//! A pool as this process sees it: what is held, what is about to be, and what comes next.
//!
//! The picture only chooses; the store decides. What the store tells, in its order, is `held`; what
//! this process has chosen and the store has not told of yet is `claimed`. A picture that is behind
//! costs a refused transaction, never an address with two owners.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use dockline_types::PoolCidr;

use crate::{Occupancy, Subnet};

/// Nothing is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the pool is exhausted: all {usable} addresses of {} are held; remove containers, or create \
     the network with a larger {}", scope(*range, *pool),
    if range.is_some() { "--ip-range" } else { "--subnet" }
)]
pub struct Exhausted {
    /// The pool.
    pub pool: PoolCidr,
    /// The range of it that was asked.
    pub range: Option<PoolCidr>,
    /// How many addresses of it can be used at all.
    pub usable: u128,
}

fn scope(range: Option<PoolCidr>, pool: PoolCidr) -> String {
    range.map_or(pool.to_string(), |range| format!("the range {range} in {pool}"))
}

/// How long a claim lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// The store has not answered yet.
    Open,
    /// The store has answered; from this revision on, `held` says what is so.
    Until(u64),
}

/// The most addresses that rest at a time; beyond, what is released is free at once.
const RESTING: usize = 1 << 16;

/// A pool as this process sees it.
///
/// Times are seconds of any one clock that does not go back.
#[derive(Debug)]
pub struct Picture {
    subnet: Subnet,
    /// What is held or rests.
    busy: Occupancy,
    /// What was released of late, and until when it rests.
    resting: BTreeMap<u128, u64>,
    /// The same in the order of the releases; what no longer rests may still be in here.
    released: VecDeque<(u128, u64)>,
    claimed: BTreeMap<u128, Claim>,
    /// Where to go on looking, for each range that is in use.
    next: BTreeMap<Option<PoolCidr>, u128>,
}

impl Picture {
    /// A pool of which nothing is held.
    pub fn new(subnet: Subnet) -> Self {
        Self {
            subnet,
            busy: Occupancy::default(),
            resting: BTreeMap::new(),
            released: VecDeque::new(),
            claimed: BTreeMap::new(),
            next: BTreeMap::new(),
        }
    }

    /// How many addresses are held.
    pub fn held(&self) -> u64 {
        self.busy.len() - self.resting()
    }

    /// How many addresses rest.
    pub fn resting(&self) -> u64 {
        u64::try_from(self.resting.len()).unwrap_or(u64::MAX)
    }

    /// How many addresses of a range, or of the pool, can be used at all.
    pub fn usable(&self, range: Option<PoolCidr>) -> u128 {
        let (first, last) = self.subnet.usable_in(range);
        if first > last { 0 } else { last - first + 1 }
    }

    /// Whether a choice has not been settled yet.
    pub fn is_claiming(&self) -> bool {
        !self.claimed.is_empty()
    }

    /// The store tells that somebody holds an address. One of another pool is ignored.
    pub fn hold(&mut self, address: IpAddr) {
        let Some(offset) = self.subnet.offset(address) else { return };
        if self.resting.remove(&offset).is_none() {
            self.busy.insert(offset);
        }
    }

    /// The store tells that nobody holds an address any more, which now rests until then.
    pub fn release(&mut self, address: IpAddr, until: Option<u64>) {
        let Some(offset) = self.subnet.offset(address) else { return };
        if !self.busy.contains(offset) || self.resting.contains_key(&offset) {
            return;
        }
        match until {
            Some(until) if self.resting.len() < RESTING => {
                self.resting.insert(offset, until);
                self.released.push_back((offset, until));
            }
            _ => drop(self.busy.remove(offset)),
        }
    }

    /// Ends the rest of what has rested long enough by now.
    fn wake(&mut self, now: u64) {
        while let Some(&(offset, until)) = self.released.front() {
            let rests = self.resting.get(&offset) == Some(&until);
            if rests && until > now {
                return;
            }
            self.released.pop_front();
            if rests {
                self.resting.remove(&offset);
                self.busy.remove(offset);
            }
        }
    }

    /// The store has told all that happened up to `revision`.
    pub fn told_up_to(&mut self, revision: u64) {
        self.claimed.retain(|_, claim| match claim {
            Claim::Open => true,
            Claim::Until(until) => *until > revision,
        });
    }

    /// Takes what another picture of the pool, read anew from the store, has as held.
    pub fn replace_held(&mut self, fresh: Picture) {
        self.busy = fresh.busy;
        // What is held is new there; the others are free, and rest on.
        let busy = &mut self.busy;
        self.resting.retain(|&offset, _| busy.insert(offset));
    }

    /// Chooses a free address and claims it: the next after the one that was chosen last, or, the
    /// first time, after `start` addresses of the range. One that rests is chosen only when no
    /// other is free; then it is the one that has rested longest.
    pub fn choose(
        &mut self,
        range: Option<PoolCidr>,
        start: u64,
        now: u64,
    ) -> Result<IpAddr, Exhausted> {
        self.wake(now);
        let (first, last) = self.subnet.usable_in(range);
        let usable = self.usable(range).max(1);
        let begin = first + u128::from(start) % usable;
        let next = self.next.get(&range).copied().unwrap_or(begin).clamp(first, last.max(first));
        let free = self.free(next, last).or_else(|| self.free(first, last));
        let Some(offset) = free.or_else(|| self.rested_longest(first, last)) else {
            return Err(self.exhausted(range));
        };
        self.next.insert(range, if offset < last { offset + 1 } else { first });
        self.claimed.insert(offset, Claim::Open);
        Ok(self.subnet.at(offset))
    }

    /// Lets the next choice begin after `start` addresses of the range: somebody else goes the same
    /// way.
    pub fn jump(&mut self, range: Option<PoolCidr>, start: u64) {
        let (first, _) = self.subnet.usable_in(range);
        let begin = first + u128::from(start) % self.usable(range).max(1);
        self.next.insert(range, begin);
    }

    fn rested_longest(&self, first: u128, last: u128) -> Option<u128> {
        let rests = |&&(offset, until): &&(u128, u64)| {
            self.resting.get(&offset) == Some(&until)
                && (first..=last).contains(&offset)
                && !self.claimed.contains_key(&offset)
        };
        self.released.iter().find(rests).map(|(offset, _)| *offset)
    }

    /// The first address of the pool that is not held, claimed or resting or not: every host that
    /// looks for a gateway for a new pool finds the same.
    pub fn first_free(&self) -> Result<IpAddr, Exhausted> {
        let (first, last) = self.subnet.usable();
        let free = self.busy.first_free(first, last);
        let resting = self.resting.range(first..=last).next().map(|(offset, _)| *offset);
        match free.into_iter().chain(resting).min() {
            Some(offset) => Ok(self.subnet.at(offset)),
            None => Err(self.exhausted(None)),
        }
    }

    /// The first address of the pool that is neither held, resting nor claimed, for one that is to
    /// be kept.
    pub fn first_unclaimed(&self) -> Result<IpAddr, Exhausted> {
        let (first, last) = self.subnet.usable();
        let free = self.free(first, last).or_else(|| self.rested_longest(first, last));
        free.map(|offset| self.subnet.at(offset)).ok_or_else(|| self.exhausted(None))
    }

    fn exhausted(&self, range: Option<PoolCidr>) -> Exhausted {
        Exhausted { pool: self.subnet.cidr(), range, usable: self.usable(range) }
    }

    /// The first offset in these bounds that is neither held nor resting nor claimed.
    fn free(&self, first: u128, last: u128) -> Option<u128> {
        let mut from = first;
        loop {
            let free = self.busy.first_free(from, last)?;
            // Claims are few: what is in flight, and what the store has not told yet.
            if !self.claimed.contains_key(&free) {
                return Some(free);
            }
            from = free.checked_add(1)?;
        }
    }

    /// The store did not take the choice, or it was not needed: it is free again.
    pub fn unclaim(&mut self, address: IpAddr) {
        if let Some(offset) = self.subnet.offset(address) {
            self.claimed.remove(&offset);
        }
    }

    /// The store answered at `revision` that the address is held, by whomever. Until the picture
    /// has been told as much, the address is not chosen again.
    pub fn settle(&mut self, address: IpAddr, revision: u64) {
        if let Some(offset) = self.subnet.offset(address)
            && let Some(claim) = self.claimed.get_mut(&offset)
        {
            *claim = Claim::Until(revision);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn picture(text: &str) -> Picture {
        Picture::new(text.parse::<PoolCidr>().unwrap().try_into().unwrap())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_given_back_rests_until_the_others_have_had_their_turn() {
        let mut pool = picture("10.0.0.0/29");
        let mut given = Vec::new();
        for _ in 0..10 {
            let chosen = pool.choose(None, 0, 0).unwrap();
            given.push(chosen.to_string());
            pool.unclaim(chosen);
        }
        let turn = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"];
        assert_eq!(given[..6], turn);
        assert_eq!(given[6..], turn[..4]);
        assert_eq!(pool.choose(None, 0, 0).unwrap(), address("10.0.0.5"));
        assert_eq!(pool.first_free().unwrap(), address("10.0.0.1"));
        pool.hold(address("10.0.0.1"));
        assert_eq!(pool.first_free().unwrap(), address("10.0.0.2"));
    }

    #[test]
    fn exhausted_is_told_with_figures() {
        let mut pool = picture("10.0.0.0/24");
        let range: Option<PoolCidr> = Some("10.0.0.254/31".parse().unwrap());
        assert_eq!(pool.choose(range, 0, 0).unwrap(), address("10.0.0.254"));
        let error = pool.choose(range, 0, 0).unwrap_err();
        assert!(
            error.to_string().contains("all 1 addresses of the range 10.0.0.254/31 in 10.0.0.0/24"),
            "{error}"
        );
        assert_eq!(
            pool.choose(Some("10.0.0.255/32".parse().unwrap()), 0, 0).unwrap_err().usable,
            0
        );
        let rest = (0..253).map(|_| pool.choose(None, 0, 0).unwrap()).collect::<BTreeSet<_>>();
        assert_eq!(rest.len(), 253);
        let error = pool.choose(None, 0, 0).unwrap_err();
        assert_eq!((error.usable, error.range), (254, None));
        assert!(error.to_string().contains("all 254 addresses of 10.0.0.0/24"), "{error}");
    }

    #[test]
    fn a_claim_lasts_until_the_store_has_told_its_outcome() {
        let mut pool = picture("10.0.0.0/31");
        let first = pool.choose(None, 0, 0).unwrap();
        pool.settle(first, 7);
        pool.told_up_to(6);
        assert_eq!(pool.choose(None, 0, 0).unwrap(), address("10.0.0.1"));
        assert!(pool.choose(None, 0, 0).is_err());
        pool.hold(first);
        pool.told_up_to(7);
        assert!(pool.choose(None, 0, 0).is_err(), "now it is held");
        pool.release(first, None);
        assert_eq!(pool.choose(None, 0, 0).unwrap(), first);
        // An unanswered claim outlasts every revision.
        pool.told_up_to(u64::MAX);
        assert!(pool.choose(None, 0, 0).is_err());
        assert!(pool.is_claiming());
    }

    #[test]
    fn what_was_released_rests_unless_nothing_else_is_free() {
        let mut pool = picture("10.0.0.0/29");
        let all: Vec<IpAddr> = (0..6).map(|_| pool.choose(None, 0, 0).unwrap()).collect();
        for address in &all {
            pool.settle(*address, 1);
            pool.hold(*address);
        }
        pool.told_up_to(1);
        pool.release(all[0], Some(10));
        pool.release(all[3], Some(12));
        pool.release(all[1], Some(13));
        assert_eq!((pool.held(), pool.resting()), (3, 3));
        assert_eq!(pool.first_free().unwrap(), all[0], "a gateway may have it at once");
        // Two have rested enough; the third is taken last.
        let next: Vec<IpAddr> = (0..3).map(|_| pool.choose(None, 0, 12).unwrap()).collect();
        assert_eq!(next, [all[0], all[3], all[1]]);
        assert!(pool.choose(None, 0, 12).is_err());
        // Of those that rest, the one that has rested longest.
        let mut pool = picture("10.0.0.0/30");
        let pair: Vec<IpAddr> = (0..2).map(|_| pool.choose(None, 0, 0).unwrap()).collect();
        pair.iter().for_each(|address| pool.unclaim(*address));
        pair.iter().for_each(|address| pool.hold(*address));
        pool.release(pair[1], Some(100));
        pool.release(pair[0], Some(100));
        // Held again, and released once more: its first rest is over.
        pool.hold(pair[1]);
        pool.release(pair[1], Some(101));
        assert_eq!(pool.choose(None, 0, 0).unwrap(), pair[0]);
        assert_eq!(pool.choose(None, 0, 0).unwrap(), pair[1]);
        // Read anew, what rests still does.
        let mut fresh = picture("10.0.0.0/30");
        fresh.hold(pair[0]);
        pool.replace_held(fresh);
        assert_eq!((pool.held(), pool.resting()), (1, 1));
    }

    #[test]
    fn hosts_begin_at_different_places_and_still_have_all() {
        let mut pool = picture("10.0.0.0/24");
        let first = pool.choose(None, 1000, 0).unwrap();
        assert_eq!(first, address("10.0.0.239"), "1000 modulo 254 addresses further");
        pool.jump(None, 253);
        let mut all = BTreeSet::from([first]);
        assert_eq!(pool.choose(None, 7, 0).unwrap(), address("10.0.0.254"));
        all.extend((1..253).map(|_| pool.choose(None, 7, 0).unwrap()));
        assert_eq!(all.len(), 253);
        assert!(pool.choose(None, 7, 0).is_err());
    }

    #[test]
    fn a_pool_of_any_size_takes_no_more_time_or_memory() {
        for text in ["fd00::/64", "fd00::/16", "10.0.0.0/8"] {
            let mut pool = picture(text);
            for _ in 0..100_000 {
                let chosen = pool.choose(None, 0, 0).unwrap();
                pool.hold(chosen);
                pool.unclaim(chosen);
            }
            assert_eq!(pool.held(), 100_000);
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Choose(bool),
        Tell(u32, bool, bool),
        Settle(usize),
        Unclaim(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => any::<bool>().prop_map(Step::Choose),
            2 => (0..70u32, any::<bool>(), any::<bool>())
                .prop_map(|(at, held, rests)| Step::Tell(at, held, rests)),
            2 => any::<usize>().prop_map(Step::Settle),
            2 => any::<usize>().prop_map(Step::Unclaim),
        ]
    }

    proptest! {
        #[test]
        fn it_chooses_what_is_free_and_fails_only_when_nothing_is(
            steps in prop::collection::vec(step(), 1..200)
        ) {
            // Offsets of 10.0.0.0/26; the range is its upper half.
            let mut pool = picture("10.0.0.0/26");
            let range: PoolCidr = "10.0.0.32/27".parse().unwrap();
            let (mut held, mut claimed) = (BTreeSet::new(), BTreeSet::new());
            let base = u32::from_be_bytes([10, 0, 0, 0]);
            let address = |at: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(base + at));
            for (revision, step) in (1..).zip(steps) {
                match step {
                    Step::Choose(ranged) => {
                        let from = if ranged { 32 } else { 1 };
                        let free = (from..63).map(address)
                            .any(|address| !held.contains(&address) && !claimed.contains(&address));
                        match pool.choose(ranged.then_some(range), 0, revision) {
                            Ok(chosen) => {
                                prop_assert!(chosen >= address(from) && chosen < address(63));
                                prop_assert!(!held.contains(&chosen));
                                prop_assert!(claimed.insert(chosen), "{} was claimed", chosen);
                            }
                            Err(_) => prop_assert!(!free),
                        }
                    }
                    Step::Tell(at, is_held, rests) => {
                        if is_held {
                            pool.hold(address(at));
                        } else {
                            pool.release(address(at), rests.then_some(revision + 20));
                        }
                        if is_held && at < 64 {
                            held.insert(address(at));
                        } else {
                            held.remove(&address(at));
                        }
                    }
                    Step::Settle(at) => if let Some(&chosen) = claimed.iter().nth(at % 64) {
                        pool.settle(chosen, revision);
                        pool.told_up_to(revision);
                        claimed.remove(&chosen);
                    },
                    Step::Unclaim(at) => if let Some(&chosen) = claimed.iter().nth(at % 64) {
                        pool.unclaim(chosen);
                        claimed.remove(&chosen);
                    },
                }
                prop_assert_eq!(pool.held(), held.len() as u64);
                prop_assert_eq!(pool.is_claiming(), !claimed.is_empty());
            }
        }
    }
}
