//! How fast a container may read and write a volume.

use std::fmt;
use std::str::FromStr;

use dockline_types::ByteSize;
use serde::{Deserialize, Serialize};

/// The least number of bytes a second: less than a page in a tick of the kernel's throttling
/// stalls for seconds.
const LEAST_BYTES: u64 = 4096;

/// Limits of one container on one volume; nothing means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes read in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bps: Option<ByteSize>,
    /// Bytes written in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bps: Option<ByteSize>,
    /// Reads in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_iops: Option<u64>,
    /// Writes in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_iops: Option<u64>,
}

impl Limits {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The four, in the order of the fields, as the kernel takes them.
    pub fn numbers(&self) -> [Option<u64>; 4] {
        let bytes = |limit: Option<ByteSize>| limit.map(ByteSize::bytes);
        [bytes(self.read_bps), bytes(self.write_bps), self.read_iops, self.write_iops]
    }

    fn of(numbers: [Option<u64>; 4]) -> Self {
        let [read_bps, write_bps, read_iops, write_iops] = numbers;
        let size = |limit: Option<u64>| limit.map(ByteSize::from_bytes);
        Self { read_bps: size(read_bps), write_bps: size(write_bps), read_iops, write_iops }
    }
}

impl fmt::Display for Limits {
    /// Four numbers with colons between, 0 for none: as a tag has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.numbers().map(Option::unwrap_or_default);
        write!(f, "{a}:{b}:{c}:{d}")
    }
}

impl FromStr for Limits {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let read = |part: &str| part.parse().map(|limit| Some(limit).filter(|limit| *limit > 0));
        let numbers: Vec<_> = text.split(':').map(read).collect::<Result<_, _>>().map_err(drop)?;
        numbers.try_into().map(Self::of).map_err(drop)
    }
}

/// Reads a number of bytes a second; `none` lifts the limit.
pub fn bytes_per_second(text: &str) -> Result<Option<ByteSize>, String> {
    if text == "none" {
        return Ok(None);
    }
    let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
    if size.bytes() < LEAST_BYTES {
        return Err(format!("at least {LEAST_BYTES} bytes a second are needed"));
    }
    Ok(Some(size))
}

/// Reads a number of operations a second; `none` lifts the limit.
pub fn operations_per_second(text: &str) -> Result<Option<u64>, String> {
    if text == "none" {
        return Ok(None);
    }
    match text.parse() {
        Ok(number @ 1..=4_294_967_295) => Ok(Some(number)),
        _ => Err(format!("{text:?} is not a number of operations a second (1 to 4294967295)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn limits_are_read_as_people_write_them() {
        assert_eq!(bytes_per_second("10M"), Ok(Some(ByteSize::from_mib(10))));
        assert_eq!(bytes_per_second("none"), Ok(None));
        assert_eq!(operations_per_second("200"), Ok(Some(200)));
        for bad in ["", "0", "1", "-5", "10,5M", "fast"] {
            assert!(bytes_per_second(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "0", "-5", "1.5", "4294967296"] {
            assert!(operations_per_second(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "1:2:3", "1:2:3:4:5", "1:2:3:x"] {
            assert!(bad.parse::<Limits>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn limits_survive_their_text(numbers in prop::array::uniform4(prop::option::of(1u64..))) {
            let limits = Limits::of(numbers);
            prop_assert_eq!(limits.to_string().parse(), Ok(limits));
        }
    }
}
