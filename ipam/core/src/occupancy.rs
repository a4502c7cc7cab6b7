//! Which addresses of a pool are taken, in memory that follows their number and not the pool's.

use std::collections::BTreeMap;

use crate::chunk::{self, Chunk};

/// A set of offsets into a pool. Runs of 65,536 that hold nothing cost nothing, those that are full
/// next to nothing, others at most 8 KiB.
#[derive(Debug, Clone, Default)]
pub struct Occupancy {
    chunks: BTreeMap<u128, Chunk>,
    len: u64,
}

/// The chunk of an offset, and its number there.
fn split(offset: u128) -> (u128, u16) {
    let [.., high, low] = offset.to_be_bytes();
    (offset / u128::from(chunk::SIZE), u16::from_be_bytes([high, low]))
}

impl Occupancy {
    /// How many offsets are in the set.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `offset` is in the set.
    pub fn contains(&self, offset: u128) -> bool {
        let (at, number) = split(offset);
        self.chunks.get(&at).is_some_and(|chunk| chunk.contains(number))
    }

    /// Adds an offset; says whether it is new.
    pub fn insert(&mut self, offset: u128) -> bool {
        let (at, number) = split(offset);
        let new = self.chunks.entry(at).or_default().insert(number);
        self.len += u64::from(new);
        new
    }

    /// Takes an offset out; says whether it was in.
    pub fn remove(&mut self, offset: u128) -> bool {
        let (at, number) = split(offset);
        let Some(chunk) = self.chunks.get_mut(&at) else { return false };
        let was = chunk.remove(number);
        if chunk.len() == 0 {
            self.chunks.remove(&at);
        }
        self.len -= u64::from(was);
        was
    }

    /// The first offset from `from` to `to`, both included, that is not in the set.
    pub fn first_free(&self, from: u128, to: u128) -> Option<u128> {
        if from > to {
            return None;
        }
        let (last_chunk, last) = split(to);
        let (mut at, mut number) = split(from);
        loop {
            let end = if at == last_chunk { last } else { u16::MAX };
            let free = match self.chunks.get(&at) {
                Some(chunk) => chunk.first_free(number, end),
                None => Some(number),
            };
            if let Some(free) = free {
                return Some(at * u128::from(chunk::SIZE) + u128::from(free));
            }
            if at == last_chunk {
                return None;
            }
            (at, number) = (at + 1, 0);
        }
    }

    /// How many offsets from `from` to `to`, both included, are in the set.
    pub fn count(&self, from: u128, to: u128) -> u64 {
        if from > to {
            return 0;
        }
        let ((first, low), (last, high)) = (split(from), split(to));
        let counted = self.chunks.range(first..=last).map(|(&at, chunk)| {
            let low = if at == first { low } else { 0 };
            let high = if at == last { high } else { u16::MAX };
            u64::from(chunk.count(low, high))
        });
        counted.sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Offsets that crowd around the edges of chunks and reach far out.
    fn offset() -> impl Strategy<Value = u128> {
        let near = (0..4u128, -40..40i128);
        prop_oneof![
            4 => near.prop_map(|(at, off)| (at * 65536).saturating_add_signed(off)),
            4 => 0..300u128,
            1 => 0..1u128 << 112,
        ]
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u128),
        Remove(u128),
        Run(u128, u16),
        Clear(u128, u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => offset().prop_map(Step::Insert),
            2 => offset().prop_map(Step::Remove),
            1 => (offset(), 0..9000u16).prop_map(|(from, run)| Step::Run(from, run)),
            1 => (offset(), 0..9000u16).prop_map(|(from, run)| Step::Clear(from, run)),
        ]
    }

    fn free_in(model: &BTreeSet<u128>, from: u128, to: u128) -> Option<u128> {
        (from..=to).take(40_000).find(|offset| !model.contains(offset))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn it_is_a_set(
            steps in prop::collection::vec(step(), 1..40),
            probes in prop::collection::vec((offset(), offset()), 20),
        ) {
            let (mut set, mut model) = (Occupancy::default(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Insert(at) => prop_assert_eq!(set.insert(at), model.insert(at)),
                    Step::Remove(at) => prop_assert_eq!(set.remove(at), model.remove(&at)),
                    Step::Run(from, run) => for at in from..from + u128::from(run) {
                        prop_assert_eq!(set.insert(at), model.insert(at));
                    },
                    Step::Clear(from, run) => for at in from..from + u128::from(run) {
                        prop_assert_eq!(set.remove(at), model.remove(&at));
                    },
                }
                prop_assert_eq!(set.len(), model.len() as u64);
                prop_assert_eq!(set.is_empty(), model.is_empty());
            }
            for (from, to) in probes {
                prop_assert_eq!(set.contains(from), model.contains(&from));
                prop_assert_eq!(set.first_free(from, to), free_in(&model, from, to));
                if from <= to {
                    let counted = model.range(from..=to).count() as u64;
                    prop_assert_eq!(set.count(from, to), counted);
                }
            }
        }
    }

    #[test]
    fn a_chunk_fills_up_to_the_last_and_empties_to_nothing() {
        let mut set = Occupancy::default();
        // In an order that makes it a list, a bitmap, and full.
        let scattered = (0..65536u128).map(|at| at * 40503 % 65536);
        for offset in scattered.clone() {
            assert!(set.insert(offset));
            assert!(!set.insert(offset));
        }
        assert_eq!((set.len(), set.first_free(0, 65535)), (65536, None));
        assert_eq!(set.first_free(0, 65536), Some(65536));
        assert_eq!(set.count(100, 65435), 65336);
        for offset in scattered {
            assert!(set.remove(offset));
            assert_eq!(set.first_free(offset, offset), Some(offset));
            assert!(!set.remove(offset));
        }
        assert!(set.is_empty() && set.chunks.is_empty());
    }

    #[test]
    fn memory_follows_what_is_held() {
        let mut set = Occupancy::default();
        for offset in 0..1 << 20 {
            set.insert(offset);
        }
        let full = set.chunks.values().filter(|chunk| matches!(chunk, Chunk::Full)).count();
        assert_eq!((set.chunks.len(), full), (16, 16));
    }
}
