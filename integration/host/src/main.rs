//! `dockline-up`: what `make up`, `make down` and `make purge` run.
//!
//! It starts what is missing on this machine (dockerd, Open vSwitch, Dockline's daemons), keeps in
//! mind what it started, and stops just that again. It installs nothing: `integration/prepare.sh`
//! does, before.

mod machine;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "dockline-up", about = "Start the suite on this machine and show what it does.")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start what is missing and run the demonstration.
    Up,
    /// Stop and remove what `up` made; volumes stay.
    Down,
    /// The same, and remove the volumes and all state too.
    Purge,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Up => machine::up().await,
        Verb::Down => machine::down(false).await,
        Verb::Purge => machine::down(true).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndockline-up: {error:#}");
            eprintln!(
                "The logs are in {}. `make up` may be run again; `make down` cleans up.",
                machine::FOLDER
            );
            ExitCode::FAILURE
        }
    }
}
