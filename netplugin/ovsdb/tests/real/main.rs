//! The client against the real ovsdb-server and ovs-vswitchd, each test with its own in a private
//! folder and network namespace. Needs root and the package `openvswitch-switch`.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

mod faults;
mod proxy;
mod verbs;

use std::time::Duration;

use dockline_ovsdb::switch::{BridgeSpec, FailMode, Marks, PortKind, PortSpec, VlanMode};
use dockline_ovsdb::{Client, Config, Switch};
use dockline_testkit::Ovs;
use tokio::time::Instant;

const BRIDGE: &str = "dock0";

/// A deadline that only a defect reaches.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn ours() -> Marks {
    Marks::new("owner", "dockline")
}

fn switch_at(socket: &std::path::Path) -> Switch {
    let mut config = Config::new(socket);
    config.probe = Duration::from_secs(1);
    Switch::new(Client::start(config))
}

fn bridge() -> BridgeSpec {
    BridgeSpec {
        name: BRIDGE.to_owned(),
        datapath_type: "netdev".to_owned(),
        fail_mode: FailMode::Standalone,
        mac: Some("02:00:00:00:00:01".parse().unwrap()),
        other_config: Default::default(),
        marks: ours(),
    }
}

fn port(name: &str) -> PortSpec {
    PortSpec {
        bridge: BRIDGE.to_owned(),
        name: name.parse().unwrap(),
        kind: PortKind::Internal,
        vlan: VlanMode::Access(100.try_into().unwrap()),
        mac: None,
        mtu: None,
        marks: ours(),
    }
}

/// A running Open vSwitch with our bridge.
async fn with_bridge() -> anyhow::Result<(Ovs, Switch)> {
    let ovs = Ovs::start().await?;
    let switch = switch_at(&ovs.socket());
    switch.ensure_bridge(&bridge(), soon()).await?;
    Ok((ovs, switch))
}

/// What `ovs-vsctl` says of a column, as it prints it.
async fn told(ovs: &Ovs, args: &[&str]) -> anyhow::Result<String> {
    Ok(ovs.vsctl().args(args).run().await?.text())
}
