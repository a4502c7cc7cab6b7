//! Telling a person at a terminal what goes on, and waiting for things to come true.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How often a long step shows that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Waits until a condition holds; an error of the condition ends the waiting.
///
/// For conditions outside this program, which cannot tell when they change.
#[expect(clippy::disallowed_methods, reason = "the one place that looks again and again")]
pub async fn wait_until(
    what: &str,
    patience: Duration,
    mut holds: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let started = Instant::now();
    while !holds().await? {
        if started.elapsed() > patience {
            bail!("waited {} s in vain until {what}", patience.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Says what is being done, does it, and shows in between that it is still at it.
pub async fn step<T>(what: &str, doing: impl Future<Output = Result<T>>) -> Result<T> {
    println!("==> {what}");
    let started = Instant::now();
    let mut ticks = tokio::time::interval(SIGN_OF_LIFE);
    ticks.tick().await;
    tokio::pin!(doing);
    loop {
        tokio::select! {
            done = &mut doing => return done,
            _ = ticks.tick() => println!("    … still at it ({} s)", started.elapsed().as_secs()),
        }
    }
}

/// Says something about the step that is being done.
pub fn note(text: impl std::fmt::Display) {
    for line in text.to_string().lines() {
        println!("    {line}");
    }
}
