//! The `dockline-lab` command line.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::agent;
use crate::images;
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
    /// Boot nodes and open a shell on the first.
    Shell {
        #[command(flatten)]
        topology: Topology,
        /// Put the terminal into raw mode, for completion, editors and pagers; its settings are
        /// restored at the end. Without it the shell takes whole lines.
        #[arg(long)]
        raw: bool,
    },
    /// Boot nodes, run one command on the first, and exit with its code.
    Run {
        #[command(flatten)]
        topology: Topology,
        /// Kill the command after this many seconds.
        #[arg(long, default_value_t = 3600)]
        deadline: u64,
        /// The command; one single word with spaces is a script for the node's shell.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Make the images of other distributions that are not there yet.
    Images,
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

/// What people can choose about their nodes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Topology {
    /// How many nodes: n1, n2… at 10.77.0.1, 10.77.0.2… on one trunk.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) nodes: u8,
    /// Run Debian 13's programs instead of the machine's own.
    #[arg(long)]
    pub(crate) debian13: bool,
    /// Disks per node, 8 GiB each: /dev/ubda, /dev/ubdb…
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=7))]
    pub(crate) disks: u8,
    /// Memory per node in MiB.
    #[arg(long, default_value_t = 2048)]
    pub(crate) memory: u32,
    /// Start an etcd cluster over all nodes; its clients' port is 2379.
    #[arg(long)]
    pub(crate) etcd: bool,
    /// Start Open vSwitch with the kernel datapath on every node.
    #[arg(long)]
    pub(crate) ovs: bool,
    /// Start dockerd on every node, with the image busybox:lab.
    #[arg(long)]
    pub(crate) docker: bool,
    /// Start Dockline on every node, and Open vSwitch and dockerd with it; volumes are on LVM, and
    /// with `--etcd` the pools are shared.
    #[arg(long)]
    pub(crate) suite: bool,
}

/// Runs the command line; also the first process of every node, which the kernel starts without
/// arguments.
pub fn main() -> ExitCode {
    if let Some(config) = agent::init::wanted() {
        return agent::init::run_or_power_off(&config);
    }
    match run(Args::parse().what) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("dockline-lab: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> anyhow::Result<u8> {
    match what {
        What::Agent { config } => agent::serve::run(&config)?,
        What::Reap { id } => reap(id)?,
        What::Sweep => {
            let swept = sweep()?;
            for id in &swept {
                println!("swept lab {id}");
            }
            if swept.is_empty() {
                println!("nothing to sweep");
            }
        }
        What::Images => println!("{}", finish(images::debian13())??.display()),
        What::Shell { topology, raw } => {
            return finish(crate::people::shell(&topology, raw))?;
        }
        What::Run { topology, deadline, command } => {
            let deadline = Duration::from_secs(deadline);
            return finish(crate::people::command(&topology, command, deadline))?;
        }
    }
    Ok(0)
}

/// Runs this to its end, and does not wait for a read of standard input that nobody will answer.
fn finish<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}
