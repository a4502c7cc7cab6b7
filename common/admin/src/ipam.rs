//! The verbs of `dockline-ipam`. A pool is named `SPACE/SUBNET`, or by its subnet alone in the space
//! of ordinary networks.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Verb;

/// Keeps an address for a container, also while it does not run. The same again is a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// The pool.
    pub pool: String,
    /// The container's name.
    pub name: String,
    /// This address; without one, any that is free.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// The MAC that the container is started with, by which engines before 29 can tell it.
    #[serde(default)]
    pub mac: Option<String>,
}

impl Verb for Reserve {
    const NAME: &'static str = "ip/reserve";
    type Answer = Reserved;
}

/// What was reserved, or no longer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// The address.
    pub address: IpAddr,
    /// Whether it was not so before.
    pub changed: bool,
}

/// Ends a reservation. A container that runs keeps its address until it stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreserve {
    /// The pool.
    pub pool: String,
    /// The container's name.
    pub name: String,
}

impl Verb for Unreserve {
    const NAME: &'static str = "ip/release";
    /// `None` if there was no such reservation.
    type Answer = Option<Reserved>;
}

/// Lists addresses that are held or reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The pool.
    pub pool: String,
    /// Only those of this host.
    #[serde(default)]
    pub host: Option<String>,
    /// At most so many.
    pub limit: usize,
}

impl Verb for Addresses {
    const NAME: &'static str = "ip/ls";
    type Answer = AddressList;
}

/// Addresses of a pool, in the order of the store's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressList {
    /// Them.
    pub addresses: Vec<AddressRow>,
    /// Whether there are more.
    pub more: bool,
}

/// An address that is held or reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRow {
    /// It.
    pub address: IpAddr,
    /// Who has it, in words.
    pub holder: String,
    /// For which container it is kept.
    pub reserved: Option<String>,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

/// Lists the pools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pools {}

impl Verb for Pools {
    const NAME: &'static str = "pool/ls";
    type Answer = Vec<PoolRow>;
}

/// A pool and its use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRow {
    /// `SPACE/SUBNET`.
    pub pool: String,
    /// How many addresses can be used at all; as text, since it may be beyond 64 bits.
    pub usable: String,
    /// How many are held or reserved.
    pub held: u64,
    /// How many of those are reserved.
    pub reserved: u64,
    /// How many were released a moment ago and rest.
    pub resting: u64,
    /// How many networks use it, on how many hosts.
    pub networks: u64,
    /// See [`Self::networks`].
    pub hosts: u64,
    /// The gateway of networks that name none.
    pub gateway: Option<IpAddr>,
}

/// Frees what a host that is gone for good has left: its addresses and its uses of pools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clear {
    /// The host, which must not be the one asked.
    pub host: String,
    /// Only say what would be freed.
    pub dry_run: bool,
}

impl Verb for Clear {
    const NAME: &'static str = "gc";
    type Answer = Cleared;
}

/// What was freed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cleared {
    /// The addresses, with who had them.
    pub addresses: Vec<String>,
    /// The pools that the host used.
    pub pools: Vec<String>,
}
