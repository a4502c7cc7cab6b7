//! The operators' interface: what the daemons say on `/run/dockline/*.sock`, and a client for it.
//!
//! JSON over HTTP/1.1 on a Unix socket of mode 0600, apart from Docker's own sockets. Paths begin
//! with the version ([`PREFIX`]); fields are only ever added to a version. What each verb does is
//! the daemons' business; here are the shapes that both sides share.

mod client;
pub mod ipam;
pub mod net;
mod verb;
pub mod vol;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use client::{Client, ClientError};
pub use verb::Verb;

/// What every path of this version of the interface begins with.
pub const PREFIX: &str = "/v1/";

/// How something that a daemon needs is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "why")]
pub enum Health {
    /// It works.
    Ok,
    /// It works, though not as it could: what is missing, and what to do.
    Degraded(String),
    /// It does not work: what is wrong, and what to do.
    Down(String),
}

/// Something that a daemon needs: its store, a switch, a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it is to the daemon: `store`, `switch`, `datapath`, `backend`.
    pub role: String,
    /// What serves as it: `embedded /var/lib/dockline/ipam.redb`, `userspace (netdev)`.
    pub what: String,
    /// How it is doing.
    #[serde(flatten)]
    pub health: Health,
}

/// A daemon's answer to `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon, as Docker knows it: `dockline-net`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How long it has run, in seconds.
    pub uptime_s: u64,
    /// What it needs.
    pub parts: Vec<Part>,
    /// How many things it looks after, by kind: `networks`, `endpoints`.
    pub counts: BTreeMap<String, u64>,
}

/// An answer that is not a success: its HTTP status says whose fault it is, this what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong, and what to do.
    pub error: String,
}
