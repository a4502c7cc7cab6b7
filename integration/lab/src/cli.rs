//! The `dockline-lab` command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::agent;
use crate::mark::LabId;
use crate::sweep::{reap, sweep};

/// Nodes with a kernel of their own: device-mapper, LVM, kernel Open vSwitch, cgroup v2.
#[derive(Debug, Parser)]
#[command(name = "dockline-lab", version)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Remove what killed labs have left.
    Sweep,
    /// Serve commands inside a node; started by the node itself.
    #[command(hide = true)]
    Agent {
        /// The boot config as JSON.
        config: String,
    },
    /// Remove a lab when its owner has ended; started by the lab itself.
    #[command(hide = true)]
    Reap {
        /// The lab.
        id: LabId,
    },
}

/// Runs the command.
pub fn main() -> ExitCode {
    if let Some(config) = agent::init::wanted() {
        let error = agent::init::run(&config);
        eprintln!("lab init: {error:?}");
        return ExitCode::FAILURE;
    }
    let done = match Args::parse().what {
        What::Sweep => sweep().map(|swept| {
            for id in swept {
                println!("swept lab {id}");
            }
        }).map_err(anyhow::Error::from),
        What::Agent { config } => agent::serve::run(&config),
        What::Reap { id } => reap(id).map_err(Into::into),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dockline-lab: {error:?}");
            ExitCode::FAILURE
        }
    }
}
