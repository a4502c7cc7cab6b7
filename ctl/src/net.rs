//! `dockline net` and `dockline port`: networks and ports, and the bandwidth of a port in use.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::Table;
use dockline_admin::Client;
use dockline_admin::net::{
    Limit, Limits, NetworkInfo, NetworkList, PortInfo, PortList, PortState, SetRate, Traffic,
};
use dockline_daemon::Config;

use crate::Output;
use crate::table::{print, table};

/// A change waits for Open vSwitch, which the daemon gives this long.
const PATIENCE: Duration = Duration::from_secs(45);

/// How much of an id is shown in a table, as Docker does.
const ID_SHOWN: usize = 12;

#[derive(Debug, Subcommand)]
pub(crate) enum NetVerb {
    /// List the networks of this host.
    Ls,
    /// Show one network: the beginning of its id.
    Show {
        /// The beginning of the network's id.
        network: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PortVerb {
    /// List the ports of this host.
    Ls,
    /// Show one port with its counters.
    Show {
        /// The port's name, the beginning of the endpoint's id, a MAC or an address.
        port: String,
    },
    /// Change what a container may receive and send, while it runs.
    SetRate(Rates),
}

#[derive(Debug, Args)]
pub(crate) struct Rates {
    /// The port's name, the beginning of the endpoint's id, a MAC or an address.
    port: String,
    /// What the container may receive: 500kbit, 10mbit, 2.5gbit; `none` for no limit.
    #[arg(long)]
    rx_rate: Option<String>,
    /// What it may receive at once: 64KiB.
    #[arg(long)]
    rx_burst: Option<String>,
    /// What the container may send; `none` for no limit.
    #[arg(long)]
    tx_rate: Option<String>,
    /// What it may send at once.
    #[arg(long)]
    tx_burst: Option<String>,
}

/// Carries out `dockline net …`.
pub(crate) async fn net(
    config: &Config,
    output: Output,
    verb: NetVerb,
) -> anyhow::Result<ExitCode> {
    let mut networks = client(config).call(&NetworkList {}).await?;
    if let NetVerb::Show { network } = verb {
        networks.retain(|known| known.id.starts_with(&network));
        anyhow::ensure!(networks.len() == 1, "{} networks begin with {network}", networks.len());
    }
    print(output, &networks, || networks_table(&networks))
}

/// Carries out `dockline port …`.
pub(crate) async fn port(
    config: &Config,
    output: Output,
    verb: PortVerb,
) -> anyhow::Result<ExitCode> {
    let client = client(config);
    let ports = match verb {
        PortVerb::Ls => client.call(&PortList {}).await?,
        PortVerb::Show { port } => {
            let mut ports = client.call(&PortList {}).await?;
            ports.retain(|known| is_called(known, &port));
            anyhow::ensure!(ports.len() == 1, "{} ports are called {port}", ports.len());
            ports
        }
        PortVerb::SetRate(Rates { port, rx_rate, rx_burst, tx_rate, tx_burst }) => {
            let request = SetRate { port, rx_rate, rx_burst, tx_rate, tx_burst };
            let limits = client.call(&request).await?;
            return print(output, &limits, || limits_table(&limits));
        }
    };
    print(output, &ports, || ports_table(&ports))
}

fn client(config: &Config) -> Client {
    Client::new(config.admin_socket("net"), PATIENCE)
}

fn is_called(port: &PortInfo, text: &str) -> bool {
    let address = |with_prefix: &String| with_prefix.split('/').next() == Some(text);
    port.port == text
        || port.endpoint.starts_with(text)
        || port.mac == text
        || port.addresses.iter().any(address)
}

fn short(id: &str) -> String {
    id.chars().take(ID_SHOWN).collect()
}

fn vlan(vlan: Option<u16>) -> String {
    vlan.map_or_else(|| "untagged".to_owned(), |vlan| vlan.to_string())
}

fn limit(limit: Option<&Limit>) -> String {
    let Some(limit) = limit else { return "none".to_owned() };
    let burst = limit.burst.as_ref().map(|burst| format!(" (burst {burst})"));
    format!("{}{}", limit.rate, burst.unwrap_or_default())
}

fn limits(limits: &Limits) -> String {
    format!("rx {}\ntx {}", limit(limits.rx.as_ref()), limit(limits.tx.as_ref()))
}

fn limits_table(limits: &Limits) -> Table {
    table(["RX RATE", "TX RATE"], [[limit(limits.rx.as_ref()), limit(limits.tx.as_ref())]])
}

fn networks_table(networks: &[NetworkInfo]) -> Table {
    let row = |network: &NetworkInfo| {
        let subnets = network.subnets.iter().map(|(subnet, gateway)| match gateway {
            Some(gateway) => format!("{subnet} via {gateway}"),
            None => subnet.clone(),
        });
        let subnets: Vec<String> = subnets.collect();
        [
            short(&network.id),
            vlan(network.vlan),
            network.mtu.to_string(),
            subnets.join("\n"),
            limits(&network.limits),
            network.ports.to_string(),
        ]
    };
    let header = ["NETWORK", "VLAN", "MTU", "SUBNETS", "LIMITS", "PORTS"];
    table(header, networks.iter().map(row))
}

fn ports_table(ports: &[PortInfo]) -> Table {
    let traffic = |direction: &str, traffic: &Traffic| {
        let Traffic { bytes, packets, dropped, limited } = traffic;
        format!(
            "{direction} {bytes} bytes, {packets} packets, {dropped} lost, {limited} of them limited"
        )
    };
    let row = |port: &PortInfo| {
        let state = match port.state {
            PortState::Used => "used",
            PortState::Unused => "unused",
            PortState::Dead => "dead",
        };
        let trunk = port.trunk.as_ref().map(|trunk| format!("\ntrunk {trunk}"));
        [
            format!("{}\n{state}", port.port),
            short(&port.network),
            format!("{}{}", vlan(port.vlan), trunk.unwrap_or_default()),
            format!("{}\n{}", port.mac, port.addresses.join("\n")),
            limits(&port.limits),
            format!("{}\n{}", traffic("rx", &port.rx), traffic("tx", &port.tx)),
        ]
    };
    let header = ["PORT", "NETWORK", "VLAN", "ADDRESSES", "LIMITS", "COUNTERS"];
    table(header, ports.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> PortInfo {
        let rate = Limit { rate: "10mbit".into(), burst: Some("64KiB".into()) };
        PortInfo {
            port: "dl-e1d000000001".into(),
            host: "h1".into(),
            endpoint: "e1d0000000010000".into(),
            network: "4e7f00000000cafe".into(),
            state: PortState::Used,
            vlan: Some(100),
            trunk: Some("10,20-30".into()),
            mac: "02:42:0a:64:00:02".into(),
            addresses: vec!["10.100.0.2/24".into()],
            limits: Limits { rx: Some(rate), tx: None },
            rx: Traffic { packets: 1, bytes: 100, dropped: 3, limited: 2 },
            tx: Traffic::default(),
        }
    }

    #[test]
    fn a_port_is_found_by_whatever_it_is_called() {
        for text in ["dl-e1d000000001", "e1d0", "02:42:0a:64:00:02", "10.100.0.2"] {
            assert!(is_called(&port(), text), "{text}");
        }
        for text in ["dl-e1d0", "4e7f", "10.100.0.2/24", "10.100.0"] {
            assert!(!is_called(&port(), text), "{text}");
        }
    }

    #[test]
    fn the_table_shows_what_an_operator_looks_for() {
        let shown = ports_table(&[port()]).to_string();
        for words in
            ["dl-e1d000000001", "used", "100", "trunk", "10mbit", "64KiB", "tx none", "10.100.0.2"]
        {
            assert!(shown.contains(words), "{words} is missing in\n{shown}");
        }
    }
}
