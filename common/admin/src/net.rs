//! The verbs of `dockline-net`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Verb;

/// Lists the networks.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct NetworkList {}

impl Verb for NetworkList {
    const NAME: &'static str = "networks/list";
    type Answer = Vec<NetworkInfo>;
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    /// Docker's id of it.
    pub id: String,
    /// Its VLAN; untagged without one.
    pub vlan: Option<u16>,
    /// The MTU of its containers' interfaces, in bytes.
    pub mtu: u32,
    /// Whether its containers get no default route.
    pub internal: bool,
    /// Its subnets, each with its gateway.
    pub subnets: BTreeMap<String, Option<String>>,
    /// What each of its containers may receive and send.
    pub limits: Limits,
    /// How many ports it has on this host.
    pub ports: u64,
}

/// Lists the ports.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct PortList {}

impl Verb for PortList {
    const NAME: &'static str = "ports/list";
    type Answer = Vec<PortInfo>;
}

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The rate, as in `10mbit`.
    pub rate: String,
    /// The burst, as in `64KiB`, if it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<String>,
}

/// What a container may receive and send; nothing means without limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// What it receives.
    pub rx: Option<Limit>,
    /// What it sends.
    pub tx: Option<Limit>,
}

/// What a container has received or sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets that came through.
    pub packets: u64,
    /// Bytes that came through.
    pub bytes: u64,
    /// Packets lost on the way.
    pub dropped: u64,
    /// Of these, packets beyond the limit.
    pub limited: u64,
}

/// Whether a container has a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortState {
    /// A container has it.
    Used,
    /// No container has it yet, or any more.
    Unused,
    /// Its devices are gone; it will be removed.
    Dead,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortInfo {
    /// Its name on the switch.
    pub port: String,
    /// This host.
    pub host: String,
    /// Docker's id of its endpoint.
    pub endpoint: String,
    /// Docker's id of its network.
    pub network: String,
    /// Whether a container has it.
    pub state: PortState,
    /// The VLAN that its container gets untagged.
    pub vlan: Option<u16>,
    /// The VLANs that its container gets tagged.
    pub trunk: Option<String>,
    /// Its container's MAC.
    pub mac: String,
    /// Its container's addresses.
    pub addresses: Vec<String>,
    /// What its container may receive and send.
    pub limits: Limits,
    /// What its container has received.
    pub rx: Traffic,
    /// What its container has sent.
    pub tx: Traffic,
}

/// Changes a port's limits while it is in use. What is not given stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SetRate {
    /// Which: the name of a port, the id of an endpoint or its beginning, a MAC, or an address.
    pub port: String,
    /// What its container may receive; `none` for no limit.
    pub rx_rate: Option<String>,
    /// What it may receive at once.
    pub rx_burst: Option<String>,
    /// What its container may send; `none` for no limit.
    pub tx_rate: Option<String>,
    /// What it may send at once.
    pub tx_burst: Option<String>,
}

impl Verb for SetRate {
    const NAME: &'static str = "ports/set-rate";
    type Answer = Limits;
}
