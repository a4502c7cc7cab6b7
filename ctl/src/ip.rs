//! `dockline ip`, `dockline pool` and `dockline gc`: addresses and pools.

use std::io::{BufRead, IsTerminal, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use comfy_table::{Table, presets};
use dockline_admin::ipam::{Addresses, Clear, Cleared, Pools, Reserve, Unreserve};
use dockline_admin::{Client, Verb};
use dockline_daemon::Config;

use crate::Output;

/// Longer than the daemon's own deadlines.
const PATIENCE: Duration = Duration::from_secs(120);

/// `dockline ip …`
#[derive(Debug, Subcommand)]
pub(crate) enum IpVerb {
    /// Keep an address for a container, also while it does not run.
    Reserve {
        /// The pool: its subnet, or SPACE/SUBNET.
        #[arg(long)]
        pool: String,
        /// The container's name.
        #[arg(long)]
        name: String,
        /// This address; without it, any that is free.
        #[arg(long)]
        ip: Option<IpAddr>,
        /// The MAC it is started with (--mac-address), for engines before 29, which tell no name.
        #[arg(long)]
        mac: Option<String>,
    },
    /// End a reservation; a container that runs keeps the address until it stops.
    Release {
        /// The pool.
        #[arg(long)]
        pool: String,
        /// The container's name.
        #[arg(long)]
        name: String,
    },
    /// List the addresses of a pool that are held or reserved.
    Ls {
        /// The pool.
        #[arg(long)]
        pool: String,
        /// Only those of this host.
        #[arg(long)]
        host: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
}

/// `dockline pool …`
#[derive(Debug, Subcommand)]
pub(crate) enum PoolVerb {
    /// List the pools and how full they are.
    Ls,
}

fn client(config: &Config) -> Client {
    Client::new(config.admin_socket("ipam"), PATIENCE)
}

async fn ask<V: Verb>(config: &Config, verb: &V) -> anyhow::Result<V::Answer> {
    Ok(client(config).call(verb).await?)
}

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    table.add_rows(rows);
    println!("{table}");
}

/// Carries out `dockline ip …`.
pub(crate) async fn ip(config: &Config, verb: IpVerb, output: Output) -> anyhow::Result<ExitCode> {
    match verb {
        IpVerb::Reserve { pool, name, ip, mac } => {
            let reserved = ask(config, &Reserve { pool, name, address: ip, mac }).await?;
            match output {
                Output::Table => println!("{}", reserved.address),
                Output::Json => println!("{}", serde_json::to_string_pretty(&reserved)?),
            }
        }
        IpVerb::Release { pool, name } => {
            let released = ask(config, &Unreserve { pool, name }).await?;
            match (output, released) {
                (Output::Json, released) => {
                    println!("{}", serde_json::to_string_pretty(&released)?);
                }
                (Output::Table, Some(released)) => println!("{}", released.address),
                (Output::Table, None) => println!("there was no such reservation"),
            }
        }
        IpVerb::Ls { pool, host, limit } => {
            let list = ask(config, &Addresses { pool, host, limit }).await?;
            if output == Output::Json {
                println!("{}", serde_json::to_string_pretty(&list)?);
                return Ok(ExitCode::SUCCESS);
            }
            let rows = list.addresses.into_iter().map(|row| {
                let since = std::time::UNIX_EPOCH + Duration::from_secs(row.since);
                let since = humantime::format_rfc3339_seconds(since).to_string();
                vec![row.address.to_string(), row.reserved.unwrap_or_default(), since, row.holder]
            });
            table(&["ADDRESS", "RESERVED FOR", "SINCE", "HELD BY"], rows);
            if list.more {
                eprintln!("there are more: see --limit");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Carries out `dockline pool …`.
pub(crate) async fn pool(
    config: &Config,
    verb: PoolVerb,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let PoolVerb::Ls = verb;
    let pools = ask(config, &Pools {}).await?;
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&pools)?);
        return Ok(ExitCode::SUCCESS);
    }
    let rows = pools.into_iter().map(|row| {
        let gateway = row.gateway.map(|gateway| gateway.to_string());
        let numbers = [row.held, row.reserved, row.resting, row.networks, row.hosts];
        let mut cells = vec![row.pool, row.usable];
        cells.extend(numbers.map(|number| number.to_string()));
        cells.push(gateway.unwrap_or_default());
        cells
    });
    let header = ["POOL", "USABLE", "HELD", "RESERVED", "RESTING", "NETWORKS", "HOSTS", "GATEWAY"];
    table(&header, rows);
    Ok(ExitCode::SUCCESS)
}

/// `dockline gc --host …`: shows what a host that is gone has left, asks, and frees it.
pub(crate) async fn gc(
    config: &Config,
    host: String,
    dry_run: bool,
    yes: bool,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let left = ask(config, &Clear { host: host.clone(), dry_run: true }).await?;
    let nothing = left.addresses.is_empty() && left.pools.is_empty();
    if dry_run || nothing {
        show(&left, output)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !yes {
        show(&left, Output::Table)?;
        anyhow::ensure!(
            std::io::stdin().is_terminal(),
            "say --yes if {host} is gone for good and all this may be freed"
        );
        eprint!("Is {host} gone for good, and may all this be freed? [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "yes") {
            println!("nothing was changed");
            return Ok(ExitCode::FAILURE);
        }
    }
    let cleared = ask(config, &Clear { host, dry_run: false }).await?;
    show(&cleared, output)?;
    Ok(ExitCode::SUCCESS)
}

fn show(cleared: &Cleared, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(cleared)?);
        return Ok(());
    }
    for pool in &cleared.pools {
        println!("its networks of the pool {pool}");
    }
    for address in &cleared.addresses {
        println!("{address}");
    }
    println!("{} addresses, {} pools", cleared.addresses.len(), cleared.pools.len());
    Ok(())
}
