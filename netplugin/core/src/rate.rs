//! Bandwidth: rates, bursts and the limits made of them.

use std::fmt;
use std::str::FromStr;

use dockline_types::ByteSize;
use serde::{Deserialize, Serialize};

/// Why a text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Not a number with a known unit.
    #[error(
        "{0:?} is not a rate: a number and a unit in steps of 1000, as in 500kbit, 10mbit or \
         2.5gbit"
    )]
    Malformed(String),
    /// Nothing, or next to it.
    #[error(
        "{0:?} would cut the container off: the least is {least}; for no limit leave the option \
         out",
        least = Rate::LEAST
    )]
    TooSmall(String),
    /// More than is meant by a limit.
    #[error("{0:?} is more than any link carries: the most is {most}", most = Rate::MOST)]
    TooLarge(String),
}

/// How many bits per second, counted on IP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(u64);

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

impl Rate {
    /// Below this, one full-sized packet takes longer than a second and a half.
    pub const LEAST: Self = Self(8_000);
    /// A terabit per second.
    pub const MOST: Self = Self(1_000_000_000_000);

    /// Bits per second.
    pub fn bits(self) -> u64 {
        self.0
    }
}

/// The units, largest first.
const UNITS: [(&str, u64); 5] = [
    ("tbit", 1_000_000_000_000),
    ("gbit", 1_000_000_000),
    ("mbit", 1_000_000),
    ("kbit", 1_000),
    ("bit", 1),
];

/// The most digits of a fraction that can matter.
const FRACTION: usize = 12;

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let quoted = || text.chars().take(32).collect::<String>();
        let malformed = || RateError::Malformed(quoted());
        let too_large = || RateError::TooLarge(quoted());
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let unit = unit.to_ascii_lowercase();
        // `b` alone could be bytes, and a bare number anything.
        let named = |name: &str| name == unit || (name != "bit" && name[..1] == unit);
        let scale = UNITS.iter().find(|(name, _)| named(name));
        let scale = scale.map(|(_, scale)| *scale).ok_or_else(malformed)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(malformed());
        }
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        let fraction =
            fraction.bytes().take(FRACTION).fold((0u128, 1u128), |(value, ten), digit| {
                (value * 10 + u128::from(digit - b'0'), ten * 10)
            });
        let bits = u128::from(whole) * u128::from(scale);
        let bits = bits + fraction.0 * u128::from(scale) / fraction.1;
        let bits = u64::try_from(bits).map_err(|_| too_large())?;
        match Self(bits) {
            rate if rate < Self::LEAST => Err(RateError::TooSmall(quoted())),
            rate if rate > Self::MOST => Err(too_large()),
            rate => Ok(rate),
        }
    }
}

impl fmt::Display for Rate {
    /// In the largest unit in which it is a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |scale: &u64| self.0.is_multiple_of(*scale);
        let (unit, scale) = UNITS.iter().find(|(_, scale)| whole(scale)).unwrap_or(&UNITS[4]);
        write!(f, "{}{unit}", self.0 / scale)
    }
}

/// A limit in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// How much in the long run.
    pub rate: Rate,
    /// How much at once after a pause; what suits the rate if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<ByteSize>,
}

impl Limit {
    /// The least burst: one full-sized packet of a jumbo link must fit in.
    pub const LEAST_BURST: ByteSize = ByteSize::from_bytes(10_000);
    /// The most the kernel's shaper counts with.
    pub const MOST_BURST: ByteSize = ByteSize::from_mib(1024);

    /// The burst in bytes: twenty milliseconds at the full rate unless it is given, so that the
    /// shaper's clock need not be finer than that.
    pub fn burst_bytes(&self) -> u64 {
        let suits = self.rate.bits() / 8 / 50;
        let suits = suits.clamp(Self::LEAST_BURST.bytes(), Self::MOST_BURST.bytes());
        self.burst.map_or(suits, ByteSize::bytes)
    }

    /// How many bytes may wait: a tenth of a second at the full rate, and at least 20 packets.
    pub fn queue_bytes(&self) -> u64 {
        (self.rate.bits() / 8 / 10).max(30_000).max(2 * self.burst_bytes())
    }
}

/// What a container may receive and send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// What it receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx: Option<Limit>,
    /// What it sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx: Option<Limit>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_steps_of_a_thousand() {
        for (text, bits) in [
            ("10mbit", 10_000_000),
            ("10Mbit", 10_000_000),
            ("10m", 10_000_000),
            ("2.5gbit", 2_500_000_000),
            ("8000bit", 8_000),
            ("1tbit", 1_000_000_000_000),
            ("0.5m", 500_000),
        ] {
            assert_eq!(text.parse::<Rate>().unwrap().bits(), bits, "{text}");
        }
        assert_eq!("1500kbit".parse::<Rate>().unwrap().to_string(), "1500kbit");
        assert_eq!("1000mbit".parse::<Rate>().unwrap().to_string(), "1gbit");
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (text, words) in [
            ("0", "is not a rate"),
            ("10", "is not a rate"),
            ("0mbit", "would cut the container off: the least is 8kbit"),
            ("1kbit", "the least is 8kbit"),
            ("18446744073709551616bit", "the most is 1tbit"),
            ("18446744073709551615gbit", "the most is 1tbit"),
            ("2tbit", "the most is 1tbit"),
            ("-1mbit", "is not a rate"),
            ("10 mbit", "is not a rate"),
            ("10mb", "is not a rate"),
            ("1.2.3mbit", "is not a rate"),
            ("mbit", "is not a rate"),
            ("1.mbit", "is not a rate"),
            ("", "is not a rate"),
        ] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bits in 8_000u64..=1_000_000_000_000) {
            prop_assert_eq!(Rate(bits).to_string().parse::<Rate>().unwrap(), Rate(bits));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}") {
            let _ = text.parse::<Rate>();
        }
    }
}
