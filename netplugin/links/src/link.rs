//! A device as the kernel describes it.

use dockline_types::MacAddr;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

/// The kinds of device that are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One end of a veth pair.
    Veth,
    /// A tap, such as Open vSwitch's internal ports on the userspace datapath.
    Tun,
    /// Any other virtual device, by the kernel's word for it.
    Virtual(String),
    /// A device without a word for it: a NIC, the loopback.
    Plain,
}

/// Where the other end of a veth pair is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// In the same namespace, with this index: nothing has been given to a container.
    Here(u32),
    /// In another namespace: a container has it.
    Elsewhere,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number, unique in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Its address; `None` where it has none, or one that no interface can use.
    pub mac: Option<MacAddr>,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Whether it is switched on.
    pub up: bool,
    /// The index of the bridge, bond or switch that it belongs to.
    pub master: Option<u32>,
    /// The other end, of a veth pair.
    pub peer: Option<Peer>,
    /// What it has carried.
    pub counters: Counters,
}

/// What a device has carried, as seen from the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that came in.
    pub rx_packets: u64,
    /// Bytes that came in.
    pub rx_bytes: u64,
    /// Packets that came in and were dropped.
    pub rx_dropped: u64,
    /// Packets that went out.
    pub tx_packets: u64,
    /// Bytes that went out.
    pub tx_bytes: u64,
    /// Packets that were to go out and were dropped.
    pub tx_dropped: u64,
}

impl Link {
    /// Reads the kernel's description; `None` if it has no name.
    pub(crate) fn read(message: &LinkMessage) -> Option<Self> {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            kind: Kind::Plain,
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            master: None,
            peer: None,
            counters: Counters::default(),
        };
        let (mut other, mut elsewhere) = (None, false);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.master = Some(*index),
                LinkAttribute::Address(bytes) => link.mac = mac(bytes),
                LinkAttribute::Link(index) => other = Some(*index),
                LinkAttribute::Stats64(stats) => {
                    link.counters = Counters {
                        rx_packets: stats.rx_packets,
                        rx_bytes: stats.rx_bytes,
                        rx_dropped: stats.rx_dropped,
                        tx_packets: stats.tx_packets,
                        tx_bytes: stats.tx_bytes,
                        tx_dropped: stats.tx_dropped,
                    };
                }
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::LinkInfo(infos) => link.kind = kind(infos).unwrap_or(link.kind),
                _ => {}
            }
        }
        if link.kind == Kind::Veth {
            link.peer = match other {
                _ if elsewhere => Some(Peer::Elsewhere),
                Some(index) => Some(Peer::Here(index)),
                None => None,
            };
        }
        (!link.name.is_empty()).then_some(link)
    }
}

fn mac(bytes: &[u8]) -> Option<MacAddr> {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":").parse().ok()
}

fn kind(infos: &[LinkInfo]) -> Option<Kind> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(InfoKind::Veth) => Some(Kind::Veth),
        LinkInfo::Kind(InfoKind::Tun) => Some(Kind::Tun),
        LinkInfo::Kind(other) => Some(Kind::Virtual(other.to_string())),
        _ => None,
    })
}
