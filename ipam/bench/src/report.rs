//! The figures, and where they are written to.

use std::path::Path;

use serde::Serialize;

use crate::measure::Seen;
use crate::stage::Kind;

/// One store's figures. Ratios are of ours to the bare store's.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// Addresses per second over bare create transactions per second, 64 clients.
    pub(crate) alloc_rate_over_txn_c64: f64,
    /// The same with 512 clients.
    pub(crate) alloc_rate_over_txn_c512: f64,
    /// The median wait for an address over that for a bare transaction, one client.
    pub(crate) p50_over_txn_c1: f64,
    /// The rate with an empty pool over that with a million held, 64 clients.
    pub(crate) slowdown_at_1m: f64,
    /// The daemon's resident memory with a million held, in MiB.
    pub(crate) rss_mib_at_1m: f64,
    /// From start to first answer with a million held, over a plain paged read of the same.
    pub(crate) ready_over_paged_read_1m: f64,
    /// What was seen, by the number of clients.
    seen: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    clients: usize,
    txn_per_s: f64,
    txn_p50_ms: f64,
    alloc_per_s: f64,
    alloc_p50_ms: f64,
    alloc_p99_ms: f64,
    alloc_p999_ms: f64,
}

impl Figures {
    /// Takes in a pair of measurements.
    pub(crate) fn add(&mut self, clients: usize, bare: &Seen, ours: &Seen) {
        let ratio = ours.rate() / bare.rate();
        match clients {
            1 => self.p50_over_txn_c1 = ours.wait_ms(500) / bare.wait_ms(500),
            64 => self.alloc_rate_over_txn_c64 = ratio,
            _ => self.alloc_rate_over_txn_c512 = ratio,
        }
        self.seen.push(Row {
            clients,
            txn_per_s: bare.rate(),
            txn_p50_ms: bare.wait_ms(500),
            alloc_per_s: ours.rate(),
            alloc_p50_ms: ours.wait_ms(500),
            alloc_p99_ms: ours.wait_ms(990),
            alloc_p999_ms: ours.wait_ms(999),
        });
    }
}

/// All figures.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// One choice with 65 thousand addresses held among as many holes, in microseconds.
    pub(crate) choose_us_65k_fragmented: f64,
    pub(crate) embedded: Option<Figures>,
    pub(crate) etcd1: Option<Figures>,
    pub(crate) etcd3: Option<Figures>,
}

impl Report {
    /// Takes in a store's figures.
    pub(crate) fn set(&mut self, kind: Kind, figures: Figures) {
        let place = match kind {
            Kind::Embedded => &mut self.embedded,
            Kind::Etcd1 => &mut self.etcd1,
            Kind::Etcd3 => &mut self.etcd3,
        };
        *place = Some(figures);
    }

    /// Writes what there is so far.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(path, serde_json::to_vec_pretty(self)?)?)
    }
}
