//! Sizes in bytes as Docker's users write them.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not a number with a known unit.
    #[error("{0:?} is not a size: a number and a unit of 1024 steps, as in 512MiB, 10G or 1.5t")]
    Malformed(String),
    /// Larger than 2^64 - 1 bytes.
    #[error("{0:?} is larger than any disk: the most is 15.9EiB")]
    TooLarge(String),
}

/// A number of bytes.
///
/// Units are steps of 1024 whatever their spelling (`10G`, `10g`, `10GB` and `10GiB` are equal):
/// this is what Docker (`units.RAMInBytes`) and LVM mean by them. No unit means bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// A size of so many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size of so many times 1024 * 1024 bytes; `mib` is at most 2^44 - 1.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }
}

/// Unit letters, each 1024 times the one before; the first is 1024 bytes.
const UNITS: [char; 6] = ['k', 'm', 'g', 't', 'p', 'e'];

/// How many bits a unit shifts by, or `None` if it is not one.
fn unit_shift(unit: &str) -> Option<u32> {
    let unit = unit.to_ascii_lowercase();
    if unit.is_empty() || unit == "b" {
        return Some(0);
    }
    let mut letters = unit.chars();
    let first = letters.next()?;
    let (step, _) = (1..).zip(UNITS).find(|&(_, known)| known == first)?;
    matches!(letters.as_str(), "" | "b" | "i" | "ib").then_some(10 * step)
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let quoted = || text.chars().take(64).collect::<String>();
        let malformed = || SizeError::Malformed(quoted());
        let too_large = || SizeError::TooLarge(quoted());

        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let shift = unit_shift(unit.strip_prefix(' ').unwrap_or(unit)).ok_or_else(malformed)?;

        let (whole, fraction) = match number.split_once('.') {
            Some((_, "")) => return Err(malformed()),
            Some((whole, fraction)) => (whole, fraction),
            None => (number, ""),
        };
        // `split` left only digits and dots; what is empty or has a second dot is no number.
        if whole.is_empty() || fraction.contains('.') {
            return Err(malformed());
        }
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        let whole = whole.checked_mul(1 << shift).ok_or_else(too_large)?;

        // Nineteen digits of a fraction are finer than one byte of the largest unit.
        let (mut digits, mut scale) = (0u128, 1u128);
        for digit in fraction.bytes().take(19) {
            digits = digits * 10 + u128::from(digit - b'0');
            scale *= 10;
        }
        let part = (digits << shift) / scale;
        let part = u64::try_from(part).map_err(|_| too_large())?;
        whole.checked_add(part).map(Self).ok_or_else(too_large)
    }
}

impl fmt::Display for ByteSize {
    /// In the largest unit in which the size is a whole number: `1GiB`, `1536MiB`, `17B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = if self.0 == 0 { 0 } else { (self.0.trailing_zeros() / 10).min(6) };
        let number = self.0 >> (10 * steps);
        match steps.checked_sub(1) {
            None => write!(f, "{number}B"),
            Some(step) => write!(f, "{number}{}iB", UNITS[step as usize].to_ascii_uppercase()),
        }
    }
}

crate::serde_as_text!(ByteSize);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(text: &str) -> u64 {
        text.parse::<ByteSize>().unwrap().bytes()
    }

    #[test]
    fn every_spelling_docker_users_write_means_steps_of_1024() {
        for ten_gib in ["10G", "10g", "10GB", "10gb", "10GiB", "10Gi", "10 GiB", "10240M", "10.0G"]
        {
            assert_eq!(bytes(ten_gib), 10 << 30, "{ten_gib}");
        }
        assert_eq!(bytes("1.5G"), 3 << 29);
        assert_eq!(bytes("512"), 512);
        assert_eq!(bytes("512b"), 512);
        assert_eq!(bytes("0"), 0);
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for bad in ["", "-1G", "10,5G", "1e10", "G", "10X", "1.2.3G", ".5G", "5.", "10 G B", "+1"] {
            assert!(matches!(bad.parse::<ByteSize>(), Err(SizeError::Malformed(_))), "{bad:?}");
        }
        for large in ["16E", "20EiB", "18446744073709551616", "15.9999999999999999999E"] {
            let parsed = large.parse::<ByteSize>();
            assert!(!matches!(parsed, Err(SizeError::Malformed(_))), "{large:?}");
        }
        assert!(matches!("16E".parse::<ByteSize>(), Err(SizeError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_the_same(bytes: u64) {
            let size = ByteSize::from_bytes(bytes);
            prop_assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<ByteSize>();
        }
    }
}
