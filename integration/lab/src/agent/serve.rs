//! The agent: listens on the node's control link and gives every connection a thread of its own.
//!
//! The control card lives in a network namespace of its own, so that nothing a test does to the
//! node's network (and no look at `ip link`) meets it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use super::command;
use super::init::run_program;
use crate::boot_config::{BootConfig, CONTROL_CARD};
use crate::wire::{AGENT_PORT, HELLO_PORT, Hello, Kind, VERSION, write};

/// Serves commands until the node loses power.
pub(crate) fn run(config: &str) -> anyhow::Result<()> {
    let config: BootConfig = serde_json::from_str(config).context("reading the boot config")?;
    let (tell, told) = mpsc::channel();
    let boot = config.boot;
    std::thread::spawn(move || {
        let _ = tell.send(listen(&config));
    });
    let (listener, mut lab) = told.recv().context("the control link's thread died")??;
    let hello = serde_json::to_vec(&Hello { version: VERSION, boot })?;
    write(&mut lab, Kind::Request, &hello).context("saying hello")?;
    loop {
        // A thread inherits its maker's namespaces: commands belong into the node's, which are
        // this thread's, not the listener's.
        let (connection, _) = listener.accept().context("accepting")?;
        std::thread::spawn(move || {
            if let Err(error) = command::serve(connection) {
                eprintln!("lab agent: {error}");
            }
        });
    }
}

/// Takes the control card out of sight and opens both ends of the conversation on it.
fn listen(config: &BootConfig) -> anyhow::Result<(TcpListener, TcpStream)> {
    unshare(CloneFlags::CLONE_NEWNET).context("making the control namespace")?;
    let here = format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid());
    let there = "/proc/1/ns/net";
    run_program(
        "nsenter",
        &[&format!("--net={there}"), "ip", "link", "set", CONTROL_CARD, "netns", &here],
    )?;
    let address = format!("{}/30", config.node_address);
    run_program("ip", &["address", "add", &address, "dev", CONTROL_CARD])?;
    run_program("ip", &["link", "set", CONTROL_CARD, "up"])?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, AGENT_PORT))?;
    let lab = SocketAddr::from((config.lab_address, HELLO_PORT));
    let lab = TcpStream::connect_timeout(&lab, Duration::from_secs(10))
        .context("calling the lab over the control link")?;
    Ok((listener, lab))
}
