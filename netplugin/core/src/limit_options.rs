//! The options that limit bandwidth, which networks and endpoints share.

use dockline_types::{ByteSize, SizeError};

use crate::rate::{Limit, Limits, Rate, RateError};

/// Why an option that limits bandwidth is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Not a rate.
    #[error("option {0}")]
    Rate(&'static str, #[source] RateError),
    /// Not a size.
    #[error("option {0}")]
    Burst(&'static str, #[source] SizeError),
    /// A burst that the shaper cannot work with.
    #[error(
        "option {0}={1}: {least} to {most} is expected",
        least = Limit::LEAST_BURST,
        most = Limit::MOST_BURST
    )]
    BurstRange(&'static str, ByteSize),
    /// A burst of nothing.
    #[error("option {0}-burst needs {0}-rate: a burst is what may go beyond a rate for a moment")]
    BurstAlone(&'static str),
}

/// One direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Direction {
    rate: Option<Rate>,
    burst: Option<ByteSize>,
}

impl Direction {
    /// What is given here, or else the default; a rate of one's own comes with a burst of its own.
    fn over(self, default: Option<Limit>, name: &'static str) -> Result<Option<Limit>, LimitError> {
        match (self.rate, default) {
            (Some(rate), _) => Ok(Some(Limit { rate, burst: self.burst })),
            (None, Some(limit)) => {
                Ok(Some(Limit { rate: limit.rate, burst: self.burst.or(limit.burst) }))
            }
            (None, None) if self.burst.is_some() => Err(LimitError::BurstAlone(name)),
            (None, None) => Ok(None),
        }
    }
}

/// What options say of limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitOptions {
    rx: Direction,
    tx: Direction,
}

impl LimitOptions {
    /// The names of the options.
    pub const KEYS: [&str; 4] = ["rx-rate", "rx-burst", "tx-rate", "tx-burst"];

    /// Sets one of [`Self::KEYS`].
    pub fn set(&mut self, key: &'static str, value: &str) -> Result<(), LimitError> {
        let direction = if key.starts_with("rx") { &mut self.rx } else { &mut self.tx };
        if key.ends_with("rate") {
            direction.rate = Some(value.parse().map_err(|error| LimitError::Rate(key, error))?);
            return Ok(());
        }
        let burst: ByteSize = value.parse().map_err(|error| LimitError::Burst(key, error))?;
        if !(Limit::LEAST_BURST..=Limit::MOST_BURST).contains(&burst) {
            return Err(LimitError::BurstRange(key, burst));
        }
        direction.burst = Some(burst);
        Ok(())
    }

    /// These limits with what is given changed; a rate of `none` lifts the limit.
    pub fn change(
        given: [(&'static str, Option<&str>); 4],
        from: Limits,
    ) -> Result<Limits, LimitError> {
        let (mut options, mut from) = (Self::default(), from);
        for (key, value) in given {
            match value {
                Some("none") if key == "rx-rate" => from.rx = None,
                Some("none") if key == "tx-rate" => from.tx = None,
                Some(value) => options.set(key, value)?,
                None => {}
            }
        }
        options.over(from)
    }

    /// The limits, where these are what there is without options.
    pub fn over(self, default: Limits) -> Result<Limits, LimitError> {
        Ok(Limits { rx: self.rx.over(default.rx, "rx")?, tx: self.tx.over(default.tx, "tx")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&'static str, &str)]) -> LimitOptions {
        let mut options = LimitOptions::default();
        for (key, value) in given {
            options.set(key, value).unwrap();
        }
        options
    }

    #[test]
    fn what_is_given_goes_before_what_the_network_says() {
        let network = options(&[("rx-rate", "10mbit"), ("rx-burst", "20k"), ("tx-rate", "5mbit")]);
        let network = network.over(Limits::default()).unwrap();
        let own = options(&[("rx-rate", "20mbit"), ("tx-burst", "30k")]).over(network).unwrap();
        assert_eq!(own.rx, Some(Limit { rate: "20mbit".parse().unwrap(), burst: None }));
        let burst = Some("30k".parse().unwrap());
        assert_eq!(own.tx, Some(Limit { rate: "5mbit".parse().unwrap(), burst }));
        assert_eq!(LimitOptions::default().over(network), Ok(network));
    }

    #[test]
    fn a_change_touches_what_it_names() {
        let change = |rx, tx, from| {
            let given = [("rx-rate", rx), ("rx-burst", None), ("tx-rate", tx), ("tx-burst", None)];
            LimitOptions::change(given, from)
        };
        let both = change(Some("10mbit"), Some("5mbit"), Limits::default()).unwrap();
        let faster = change(Some("20mbit"), None, both).unwrap();
        assert_eq!((faster.rx.unwrap().rate.bits(), faster.tx), (20_000_000, both.tx));
        assert_eq!(change(None, Some("none"), both).unwrap(), Limits { tx: None, ..both });
        assert!(change(Some("nothing"), None, both).is_err());
    }

    #[test]
    fn a_burst_alone_is_refused() {
        let alone = options(&[("tx-burst", "20k")]).over(Limits::default());
        assert_eq!(alone, Err(LimitError::BurstAlone("tx")));
    }
}
