//! Port security: containers that pretend to be others, with the kernel's own tools.

use dockline_testkit::{Namespace, OvsDaemon, eventually};
use nix::sys::signal::Signal;
use serde_json::json;

use super::host::{Host, NETWORK, PATIENCE, endpoint};

/// A container of the test's own, on the network of that id.
struct Container {
    inside: Namespace,
    device: String,
}

const OTHER_MAC: &str = "02:00:00:00:00:99";

impl Container {
    async fn start(host: &Host, network: &str, id: &str, last: u8) -> Self {
        let (ipv4, ipv6) = (format!("10.100.0.{last}/24"), format!("fd00::{last}/64"));
        let mut request = endpoint(id);
        request["NetworkID"] = network.into();
        request["Interface"]["Address"] = ipv4.as_str().into();
        request["Interface"]["AddressIPv6"] = ipv6.as_str().into();
        host.call("CreateEndpoint", request).await.unwrap();
        let (inside, device) = (Namespace::new().await.unwrap(), format!("dc-{id}"));
        let namespace = inside.path().display().to_string();
        let give = ["link", "set", &device, "netns", &namespace];
        host.ovs.namespace().program("ip").args(give).run().await.unwrap();
        let container = Self { inside, device };
        container.add(&ipv4).await;
        container.add(&ipv6).await;
        container.ip(&["link", "set", &container.device, "up"]).await;
        container
    }

    async fn ip(&self, args: &[&str]) {
        self.inside.program("ip").args(args).run().await.unwrap();
    }

    async fn add(&self, address: &str) {
        let mut args = vec!["address", "add", address, "dev", &self.device];
        if address.contains(':') {
            args.push("nodad");
        }
        self.ip(&args).await;
    }

    async fn busybox(&self, args: &[&str]) -> bool {
        self.inside.program("busybox").args(args).output().await.unwrap().status.success()
    }

    /// Whether a ping from this address is answered, within the time a lost one takes.
    async fn pings(&self, from: &str, to: &str) -> bool {
        self.busybox(&["ping", "-c", "1", "-W", "1", "-I", from, to]).await
    }

    async fn arps(&self, from: &str, to: &str) -> bool {
        self.busybox(&["arping", "-c", "1", "-w", "2", "-I", &self.device, "-s", from, to]).await
    }

    /// Waits until the way is open: a device takes a moment to come up.
    async fn reaches(&self, from: &str, to: &str) {
        let what = format!("{from} to reach {to}");
        let reached = async || self.pings(from, to).await.then_some(());
        eventually(&what, PATIENCE, reached).await.unwrap();
    }

    async fn mac(&self, mac: &str) {
        self.ip(&["link", "set", &self.device, "address", mac]).await;
    }
}

/// Two containers that reach each other; the first has two addresses that are not its own.
async fn pair(host: &Host, network: &str) -> (Container, Container) {
    let one = Container::start(host, network, "aaaa", 2).await;
    let two = Container::start(host, network, "bbbb", 3).await;
    one.reaches("10.100.0.2", "10.100.0.3").await;
    one.reaches("fd00::2", "fd00::3").await;
    one.add("10.100.0.99/24").await;
    one.add("fd00::99/64").await;
    (one, two)
}

#[tokio::test]
async fn a_container_is_heard_as_itself_and_as_nobody_else() {
    let mut host = Host::start().await;
    let (one, _two) = pair(&host, NETWORK).await;
    assert!(one.arps("10.100.0.2", "10.100.0.3").await);
    assert!(!one.arps("10.100.0.99", "10.100.0.3").await, "a spoofed ARP was answered");
    assert!(!one.pings("10.100.0.99", "10.100.0.3").await, "a spoofed IPv4 packet came through");
    assert!(!one.pings("fd00::99", "fd00::3").await, "a spoofed IPv6 packet came through");
    one.mac(OTHER_MAC).await;
    assert!(!one.pings("10.100.0.2", "10.100.0.3").await, "a spoofed MAC came through");
    one.mac("02:42:0a:64:00:02").await;
    one.reaches("10.100.0.2", "10.100.0.3").await;

    // Without the daemon, and with a switch that has started over.
    host.kill().await;
    host.ovs.end(OvsDaemon::Vswitchd, Signal::SIGKILL).await.unwrap();
    host.ovs.run(OvsDaemon::Vswitchd).await.unwrap();
    one.reaches("10.100.0.2", "10.100.0.3").await;
    assert!(!one.pings("10.100.0.99", "10.100.0.3").await);
}

#[tokio::test]
async fn nobody_hears_a_claim_to_anothers_address() {
    let host = Host::start().await;
    let (one, two) = pair(&host, NETWORK).await;
    two.busybox(&["ping", "-c", "1", "-W", "1", "10.100.0.2"]).await;
    let claim = ["arping", "-U", "-c", "2", "-w", "2", "-I", &one.device, "-s", "10.100.0.99"];
    one.busybox(&[&claim[..], &["10.100.0.99"]].concat()).await;
    one.reaches("10.100.0.2", "10.100.0.3").await;
    let known = two.inside.program("ip").args(["neigh", "show"]).run().await.unwrap().text();
    assert!(known.contains("10.100.0.2 "), "{known}");
    assert!(!known.contains("10.100.0.99 ") && !known.contains(OTHER_MAC), "{known}");
}

#[tokio::test]
async fn a_network_without_port_security_carries_what_it_is_given() {
    let host = Host::start().await;
    let open = NETWORK.replace("cafe", "beef");
    host.make_network(&open, json!({"port-security": "off"})).await.unwrap();
    let (one, _two) = pair(&host, &open).await;
    assert!(one.arps("10.100.0.99", "10.100.0.3").await);
    one.reaches("10.100.0.99", "10.100.0.3").await;
    one.reaches("fd00::99", "fd00::3").await;
    one.mac(OTHER_MAC).await;
    one.reaches("10.100.0.2", "10.100.0.3").await;
}
