//! `make bench-ipam`: what an address costs, beside what a bare transaction of the same store costs.
//!
//! Everything is measured in one run, side by side, so that the ratios hold on a noisy machine: the
//! bare transactions before and after ours, of which the better figure counts. The daemon is the
//! real one, asked over its real socket.

mod choose;
mod fill;
mod measure;
mod plugin;
mod raw;
mod report;
mod stage;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use report::{Figures, Report};
use stage::{Kind, Stage};

/// How many clients ask at once.
const CLIENTS: [usize; 3] = [1, 64, 512];

/// What an IPAM daemon of Dockline costs beside its bare store.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// The stores to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["embedded", "etcd1", "etcd3"])]
    stores: Vec<Kind>,
    /// How many addresses a pool holds in the measurements with a full one.
    #[arg(long, default_value_t = 1_000_000)]
    held: u32,
    /// Where the figures are written to.
    #[arg(long, default_value = "target/bench/ipam.json")]
    json: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut report = Report { choose_us_65k_fragmented: choose::fragmented(), ..Report::default() };
    println!("choosing at 65 thousand held, fragmented: {:.2} us", report.choose_us_65k_fragmented);
    for kind in &arguments.stores {
        let figures = store(*kind, &arguments).await;
        let figures = figures.with_context(|| format!("measuring {kind:?}"))?;
        report.set(*kind, figures);
        report.write(&arguments.json)?;
    }
    println!("\n{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

/// All figures of one store.
async fn store(kind: Kind, arguments: &Arguments) -> anyhow::Result<Figures> {
    println!("\n== {kind:?}");
    let length = Duration::from_secs(arguments.seconds);
    let mut figures = Figures::default();
    let stage = Stage::start(kind).await?;
    let mut raw = Vec::new();
    for clients in CLIENTS {
        raw.push(raw::creates(&stage, clients, length).await?);
    }
    let daemon = plugin::Daemon::start(&stage).await?;
    let mut ours = Vec::new();
    for clients in CLIENTS {
        ours.push(daemon.requests(clients, length).await?);
    }
    for (at, clients) in CLIENTS.into_iter().enumerate() {
        let after = raw::creates(&stage, clients, length).await?;
        // Whichever is the better for the bare store.
        let before = &raw[at];
        let best = if after.rate() > before.rate() { after } else { before.clone() };
        println!("{clients:>4} clients, bare create:  {best}");
        println!("{clients:>4} clients, an address:   {}", ours[at]);
        figures.add(clients, &best, &ours[at]);
    }
    let empty = ours[1].rate();
    daemon.stop().await?;
    drop(stage);
    full(kind, arguments, empty, &mut figures).await?;
    Ok(figures)
}

/// The same with a pool that holds many addresses already.
async fn full(
    kind: Kind,
    arguments: &Arguments,
    empty: f64,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let length = Duration::from_secs(arguments.seconds);
    for held in [10_000, arguments.held] {
        let stage = Stage::start(kind).await?;
        plugin::Daemon::start(&stage).await?.stop().await?;
        fill::fill(&stage, held).await?;
        let paged = raw::paged_read(&stage).await?;
        let daemon = plugin::Daemon::start(&stage).await?;
        let ready = daemon.ready();
        let memory = daemon.resident_mib()?;
        let rate = daemon.requests(64, length).await?;
        println!(
            "{held} held: ready in {ready:.2?} (paged read {paged:.2?}), {memory:.1} MiB, 64 \
             clients: {rate}"
        );
        if held == arguments.held {
            figures.slowdown_at_1m = empty / rate.rate();
            figures.rss_mib_at_1m = memory;
            figures.ready_over_paged_read_1m = ready.as_secs_f64() / paged.as_secs_f64();
        }
        daemon.stop().await?;
    }
    Ok(())
}
