//! Waiting for a condition, with a bound.

use std::time::{Duration, Instant};

use anyhow::bail;

/// Looks again and again until `condition` gives a value; fails after `patience` naming `what`.
pub async fn eventually<T>(
    what: &str,
    patience: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return Ok(value);
        }
        if started.elapsed() > patience {
            bail!("waited {patience:?} in vain for {what}");
        }
        #[expect(clippy::disallowed_methods, reason = "the pause between two looks")]
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
