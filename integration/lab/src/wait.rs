//! Waiting for a condition, with a bound: the only way the lab waits for anything.

use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::error::LabError;

/// How often a condition that cannot announce itself is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks at a condition until it holds, and says what the last look saw if it never does.
///
/// `look` answers `Err` with what it saw as long as the condition does not hold. A look that itself
/// hangs ends with the bound.
pub async fn until<T, E: Display, Look: Future<Output = Result<T, E>>>(
    what: &str,
    bound: Duration,
    mut look: impl FnMut() -> Look,
) -> Result<T, LabError> {
    let started = Instant::now();
    let mut last = "nothing: the first look did not end".to_owned();
    let looking = async {
        let mut pace = tokio::time::interval(LOOK_EVERY);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            match look().await {
                Ok(found) => return found,
                Err(seen) => last = seen.to_string(),
            }
        }
    };
    match tokio::time::timeout(bound, looking).await {
        Ok(found) => Ok(found),
        Err(_) => Err(LabError::NotMet { what: what.to_owned(), waited: started.elapsed(), last }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_bound_holds_and_the_last_look_is_told() {
        let mut looks = 0;
        let found = until("three looks", Duration::from_secs(5), || {
            looks += 1;
            std::future::ready(if looks == 3 { Ok("found") } else { Err("not yet") })
        });
        assert_eq!(found.await.unwrap(), "found");
        let never = until("rain", Duration::from_millis(120), || async { Err::<(), _>("sun") });
        let error = never.await.unwrap_err().to_string();
        assert!(error.contains("rain") && error.ends_with("last seen: sun"), "{error}");
        let hung = until("an answer", Duration::from_millis(50), || {
            std::future::pending::<Result<(), String>>()
        });
        assert!(hung.await.unwrap_err().to_string().contains("the first look did not end"));
    }
}
