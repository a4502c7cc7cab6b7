//! What a crash left is removed: exactly what is dead and ours.

use super::host::{BRIDGE, ENDPOINT, Host, SWITCH_END};
use dockline_testkit::Namespace;
use serde_json::Value;

async fn ip(host: &Host, args: &[&str]) {
    host.ovs.namespace().program("ip").args(args).run().await.unwrap();
}

/// Gives an endpoint's interface to a container.
async fn given_to_a_container(host: &Host, device: &str) -> Namespace {
    let container = Namespace::new().await.unwrap();
    let path = container.path().display().to_string();
    ip(host, &["link", "set", device, "netns", &path]).await;
    container
}

#[tokio::test]
async fn what_is_dead_and_ours_goes_and_everything_else_stays() {
    let host = Host::watched().await;
    // In use by a container: stays.
    host.make_endpoint("c0a1").await.unwrap();
    let _container = given_to_a_container(&host, "dc-c0a1").await;
    // Its container's namespace is gone, and the devices with it.
    host.make_endpoint("dead").await.unwrap();
    drop(given_to_a_container(&host, "dc-dead").await);
    // Never joined.
    host.make_endpoint(ENDPOINT).await.unwrap();
    // Devices that a crash left without a port.
    for [one, other] in [["dl-beef", "ds-beef"], ["dh-beef", "dc-beef"], ["dh-cafe", "dc-cafe"]] {
        ip(&host, &["link", "add", one, "type", "veth", "peer", "name", other]).await;
    }
    // Not ours: a port without our mark, dead or alive, one with another's, a pair named
    // otherwise, half a pair, and a wire in use that lost its port.
    let internal = ["--", "set", "Interface", "foreign", "type=internal"];
    host.vsctl(&[&["add-port", BRIDGE, "foreign"], &internal[..]].concat()).await;
    host.vsctl(&["--no-wait", "add-port", BRIDGE, "dl-f00d"]).await;
    host.vsctl(&["--no-wait", "set", "Port", "dl-f00d", "external_ids:owner=somebody"]).await;
    ip(&host, &["link", "add", "veth0", "type", "veth", "peer", "name", "veth1"]).await;
    ip(&host, &["link", "add", "dl-aaaa", "type", "veth", "peer", "name", "veth2"]).await;
    host.make_endpoint("bbbb").await.unwrap();
    let _another = given_to_a_container(&host, "dc-bbbb").await;
    host.vsctl(&["del-port", "dl-bbbb"]).await;

    let stay = ["dh-bbbb", "dh-c0a1", "dl-aaaa", "dl-bbbb", "dl-c0a1", "ds-bbbb", "ds-c0a1"];
    host.comes_to(&["dl-c0a1", "dl-f00d", "foreign"], &stay).await;
    let status: Value = host.admin().get("status").await.unwrap();
    assert_eq!(status["counts"]["endpoints"], 1, "{status}");
    for name in ["veth0", "veth1", "veth2"] {
        ip(&host, &["link", "show", name]).await;
    }
}

#[tokio::test]
async fn a_port_whose_container_ended_while_nobody_watched_is_removed_at_the_next_start() {
    let mut host = Host::watched().await;
    host.make_endpoint(ENDPOINT).await.unwrap();
    let container = given_to_a_container(&host, "dc-e1d000000001").await;
    host.kill().await;
    drop(container);
    assert_eq!(host.ports().await, [SWITCH_END]);
    host.run().await;
    host.comes_to(&[], &[]).await;
}
