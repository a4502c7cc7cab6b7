//! What Docker's four calls of a container's life cost, beside the same work done bare: ratios in
//! one run, written to `target/bench/net.json`.
//!
//! The bare work is the two OVSDB transactions (a port added, a port deleted) on a held connection,
//! each awaited until ovs-vswitchd has it, and `ovs-vsctl add-port` with `del-port`. The switch is
//! private, on the userspace datapath. Other ports on it are internal ones without a container.

#![expect(clippy::unwrap_used, reason = "a benchmark ends when something is wrong")]

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/daemon/host.rs"]
mod host;

use std::time::{Duration, Instant};

use dockline_ovsdb::switch::{Marks, PortKind, PortSpec, Until, VlanMode};
use dockline_ovsdb::{Client, Config, Switch};
use host::{BRIDGE, Host, NETWORK, endpoint, named};
use serde_json::{Value, json};

/// How often each thing is measured; the median counts.
const ROUNDS: usize = 15;

/// Clients at once.
const CLIENTS: usize = 8;

/// Ports in one command of `ovs-vsctl`.
const TOGETHER: usize = 250;

/// CreateEndpoint, Join, Leave, DeleteEndpoint.
async fn calls(host: &Host, id: &str, last: u8) {
    let mut create = endpoint(id);
    create["Interface"]["Address"] = format!("10.100.0.{last}/24").into();
    host.call("CreateEndpoint", create).await.unwrap();
    for method in ["Join", "Leave", "DeleteEndpoint"] {
        host.call(method, named(id)).await.unwrap();
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

async fn timed(mut what: impl AsyncFnMut(usize)) -> f64 {
    what(usize::MAX).await;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let started = Instant::now();
        what(round).await;
        times.push(started.elapsed());
    }
    median(times)
}

/// The two transactions bare, on a device that is there.
async fn raw(switch: &Switch) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let marks = Marks::new("bench", "raw");
    let port = PortSpec {
        bridge: BRIDGE.to_owned(),
        name: "raw0".parse().unwrap(),
        kind: PortKind::System,
        vlan: VlanMode::Access(100.try_into().unwrap()),
        mac: None,
        mtu: None,
        marks: marks.clone(),
    };
    switch.add_port(port, deadline).await.unwrap();
    switch.delete_port("raw0", &marks, Until::Applied, deadline).await.unwrap();
}

async fn fill(host: &Host, from: usize, to: usize) {
    for first in (from..to).step_by(TOGETHER) {
        let mut args = Vec::new();
        for number in first..to.min(first + TOGETHER) {
            let name = format!("b{number}");
            let port = ["--", "add-port", BRIDGE, &name, "--", "set", "Interface", &name];
            args.extend(port.map(str::to_owned));
            args.push("type=internal".to_owned());
        }
        let deadline = Duration::from_secs(120);
        host.ovs.vsctl().arg("--timeout=120").args(args).deadline(deadline).run().await.unwrap();
    }
}

/// Eight clients at once: the wall time for each round of four calls.
async fn together(host: &Host) -> f64 {
    let client = |number: usize| async move {
        for round in 0..3 {
            let last = u8::try_from(100 + number).unwrap();
            calls(host, &format!("c{number}{round}"), last).await;
        }
    };
    let started = Instant::now();
    futures_util::future::join_all((0..CLIENTS).map(client)).await;
    started.elapsed().as_secs_f64() * 1e3 / (3 * CLIENTS) as f64
}

async fn measure(host: &Host, switch: &Switch, ports: usize) -> Value {
    let calls = timed(async |round| {
        calls(host, &format!("a{}", round % 100), 50).await;
    });
    let calls = calls.await;
    let raw = timed(async |_| raw(switch).await).await;
    let vsctl = timed(async |_| {
        host.vsctl(&["add-port", BRIDGE, "raw0", "tag=100"]).await;
        host.vsctl(&["del-port", BRIDGE, "raw0"]).await;
    });
    let vsctl = vsctl.await;
    let together = together(host).await;
    json!({
        "ports": ports, "calls_ms": calls, "raw_ms": raw, "vsctl_ms": vsctl, "c8_ms": together,
        "calls_over_raw_ovsdb": calls / raw, "calls_over_vsctl": calls / vsctl,
        "c8_share_of_serial": together / calls,
    })
}

#[tokio::main]
async fn main() {
    let counts: Vec<usize> = match std::env::var("BENCH_PORTS") {
        Ok(given) => given.split(',').map(|count| count.parse().unwrap()).collect(),
        Err(_) => vec![0, 500, 2000],
    };
    let host = Host::start().await;
    host.make_network(NETWORK, json!({"vlan": "100", "mtu": "1400"})).await.unwrap();
    calls(&host, "warm", 9).await;
    let device = ["link", "add", "raw0", "type", "veth", "peer", "name", "raw1"];
    host.ovs.namespace().program("ip").args(device).run().await.unwrap();
    let switch = Switch::new(Client::start(Config::new(host.ovs.socket())));
    let (mut rows, mut there) = (Vec::new(), 0);
    for ports in counts {
        fill(&host, there, ports).await;
        there = ports;
        let row = measure(&host, &switch, ports).await;
        println!("{row}");
        rows.push(row);
    }
    let at = |ports: usize, key: &str| {
        let row = rows.iter().find(|row| row["ports"] == ports);
        row.map_or(Value::Null, |row| row[key].clone())
    };
    let result = json!({
        "calls_over_raw_ovsdb": at(0, "calls_over_raw_ovsdb"),
        "calls_over_vsctl": at(0, "calls_over_vsctl"),
        "c8_share_of_serial_at_2000": at(2000, "c8_share_of_serial"),
        "rows": rows,
    });
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("net.json"), format!("{result:#}\n")).unwrap();
    println!("written to target/bench/net.json");
}
