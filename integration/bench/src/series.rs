//! Times of the same thing, and what to say of them.

use std::time::Duration;

/// Times of one thing, a round each.
#[derive(Debug, Default, Clone)]
pub(crate) struct Series(Vec<Duration>);

impl Series {
    /// Adds a round's time.
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The middle one, in milliseconds.
    pub(crate) fn median_ms(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    /// The fastest and the slowest, in milliseconds.
    pub(crate) fn range_ms(&self) -> (f64, f64) {
        let ms = |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
        (ms(self.0.iter().min()), ms(self.0.iter().max()))
    }

    /// The median over the rounds of this one's time divided by another's of the same round, which
    /// holds when the machine's speed drifts.
    pub(crate) fn over(&self, other: &Self) -> f64 {
        let pairs = self.0.iter().zip(&other.0);
        let mut ratios: Vec<_> = pairs.map(|(a, b)| a.as_secs_f64() / b.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_pairs() {
        let series = |times: [u64; 3]| Series(times.map(Duration::from_millis).to_vec());
        // A machine that is ten times slower in one round does not change the ratio.
        let (ours, theirs) = (series([20, 200, 22]), series([10, 100, 11]));
        assert!((ours.over(&theirs) - 2.0).abs() < 1e-9);
        assert!((ours.median_ms() - 22.0).abs() < 1e-9);
    }
}
