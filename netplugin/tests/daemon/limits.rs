//! Trunks and bandwidth as the switch and the kernel have them, over every restart.

use dockline_admin::net::{NetworkList, PortList, PortState, SetRate};
use dockline_testkit::{OvsDaemon, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::host::{ENDPOINT, HOST_END, Host, JOINT, NETWORK, PATIENCE, SWITCH_END, endpoint};

/// The rate of a device's token bucket in bytes a second, from the kernel by way of `tc`.
async fn rate(host: &Host, device: &str) -> Option<u64> {
    let tc = host.ovs.namespace().program("tc");
    let shown = tc.args(["-json", "qdisc", "show", "dev", device]).run().await.unwrap().text();
    let shown: Vec<Value> = serde_json::from_str(&shown).unwrap();
    let bucket = shown.iter().find(|queue| queue["kind"] == "tbf")?;
    bucket["options"]["rate"].as_u64()
}

/// What was asked, in bytes a second with Ethernet's headers, at the test network's MTU of 1400.
fn frames(bits: u64) -> Option<u64> {
    Some(bits * 1414 / 1400 / 8)
}

async fn limited(host: &Host, options: Value) {
    let mut request = endpoint(ENDPOINT);
    request["Options"] = options;
    host.call("CreateEndpoint", request).await.unwrap();
}

#[tokio::test]
async fn a_trunk_carries_its_vlans_and_the_networks_own_untagged() {
    let host = Host::start().await;
    limited(&host, json!({"trunk": "10,20,30-32"})).await;
    let columns = ["get", "Port", SWITCH_END, "tag", "vlan_mode", "trunks"];
    let port = host.vsctl(&columns).await;
    let port: Vec<&str> = port.lines().collect();
    assert_eq!(port, ["100", "native-untagged", "[10, 20, 30, 31, 32]"]);

    let untagged = NETWORK.replace("cafe", "beef");
    host.make_network(&untagged, json!({})).await.unwrap();
    let mut request = endpoint("e2");
    request["NetworkID"] = untagged.into();
    request["Options"] = json!({"trunk": "10"});
    host.call("CreateEndpoint", request).await.unwrap();
    let port = host.vsctl(&["get", "Port", "dl-e2", "tag", "vlan_mode", "trunks"]).await;
    assert_eq!(port.lines().collect::<Vec<_>>(), ["0", "native-untagged", "[10]"]);
}

#[tokio::test]
async fn what_is_wrong_with_an_endpoint_is_named_and_makes_nothing() {
    let host = Host::start().await;
    for (options, words) in [
        (json!({"trunk": "90-110"}), "VLAN 100 is the network's own"),
        (json!({"trunk": "10,10"}), "VLAN 10 stands in the list twice"),
        (json!({"trunk": "0"}), "\"0\" is not a VLAN"),
        (json!({"rx-rate": "0"}), "\"0\" is not a rate"),
        (json!({"rx-rate": "18446744073709551616gbit"}), "the most is 1tbit"),
        (json!({"tx-burst": "64k"}), "tx-burst needs tx-rate"),
        (json!({"speed": "fast"}), "unknown endpoint option speed"),
        (
            json!({"com.docker.network.portmap": [{"Proto": 6, "Port": 80}]}),
            "published-ports=ignore",
        ),
    ] {
        let mut request = endpoint(ENDPOINT);
        request["Options"] = options;
        let refused = host.call("CreateEndpoint", request).await.unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(host.there().await, (vec![], vec![]));
}

#[tokio::test]
async fn limits_are_on_the_devices_and_outlive_every_restart() {
    let mut host = Host::start().await;
    limited(&host, json!({"rx-rate": "10mbit", "tx-rate": "2.5gbit"})).await;
    let expected = (frames(10_000_000), frames(2_500_000_000));
    let found = async |host: &Host| (rate(host, HOST_END).await, rate(host, JOINT).await);
    assert_eq!(found(&host).await, expected);
    for daemon in [OvsDaemon::Vswitchd, OvsDaemon::Server] {
        host.ovs.end(daemon, Signal::SIGKILL).await.unwrap();
        assert_eq!(found(&host).await, expected);
        host.ovs.run(daemon).await.unwrap();
    }
    // The switch has started over when it takes another port.
    host.make_endpoint("e2").await.unwrap();
    assert_eq!(found(&host).await, expected, "Open vSwitch took the limits away");
    assert_eq!(rate(&host, "dh-e2").await, None);
    host.kill().await;
    assert_eq!(found(&host).await, expected);
    host.run().await;
    assert_eq!(found(&host).await, expected);
}

#[tokio::test]
async fn a_limit_that_somebody_lifted_comes_back() {
    let host = Host::watched().await;
    limited(&host, json!({"tx-rate": "10mbit"})).await;
    // In use, or the janitor would take all of it.
    let container = dockline_testkit::Namespace::new().await.unwrap();
    let path = container.path().display().to_string();
    let net = host.ovs.namespace();
    let give = ["link", "set", "dc-e1d000000001", "netns", &path];
    net.program("ip").args(give).run().await.unwrap();
    net.program("tc").args(["qdisc", "del", "dev", JOINT, "root"]).run().await.unwrap();
    eventually("the limit to come back", PATIENCE, async || {
        (rate(&host, JOINT).await == frames(10_000_000)).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_limit_is_changed_live_and_stays_changed() {
    let mut host = Host::start().await;
    limited(&host, json!({"rx-rate": "10mbit", "tx-rate": "5mbit"})).await;
    let set = SetRate {
        port: "10.100.0.2".to_owned(),
        rx_rate: Some("20mbit".to_owned()),
        tx_rate: Some("none".to_owned()),
        ..SetRate::default()
    };
    let limits = host.admin().call(&set).await.unwrap();
    assert_eq!((limits.rx.unwrap().rate, limits.tx), ("20mbit".to_owned(), None));
    assert_eq!(rate(&host, HOST_END).await, frames(20_000_000));
    assert_eq!(rate(&host, JOINT).await, None);

    // Docker's repeated call and a restart leave it as the operator wants it.
    limited(&host, json!({"rx-rate": "10mbit", "tx-rate": "5mbit"})).await;
    host.kill().await;
    host.run().await;
    let port = host.admin().call(&PortList {}).await.unwrap().remove(0);
    assert_eq!(port.limits.rx.unwrap().rate, "20mbit");
    assert_eq!((port.state, port.vlan), (PortState::Unused, Some(100)));
    assert_eq!(rate(&host, HOST_END).await, frames(20_000_000));
}

#[tokio::test]
async fn a_limit_that_makes_no_sense_is_refused_and_changes_nothing() {
    let host = Host::start().await;
    limited(&host, json!({"rx-rate": "10mbit"})).await;
    host.make_endpoint("e1d0ffff").await.unwrap();
    let set = |port: &str, rx: &str, burst: Option<&str>| SetRate {
        port: port.to_owned(),
        rx_rate: Some(rx.to_owned()),
        tx_burst: burst.map(str::to_owned),
        ..SetRate::default()
    };
    for (set, words) in [
        (set(SWITCH_END, "0", None), "\"0\" is not a rate"),
        (set(SWITCH_END, "20mbit", Some("64k")), "tx-burst needs tx-rate"),
        (set("nobody", "20mbit", None), "no port is called \"nobody\""),
        (set("e1d", "20mbit", None), "no port is called"),
        (set("e1d0", "20mbit", None), "several ports are called"),
    ] {
        let refused = host.admin().call(&set).await.unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(rate(&host, HOST_END).await, frames(10_000_000));
}

#[tokio::test]
async fn operators_see_networks_and_counters() {
    let host = Host::start().await;
    host.make_endpoint(ENDPOINT).await.unwrap();
    let network = host.admin().call(&NetworkList {}).await.unwrap().remove(0);
    assert_eq!((network.vlan, network.mtu, network.ports), (Some(100), 1400, 1));
    assert_eq!(network.subnets["10.100.0.0/24"].as_deref(), Some("10.100.0.1"));
    let metrics = host.admin().metrics().await.unwrap();
    let line = format!(
        "dockline_net_port_bytes_total{{port=\"{SWITCH_END}\",network=\"{NETWORK}\",direction=\"rx\"}}"
    );
    assert!(metrics.contains(&line), "{metrics}");
    assert!(metrics.contains("# TYPE dockline_net_port_limited_total counter"), "{metrics}");
}
