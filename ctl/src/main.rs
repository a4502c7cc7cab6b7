//! `dockline`: the operators' command.
//!
//! It asks the daemons over their admin sockets and shows what they say, as a table for people or
//! as JSON for programs. It decides nothing and keeps nothing.

mod ip;
mod net;
mod status;
mod table;
mod volume;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use dockline_daemon::Config;

#[derive(Debug, Parser)]
#[command(name = "dockline", version, about = "See and steer Dockline's daemons on this host.")]
struct Arguments {
    /// The daemons' configuration file; without one, /etc/dockline/dockline.toml if it is there.
    #[arg(long, global = true, env = "DOCKLINE_CONFIG")]
    config: Option<PathBuf>,
    /// How to show the result.
    #[arg(long, short, global = true, default_value = "table")]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

/// How a result is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A table.
    Table,
    /// One JSON value.
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show how each daemon is doing. Exits with 1 unless all are up and well.
    Status,
    /// Reserve addresses, and see who has which.
    #[command(subcommand)]
    Ip(ip::IpVerb),
    /// See the pools.
    #[command(subcommand)]
    Pool(ip::PoolVerb),
    /// Free the addresses of a host that is gone for good; asks first.
    Gc {
        /// The host.
        #[arg(long)]
        host: String,
        /// Only show what it has left.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// See networks.
    #[command(subcommand)]
    Net(net::NetVerb),
    /// See ports, and change the bandwidth of one in use.
    #[command(subcommand)]
    Port(net::PortVerb),
    /// See and steer volumes.
    #[command(subcommand)]
    Volume(volume::Verb),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match Config::load(arguments.config.as_deref()) {
        Ok(config) => match arguments.verb {
            Verb::Status => status::show(&config, arguments.output).await,
            Verb::Ip(verb) => ip::ip(&config, verb, arguments.output).await,
            Verb::Pool(verb) => ip::pool(&config, verb, arguments.output).await,
            Verb::Gc { host, dry_run, yes } => {
                ip::gc(&config, host, dry_run, yes, arguments.output).await
            }
            Verb::Net(verb) => net::net(&config, arguments.output, verb).await,
            Verb::Port(verb) => net::port(&config, arguments.output, verb).await,
            Verb::Volume(verb) => volume::carry_out(&config, verb, arguments.output).await,
        },
        Err(error) => Err(error.into()),
    };
    done.unwrap_or_else(|error: anyhow::Error| {
        eprintln!("dockline: {error:#}");
        ExitCode::FAILURE
    })
}
