//! A set of 16-bit numbers that is small when it holds few, or all.

/// How many numbers a chunk is about.
pub(crate) const SIZE: u32 = 1 << 16;

/// The most numbers that are kept as a list; a bitmap takes as much space as a list of so many.
const LIST: usize = 4096;

const WORDS: usize = SIZE as usize / 64;

/// Some of the numbers from 0 to 65,535.
#[derive(Debug, Clone)]
pub(crate) enum Chunk {
    /// In order.
    List(Vec<u16>),
    /// One bit each, and how many are set.
    Bits(Box<[u64; WORDS]>, u32),
    /// All of them.
    Full,
}

impl Default for Chunk {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// Where a number's bit is.
fn place(number: u16) -> (usize, u64) {
    (usize::from(number / 64), 1 << (number % 64))
}

impl Chunk {
    pub(crate) fn len(&self) -> u32 {
        match self {
            // A list has at most LIST entries.
            Self::List(list) => u32::try_from(list.len()).unwrap_or(SIZE),
            Self::Bits(_, count) => *count,
            Self::Full => SIZE,
        }
    }

    pub(crate) fn contains(&self, number: u16) -> bool {
        match self {
            Self::List(list) => list.binary_search(&number).is_ok(),
            Self::Bits(words, _) => {
                let (word, bit) = place(number);
                words[word] & bit != 0
            }
            Self::Full => true,
        }
    }

    /// Adds a number; says whether it is new.
    pub(crate) fn insert(&mut self, number: u16) -> bool {
        match self {
            Self::List(list) => {
                let Err(at) = list.binary_search(&number) else { return false };
                if list.len() < LIST {
                    list.insert(at, number);
                    return true;
                }
                let mut bits = Self::bits(list.iter().copied());
                bits.insert(number);
                *self = bits;
                true
            }
            Self::Bits(words, count) => {
                let (word, bit) = place(number);
                let new = words[word] & bit == 0;
                words[word] |= bit;
                *count += u32::from(new);
                if *count == SIZE {
                    *self = Self::Full;
                }
                new
            }
            Self::Full => false,
        }
    }

    /// Takes a number out; says whether it was in.
    pub(crate) fn remove(&mut self, number: u16) -> bool {
        match self {
            Self::List(list) => match list.binary_search(&number) {
                Ok(at) => {
                    list.remove(at);
                    true
                }
                Err(_) => false,
            },
            Self::Bits(words, count) => {
                let (word, bit) = place(number);
                let was = words[word] & bit != 0;
                words[word] &= !bit;
                *count -= u32::from(was);
                // Half of what made it a bitmap, so that it does not go to and fro.
                if *count as usize == LIST / 2 {
                    *self = Self::List(Self::numbers(words).collect());
                }
                was
            }
            Self::Full => {
                let mut words = Box::new([u64::MAX; WORDS]);
                let (word, bit) = place(number);
                words[word] &= !bit;
                *self = Self::Bits(words, SIZE - 1);
                true
            }
        }
    }

    /// The first number from `from` to `to`, both included, that is not in the set.
    pub(crate) fn first_free(&self, from: u16, to: u16) -> Option<u16> {
        match self {
            Self::List(list) => {
                let start = list.partition_point(|&number| number < from);
                let mut free = from;
                for &number in &list[start..] {
                    if number > free {
                        break;
                    }
                    free = number.checked_add(1)?;
                }
                (free <= to).then_some(free)
            }
            Self::Bits(words, _) => {
                let (first, bit) = place(from);
                let mut taken = words[first] | (bit - 1);
                for at in first..=usize::from(to / 64) {
                    if at > first {
                        taken = words[at];
                    }
                    if taken != u64::MAX {
                        let free = at as u64 * 64 + u64::from(taken.trailing_ones());
                        return u16::try_from(free).ok().filter(|&free| free <= to);
                    }
                }
                None
            }
            Self::Full => None,
        }
    }

    /// How many numbers from `from` to `to`, both included, are in the set.
    pub(crate) fn count(&self, from: u16, to: u16) -> u32 {
        if from == 0 && to == u16::MAX {
            return self.len();
        }
        match self {
            Self::List(list) => {
                let start = list.partition_point(|&number| number < from);
                let end = list.partition_point(|&number| number <= to);
                u32::try_from(end.saturating_sub(start)).unwrap_or(SIZE)
            }
            Self::Bits(words, _) => {
                let (first, last) = (usize::from(from / 64), usize::from(to / 64));
                let counted = (first..=last).map(|at| {
                    let low = if at == first { u64::MAX << (from % 64) } else { u64::MAX };
                    let high = if at == last { u64::MAX >> (63 - to % 64) } else { u64::MAX };
                    (words[at] & low & high).count_ones()
                });
                counted.sum()
            }
            Self::Full => u32::from(to) + 1 - u32::from(from),
        }
    }

    fn bits(numbers: impl Iterator<Item = u16>) -> Self {
        let mut words = Box::new([0; WORDS]);
        let mut count = 0;
        for number in numbers {
            let (word, bit) = place(number);
            words[word] |= bit;
            count += 1;
        }
        Self::Bits(words, count)
    }

    fn numbers(words: &[u64; WORDS]) -> impl Iterator<Item = u16> {
        (0..=u16::MAX).filter(|&number| {
            let (word, bit) = place(number);
            words[word] & bit != 0
        })
    }
}
