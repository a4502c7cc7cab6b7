//! `dockline-bench`: what Dockline costs beside what Docker has of its own, in one run.
//!
//! Absolute times on a shared machine mean little, so every figure stands beside its rivals' of the
//! same rounds, and what counts is the ratio. Results are also written as JSON to `target/bench/`.

mod run;
mod series;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "dockline-bench", about = "Measure Dockline beside its rivals, in one run.")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// `docker run` and `docker network connect` on our network, Docker's bridge and macvlan.
    Run {
        /// How many rounds; each does everything once.
        #[arg(long, default_value_t = 15)]
        rounds: usize,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Arguments::parse().what {
        What::Run { rounds } => run::measure(rounds).await,
    }
}
