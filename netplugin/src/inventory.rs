//! What there is, for operators: networks and ports with their limits and counters.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use dockline_admin::net::{self, NetworkInfo, PortInfo, PortState, SetRate, Traffic};
use dockline_links::{Link, Peer, Shaped};
use dockline_net_core::limit_options::LimitOptions;
use dockline_net_core::rate::{Limit, Limits};
use dockline_net_core::{Endpoint, Network, PortNames};
use dockline_types::EndpointId;

use crate::failure::Failure;
use crate::networks::Networks;
use crate::switch::Switch;

/// The fewest digits of an endpoint's id that name it.
const LEAST_DIGITS: usize = 4;

/// The networks and ports of this host.
#[derive(Debug)]
pub(crate) struct Inventory {
    host: String,
    networks: Arc<Networks>,
    switch: Arc<Switch>,
}

impl Inventory {
    /// Of this host.
    pub(crate) fn new(host: String, networks: Arc<Networks>, switch: Arc<Switch>) -> Self {
        Self { host, networks, switch }
    }

    /// All networks.
    pub(crate) async fn networks(&self) -> Result<Vec<NetworkInfo>, Failure> {
        let mut ports: BTreeMap<String, u64> = BTreeMap::new();
        for (endpoint, _) in self.endpoints().unwrap_or_default() {
            *ports.entry(endpoint.network.to_string()).or_default() += 1;
        }
        let all = self.networks.all().await?;
        let info = |network: &Arc<Network>| {
            let ports = ports.get(network.id.as_str()).copied().unwrap_or(0);
            network_info(network, ports)
        };
        Ok(all.iter().map(info).collect())
    }

    /// All ports.
    pub(crate) async fn ports(&self) -> Result<Vec<PortInfo>, Failure> {
        let links = self.switch.links().list().await?;
        let links: BTreeMap<_, _> = links.iter().map(|link| (link.name.as_str(), link)).collect();
        let shaped = self.switch.links().shaped().await?;
        let endpoints = self.endpoints().ok_or(Failure::NoPicture)?;
        let mut ports = Vec::new();
        for (endpoint, vlan) in endpoints {
            let seen = Seen::of(&endpoint.names()?, &links, &shaped);
            ports.push(port_info(&self.host, &endpoint, vlan, seen)?);
        }
        Ok(ports)
    }

    /// Changes a port's limits.
    pub(crate) async fn set_rate(&self, request: SetRate) -> Result<net::Limits, Failure> {
        let endpoint = self.find(&request.port)?;
        let given = [
            ("rx-rate", request.rx_rate.as_deref()),
            ("rx-burst", request.rx_burst.as_deref()),
            ("tx-rate", request.tx_rate.as_deref()),
            ("tx-burst", request.tx_burst.as_deref()),
        ];
        let change = |from| LimitOptions::change(given, from).map_err(Failure::from);
        Ok(limits_info(&self.switch.set_limits(&endpoint, change).await?))
    }

    /// The counters of all ports in Prometheus' text form.
    pub(crate) async fn metrics(&self) -> Option<String> {
        Some(metrics(&self.ports().await.ok()?))
    }

    /// Our endpoints with the VLANs of their ports; nothing while Open vSwitch does not answer.
    fn endpoints(&self) -> Option<Vec<(Endpoint, Option<u16>)>> {
        self.switch.look(|picture| {
            let ours = picture.ports().filter_map(|(_, port)| {
                let vlan = port.tag.and_then(|tag| u16::try_from(tag).ok()).filter(|tag| *tag > 0);
                Some((Endpoint::from_marks(&port.external_ids).ok()?, vlan))
            });
            ours.collect()
        })
    }

    fn find(&self, text: &str) -> Result<EndpointId, Failure> {
        let is_meant = |endpoint: &Endpoint| {
            let addresses = [endpoint.ipv4, endpoint.ipv6];
            let port = endpoint.names().is_ok_and(|names| names.switch.as_str() == text);
            port || (text.len() >= LEAST_DIGITS && endpoint.id.as_str().starts_with(text))
                || endpoint.mac.to_string().eq_ignore_ascii_case(text)
                || addresses.iter().flatten().any(|address| address.addr().to_string() == text)
        };
        let endpoints = self.endpoints().ok_or(Failure::NoPicture)?;
        let mut meant = endpoints.into_iter().map(|(it, _)| it).filter(is_meant);
        let short = || text.chars().take(64).collect();
        match (meant.next(), meant.next()) {
            (Some(one), None) => Ok(one.id),
            (Some(_), Some(_)) => Err(Failure::AmbiguousPort(short())),
            (None, _) => Err(Failure::UnknownPort(short())),
        }
    }
}

/// What the kernel says of an endpoint's devices.
struct Seen {
    state: PortState,
    rx: Traffic,
    tx: Traffic,
}

impl Seen {
    fn of(
        names: &PortNames,
        links: &BTreeMap<&str, &Link>,
        shaped: &BTreeMap<u32, Shaped>,
    ) -> Self {
        let none = Traffic::default();
        let Some(host) = links.get(names.host.as_str()) else {
            return Self { state: PortState::Dead, rx: none, tx: none };
        };
        let limited = |link: Option<&&Link>| {
            link.and_then(|link| shaped.get(&link.index)).map_or(0, |shaped| shaped.dropped)
        };
        let state = match host.peer {
            Some(Peer::Elsewhere) => PortState::Used,
            _ => PortState::Unused,
        };
        // What goes out of the host's end comes in at the container's.
        let (counters, joint) = (host.counters, links.get(names.joint.as_str()));
        let rx_limited = limited(Some(host));
        let tx_limited = limited(joint);
        let rx = Traffic {
            packets: counters.tx_packets,
            bytes: counters.tx_bytes,
            dropped: counters.tx_dropped.max(rx_limited),
            limited: rx_limited,
        };
        let lost = joint.map_or(0, |joint| joint.counters.tx_dropped).max(tx_limited);
        let tx = Traffic {
            packets: counters.rx_packets,
            bytes: counters.rx_bytes,
            dropped: counters.rx_dropped + lost,
            limited: tx_limited,
        };
        Self { state, rx, tx }
    }
}

fn limits_info(limits: &Limits) -> net::Limits {
    let one = |limit: Limit| net::Limit {
        rate: limit.rate.to_string(),
        burst: limit.burst.map(|burst| burst.to_string()),
    };
    net::Limits { rx: limits.rx.map(one), tx: limits.tx.map(one) }
}

fn network_info(network: &Network, ports: u64) -> NetworkInfo {
    let subnet = |subnet: &dockline_net_core::network::Subnet| {
        (subnet.pool.to_string(), subnet.gateway.map(|gateway| gateway.to_string()))
    };
    NetworkInfo {
        id: network.id.to_string(),
        vlan: network.vlan.map(|vlan| vlan.get()),
        mtu: network.mtu.bytes(),
        internal: network.internal,
        subnets: network.subnets.iter().map(subnet).collect(),
        limits: limits_info(&network.limits),
        ports,
    }
}

fn port_info(
    host: &str,
    endpoint: &Endpoint,
    vlan: Option<u16>,
    seen: Seen,
) -> Result<PortInfo, Failure> {
    let addresses = [endpoint.ipv4, endpoint.ipv6];
    Ok(PortInfo {
        port: endpoint.names()?.switch.to_string(),
        host: host.to_owned(),
        endpoint: endpoint.id.to_string(),
        network: endpoint.network.to_string(),
        state: seen.state,
        vlan,
        trunk: endpoint.trunk.as_ref().map(ToString::to_string),
        mac: endpoint.mac.to_string(),
        addresses: addresses.iter().flatten().map(ToString::to_string).collect(),
        limits: limits_info(&endpoint.limits),
        rx: seen.rx,
        tx: seen.tx,
    })
}

/// A counter: its name, what it is, and where it stands.
type Counter = (&'static str, &'static str, fn(&Traffic) -> u64);

const COUNTERS: [Counter; 4] = [
    ("bytes", "Bytes that a container received or sent.", |traffic| traffic.bytes),
    ("packets", "Packets that a container received or sent.", |traffic| traffic.packets),
    ("dropped", "Packets lost between a container and the switch.", |traffic| traffic.dropped),
    ("limited", "Packets dropped because they were beyond the limit.", |traffic| traffic.limited),
];

/// Names and ids hold nothing that would have to be escaped.
fn metrics(ports: &[PortInfo]) -> String {
    let mut text = String::new();
    for (name, help, value) in COUNTERS {
        let name = format!("dockline_net_port_{name}_total");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
        for port in ports {
            for (direction, traffic) in [("rx", &port.rx), ("tx", &port.tx)] {
                let (id, network, value) = (&port.port, &port.network, value(traffic));
                let _ = writeln!(
                    text,
                    "{name}{{port=\"{id}\",network=\"{network}\",direction=\"{direction}\"}} {value}"
                );
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_sends_is_what_the_container_receives() {
        let names = PortNames::of(&"aaaa".parse().unwrap()).unwrap();
        let counters = dockline_links::Counters {
            rx_packets: 1,
            rx_bytes: 2,
            rx_dropped: 3,
            tx_packets: 4,
            tx_bytes: 5,
            tx_dropped: 6,
        };
        let link = |index, name: &str| Link {
            index,
            name: name.to_owned(),
            kind: dockline_links::Kind::Veth,
            mac: None,
            mtu: 1500,
            up: true,
            master: None,
            peer: Some(Peer::Elsewhere),
            counters,
        };
        let (host, joint) = (link(1, "dh-aaaa"), link(2, "ds-aaaa"));
        let links = [("dh-aaaa", &host), ("ds-aaaa", &joint)].into();
        let shaped = [(2, Shaped { bytes_per_s: 1, queue: 1, dropped: 9 })].into();
        let Seen { state, rx, tx } = Seen::of(&names, &links, &shaped);
        assert_eq!(state, PortState::Used);
        assert_eq!(rx, Traffic { packets: 4, bytes: 5, dropped: 6, limited: 0 });
        assert_eq!(tx, Traffic { packets: 1, bytes: 2, dropped: 12, limited: 9 });
    }
}
