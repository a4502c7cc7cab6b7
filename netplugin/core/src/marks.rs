//! An endpoint as the marks (`external_ids`) of its port in OVSDB, and back.

use std::collections::BTreeMap;
use std::str::FromStr;

use dockline_types::ByteSize;

use crate::endpoint::Endpoint;
use crate::rate::{Limit, Limits, Rate};

/// Marks by name.
pub type Marks = BTreeMap<String, String>;

/// Why a port's marks do not make an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarksError {
    /// It is not a port of ours.
    #[error("the port bears no mark of Dockline")]
    NotOurs,
    /// It is, and a mark is damaged.
    #[error("the port's mark {key}={value:?} is missing or damaged")]
    Damaged {
        /// The mark.
        key: &'static str,
        /// What it says.
        value: String,
    },
}

// All begin alike, so that a person sees whose they are.
const NETWORK: &str = "dockline-network";
const ENDPOINT: &str = "dockline-endpoint";
const MAC: &str = "dockline-mac";
const IPV4: &str = "dockline-ipv4";
const IPV6: &str = "dockline-ipv6";
const TRUNK: &str = "dockline-trunk";
const RX: [&str; 2] = ["dockline-rx-rate", "dockline-rx-burst"];
const TX: [&str; 2] = ["dockline-tx-rate", "dockline-tx-burst"];

impl Endpoint {
    /// The mark that every port of ours bears: the endpoint's id.
    pub const MARK: &'static str = ENDPOINT;

    /// The marks of its port.
    pub fn marks(&self) -> Marks {
        let mut marks = limit_marks(&self.limits);
        let mut mark = |key: &str, value: String| marks.insert(key.to_owned(), value);
        mark(NETWORK, self.network.to_string());
        mark(ENDPOINT, self.id.to_string());
        mark(MAC, self.mac.to_string());
        if let Some(address) = self.ipv4 {
            mark(IPV4, address.to_string());
        }
        if let Some(address) = self.ipv6 {
            mark(IPV6, address.to_string());
        }
        if let Some(trunk) = &self.trunk {
            mark(TRUNK, trunk.to_string());
        }
        marks
    }

    /// The endpoint that a port's marks tell of.
    pub fn from_marks(marks: &Marks) -> Result<Self, MarksError> {
        if !marks.contains_key(Self::MARK) {
            return Err(MarksError::NotOurs);
        }
        Ok(Self {
            id: needed(marks, ENDPOINT)?,
            network: needed(marks, NETWORK)?,
            mac: needed(marks, MAC)?,
            ipv4: optional(marks, IPV4)?,
            ipv6: optional(marks, IPV6)?,
            trunk: optional(marks, TRUNK)?,
            limits: Limits { rx: limit(marks, RX)?, tx: limit(marks, TX)? },
        })
    }

    /// The marks of a port that another's limits are given to: all others stay.
    pub fn with_limits(marks: &Marks, limits: &Limits) -> Marks {
        let others = marks.iter().filter(|(key, _)| ![RX, TX].concat().contains(&key.as_str()));
        let others = others.map(|(key, value)| (key.clone(), value.clone()));
        others.chain(limit_marks(limits)).collect()
    }
}

fn limit_marks(limits: &Limits) -> Marks {
    let mut marks = Marks::new();
    for ([rate, burst], limit) in [(RX, limits.rx), (TX, limits.tx)] {
        let Some(limit) = limit else { continue };
        marks.insert(rate.to_owned(), limit.rate.to_string());
        if let Some(bytes) = limit.burst {
            marks.insert(burst.to_owned(), bytes.to_string());
        }
    }
    marks
}

fn limit(marks: &Marks, [rate, burst]: [&'static str; 2]) -> Result<Option<Limit>, MarksError> {
    let rate: Option<Rate> = optional(marks, rate)?;
    let burst: Option<ByteSize> = optional(marks, burst)?;
    Ok(rate.map(|rate| Limit { rate, burst }))
}

fn optional<T: FromStr>(marks: &Marks, key: &'static str) -> Result<Option<T>, MarksError> {
    let Some(value) = marks.get(key) else { return Ok(None) };
    let damaged = |_| MarksError::Damaged { key, value: value.clone() };
    value.parse().map(Some).map_err(damaged)
}

fn needed<T: FromStr>(marks: &Marks, key: &'static str) -> Result<T, MarksError> {
    optional(marks, key)?.ok_or(MarksError::Damaged { key, value: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(rate: &str, burst: Option<&str>) -> Option<Limit> {
        let burst = burst.map(|burst| burst.parse().unwrap());
        Some(Limit { rate: rate.parse().unwrap(), burst })
    }

    fn endpoint() -> Endpoint {
        Endpoint {
            id: "0123456789abcdef".parse().unwrap(),
            network: "abc".parse().unwrap(),
            mac: "02:42:0a:64:00:02".parse().unwrap(),
            ipv4: Some("10.100.0.2/24".parse().unwrap()),
            ipv6: Some("2001:db8::2/64".parse().unwrap()),
            trunk: Some("10,20-30".parse().unwrap()),
            limits: Limits { rx: limit("10mbit", Some("64KiB")), tx: limit("5mbit", None) },
        }
    }

    #[test]
    fn the_marks_read_back_the_same_and_a_damaged_one_is_named() {
        let marks = endpoint().marks();
        assert_eq!(Endpoint::from_marks(&marks), Ok(endpoint()));
        assert_eq!(Endpoint::from_marks(&Marks::new()), Err(MarksError::NotOurs));
        for key in [MAC, IPV4, NETWORK, TRUNK, RX[0], RX[1], TX[0]] {
            let mut damaged = marks.clone();
            damaged.insert(key.to_owned(), "!".to_owned());
            let value = "!".to_owned();
            assert_eq!(Endpoint::from_marks(&damaged), Err(MarksError::Damaged { key, value }));
        }
    }

    #[test]
    fn other_limits_leave_the_other_marks_and_a_strangers_alone() {
        let mut marks = endpoint().marks();
        marks.insert("stranger".to_owned(), "1".to_owned());
        let limits = Limits { rx: None, tx: limit("1gbit", None) };
        let changed = Endpoint::with_limits(&marks, &limits);
        assert_eq!(Endpoint::from_marks(&changed), Ok(Endpoint { limits, ..endpoint() }));
        assert_eq!(changed.get("stranger").map(String::as_str), Some("1"));
    }
}
