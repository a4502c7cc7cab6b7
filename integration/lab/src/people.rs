//! Labs for people: a shell on a fresh node, or one command.
//!
//! The terminal's settings are left alone unless raw mode is asked for; the kernel of a node never
//! sees the terminal at all.

use std::io::IsTerminal;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt, stderr, stdin, stdout};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::channel::number;
use crate::cli::Topology;
use crate::wire::{CHUNK, Kind, Terminal, receive, send};
use crate::{Cmd, Lab, LabError, Node, NodeSpec, Userland};

/// The size of a shell's terminal when the real one's is not known.
const SIZE: (u16, u16) = (40, 120);

/// The size of each disk in MiB; sparse.
const DISK: u64 = 8 << 10;

async fn boot(topology: &Topology) -> anyhow::Result<Lab> {
    let userland = if topology.debian13 { Userland::Debian13 } else { Userland::Debian12 };
    let mut lab = Lab::builder("for people").quiet();
    for at in 1..=topology.nodes {
        let node = NodeSpec::new(format!("n{at}"))
            .userland(userland)
            .memory_mib(topology.memory)
            .card_at(Ipv4Addr::new(10, 77, 0, at), 24)
            .card();
        lab = lab.node((0..topology.disks).fold(node, |node, _| node.disk_mib(DISK)));
    }
    let lab = lab.boot().await?;
    let mut config = String::new();
    if topology.etcd {
        let endpoints = lab.start_etcd().await?;
        eprintln!("etcd serves at {}", endpoints.join(","));
        config += &format!("[store]\nkind = \"etcd\"\nendpoints = {endpoints:?}\n");
    }
    if topology.disks > 0 {
        config += "[vol]\ngroups = [{ name = \"vg0\", class = \"ssd\" }]\n";
    }
    let mut starts = JoinSet::new();
    for node in lab.nodes() {
        starts.spawn(start(node.clone(), topology.clone(), config.clone()));
    }
    while let Some(started) = starts.join_next().await {
        started??;
    }
    Ok(lab)
}

/// Starts what is asked for on a node.
async fn start(node: Node, topology: Topology, config: String) -> Result<(), LabError> {
    // Before dockerd, which may ask it at once; but it waits for the node's age.
    if topology.ovs || topology.suite {
        node.start_ovs().await?;
        eprintln!("Open vSwitch runs on {}", node.name());
    }
    if topology.suite {
        if topology.disks > 0 {
            node.make_volume_group().await?;
        }
        node.configure_dockline(&format!("host = {:?}\n{config}", node.name())).await?;
        node.start_dockline().await?;
        eprintln!("Dockline runs on {}", node.name());
    }
    if topology.docker || topology.suite {
        node.start_dockerd(&[]).await?;
        node.import_busybox().await?;
        eprintln!("dockerd runs on {}", node.name());
    }
    Ok(())
}

/// Ends with what ended first: the work, or a signal that asks this process to end, which is
/// answered with the code a shell would report.
async fn unless_told_to_end(work: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
    let mut hang_up = signal(SignalKind::hangup()).context("listening for signals")?;
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => Ok(130),
        _ = terminate.recv() => Ok(143),
        _ = hang_up.recv() => Ok(129),
    }
}

/// Boots nodes, runs one command on the first and returns its exit code.
pub(crate) async fn command(
    topology: &Topology,
    argv: Vec<String>,
    deadline: Duration,
) -> anyhow::Result<u8> {
    let cmd = match argv.as_slice() {
        [script] if script.contains(char::is_whitespace) => Cmd::new("sh").arg("-c").arg(script),
        [program, args @ ..] => Cmd::new(program).args(args),
        [] => bail!("no command was given"),
    };
    unless_told_to_end(async {
        let lab = boot(topology).await?;
        let node = lab.nodes().first().context("the lab has no node")?;
        let code = node.stream(cmd.deadline(deadline), &mut stdout(), &mut stderr()).await?;
        stdout().flush().await?;
        lab.down().await?;
        Ok(u8::try_from(code).unwrap_or(u8::MAX))
    })
    .await
}

/// Boots nodes and opens a shell on the first.
pub(crate) async fn shell(topology: &Topology, raw: bool) -> anyhow::Result<u8> {
    if raw && !std::io::stdin().is_terminal() {
        bail!("--raw needs a terminal on standard input");
    }
    let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
    let lab = tokio::select! {
        lab = boot(topology) => lab?,
        _ = terminate.recv() => return Ok(143),
    };
    let node = lab.nodes().first().context("the lab has no node")?;
    eprintln!(
        "A shell on {}; `exit` ends the lab. Its disks are /dev/ubda and on, this build's programs \
         are on its PATH, vec1 is free for the bridge as a trunk.\nFrom the machine, see the trunk with: nsenter --net={} ip link",
        node.name(),
        lab.id().namespace().display()
    );
    let guard = raw.then(RawMode::enter).transpose()?;
    let code = tokio::select! {
        code = session(node, raw) => code,
        _ = terminate.recv() => Ok(143),
    };
    drop(guard);
    lab.down().await?;
    code
}

/// Carries the shell's input and output until it ends.
async fn session(node: &Node, raw: bool) -> anyhow::Result<u8> {
    // The real terminal echoes and edits lines, unless it is raw: one of the two must not.
    let editing = if raw { "" } else { "--noediting" };
    let prompt = format!("PS1='{}:\\w# '", node.name());
    let start = format!("exec env {prompt} bash --norc --noprofile {editing} -i");
    let (rows, columns) = terminal_size::terminal_size()
        .map_or(SIZE, |(terminal_size::Width(columns), terminal_size::Height(rows))| {
            (rows, columns)
        });
    let cmd = Cmd::new("sh").arg("-c").arg(start).env("TERM", "xterm-256color").folder("/root");
    let connection = node.terminal(&cmd, Terminal { rows, columns, echo: raw }).await?;
    carry(connection).await
}

async fn carry(connection: TcpStream) -> anyhow::Result<u8> {
    let (mut from, mut to) = connection.into_split();
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for signals")?;
    let (mut input, mut screen) = (stdin(), stdout());
    let mut typed = vec![0; CHUNK];
    let mut open = true;
    let reading = async {
        loop {
            match receive(&mut from).await? {
                Some((Kind::Stdout, bytes)) => {
                    screen.write_all(&bytes).await?;
                    screen.flush().await?;
                }
                Some((Kind::Exit, code)) => {
                    return Ok(u8::try_from(number(&code)?).unwrap_or(u8::MAX));
                }
                Some((Kind::Failed, why)) => {
                    bail!("the shell did not start: {}", String::from_utf8_lossy(&why))
                }
                other => bail!("the node hung up: {:?}", other.map(|(kind, _)| kind)),
            }
        }
    };
    tokio::pin!(reading);
    loop {
        tokio::select! {
            code = &mut reading => return code,
            // In line mode ctrl-C comes as a signal; the shell is to get it as a key.
            _ = interrupt.recv() => send(&mut to, Kind::Stdin, b"\x03").await?,
            len = input.read(&mut typed), if open => {
                let len = len?;
                open = len > 0;
                // The end of the input is ctrl-D to the shell.
                let keys = if open { &typed[..len] } else { b"\x04".as_slice() };
                send(&mut to, Kind::Stdin, keys).await?;
            }
        }
    }
}

/// The terminal in raw mode, until this is dropped.
struct RawMode {
    before: Termios,
}

impl RawMode {
    fn enter() -> anyhow::Result<Self> {
        let terminal = std::io::stdin();
        let before = tcgetattr(terminal.as_fd()).context("reading the terminal's settings")?;
        let mut settings = before.clone();
        cfmakeraw(&mut settings);
        set(terminal.as_fd(), &settings).context("putting the terminal into raw mode")?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing is left to try if the terminal is gone.
        let _ = set(std::io::stdin().as_fd(), &self.before);
    }
}

fn set(terminal: BorrowedFd<'_>, settings: &Termios) -> nix::Result<()> {
    tcsetattr(terminal, SetArg::TCSADRAIN, settings)
}
