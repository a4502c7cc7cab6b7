//! `dockline-capture`: stands between dockerd and plugins and writes down what they say.
//!
//! Its files are what the types of `plugin-specs` are tested against: one JSON object a line with
//! the method, the request, the status and the answer. It changes nothing on the way.
//!
//! * [`proxy`]: the one that stands between.
//! * [`scenario`]: what is done meanwhile, on a stage of its own.

mod proxy;
mod scenario;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "dockline-capture", about = "Write down what dockerd and plugins say.")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Stand between dockerd and one plugin.
    Proxy {
        /// The socket to listen on: what dockerd calls.
        #[arg(long)]
        listen: PathBuf,
        /// The plugin's own socket.
        #[arg(long)]
        forward: PathBuf,
        /// The file to add lines to.
        #[arg(long)]
        output: PathBuf,
    },
    /// Run every kind of call on a stage and write the files of this machine's engine.
    Scenario {
        /// The folder of the files.
        #[arg(long)]
        output: PathBuf,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Arguments::parse().verb {
        Verb::Proxy { listen, forward, output } => proxy::run(&listen, forward, &output).await,
        Verb::Scenario { output } => scenario::run(&output).await,
    }
}
