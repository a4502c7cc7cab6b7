//! Many clients that ask one after the other, and how long each waits.

use std::fmt;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

/// What clients saw.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// In microseconds, in order.
    waits: Vec<u32>,
    length: Duration,
}

impl Seen {
    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        u32::try_from(self.waits.len()).map_or(f64::NAN, f64::from) / self.length.as_secs_f64()
    }

    /// The wait that so many per mille did not exceed, in milliseconds.
    pub(crate) fn wait_ms(&self, per_mille: usize) -> f64 {
        let at = (self.waits.len() * per_mille / 1000).min(self.waits.len().saturating_sub(1));
        self.waits.get(at).map_or(f64::NAN, |wait| f64::from(*wait) / 1000.0)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99, p999) = (self.wait_ms(500), self.wait_ms(990), self.wait_ms(999));
        let rate = self.rate();
        write!(f, "{rate:>8.0}/s, p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms")
    }
}

/// Has each client ask again and again for `length`. A client is made by `connect`.
pub(crate) async fn clients<C: Send + 'static>(
    number: usize,
    length: Duration,
    connect: impl AsyncFn(usize) -> anyhow::Result<C>,
    ask: impl AsyncAsk<C>,
) -> anyhow::Result<Seen> {
    let mut made = Vec::new();
    for client in 0..number {
        made.push(connect(client).await?);
    }
    let started = Instant::now();
    let end = started + length;
    let tasks = made.into_iter().map(|mut client| {
        let ask = ask.clone();
        tokio::spawn(async move {
            let mut waits = Vec::new();
            while Instant::now() < end {
                let asked = Instant::now();
                ask.ask(&mut client).await?;
                waits.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
            anyhow::Ok(waits)
        })
    });
    let mut waits = Vec::new();
    for client in try_join_all(tasks.collect::<Vec<_>>()).await? {
        waits.extend(client?);
    }
    let length = started.elapsed();
    waits.sort_unstable();
    Ok(Seen { waits, length })
}

/// What a client asks for.
pub(crate) trait AsyncAsk<C>: Clone + Send + 'static {
    /// Asks once.
    fn ask(&self, client: &mut C) -> impl Future<Output = anyhow::Result<()>> + Send;
}
