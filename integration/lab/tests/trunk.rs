//! What networks rest on: the trunk between nodes, its faults, and kernel Open vSwitch over it.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Context;
use dockline_lab::{Cmd, Impairment, Lab, LabError, Node, NodeSpec, Userland, Way};

async fn pair(title: &str) -> anyhow::Result<(Lab, Node, Node)> {
    let card = |name: &str, last| NodeSpec::new(name).card_at(Ipv4Addr::new(10, 77, 0, last), 24);
    let lab = Lab::builder(title).node(card("a", 1)).node(card("b", 2)).boot().await?;
    let (a, b) = (lab.node("a")?, lab.node("b")?);
    // Nobody has to ask for an address while a link is cut.
    for (one, other) in [(&a, &b), (&b, &a)] {
        let mac = other.sh("cat /sys/class/net/vec0/address").await?;
        let address = other.address().context("b and a have addresses")?;
        let known = format!("ip neigh replace {address} lladdr {mac} dev vec0 nud permanent");
        one.run(known).await?;
    }
    Ok((lab, a, b))
}

/// Whether one node's ping of another, by name, is answered.
async fn reaches(from: &Node, to: &str) -> anyhow::Result<bool> {
    Ok(from.output(["busybox", "ping", "-c", "1", "-W", "1", to]).await?.code == 0)
}

/// How many pings have arrived at a node, answered or not.
async fn pings_seen(node: &Node) -> anyhow::Result<u32> {
    let line = "awk '/^Icmp: [0-9]/ { print $10 }' /proc/net/snmp";
    Ok(node.sh(line).await?.parse()?)
}

#[tokio::test]
async fn a_link_is_cut_both_ways_one_way_and_healed() -> anyhow::Result<()> {
    let (lab, a, b) = pair("links").await?;
    assert!(reaches(&a, "b").await? && reaches(&b, "a").await?, "the trunk does not carry");

    a.cut_link(0, Way::Both).await?;
    let seen = (pings_seen(&a).await?, pings_seen(&b).await?);
    assert!(!reaches(&a, "b").await? && !reaches(&b, "a").await?);
    assert_eq!(seen, (pings_seen(&a).await?, pings_seen(&b).await?), "something came through");

    a.cut_link(0, Way::FromNode).await?;
    assert!(!reaches(&a, "b").await? && !reaches(&b, "a").await?);
    assert_eq!((seen.0 + 1, seen.1), (pings_seen(&a).await?, pings_seen(&b).await?));

    a.cut_link(0, Way::ToNode).await?;
    assert!(!reaches(&a, "b").await? && !reaches(&b, "a").await?);
    assert_eq!((seen.0 + 1, seen.1 + 1), (pings_seen(&a).await?, pings_seen(&b).await?));

    a.heal_link(0).await?;
    a.heal_link(0).await?;
    assert!(reaches(&a, "b").await? && reaches(&b, "a").await?, "the link did not heal");
    assert!(matches!(a.cut_link(1, Way::Both).await, Err(LabError::NoSuchPart { .. })));
    lab.down().await?;
    Ok(())
}

#[tokio::test]
async fn the_trunk_delays_and_loses() -> anyhow::Result<()> {
    let (lab, a, b) = pair("impairments").await?;
    let delay = Duration::from_secs(1);
    let round_trip = async || {
        let started = Instant::now();
        a.run("busybox ping -c 1 -W 5 b").await?;
        Ok::<_, LabError>(started.elapsed())
    };
    let free = round_trip().await?;
    for node in [&a, &b] {
        node.impair(0, Impairment { delay, loss_percent: 0 }).await?;
    }
    let delayed = round_trip().await?;
    println!("a round trip takes {free:?}, with {delay:?} each way {delayed:?}");
    assert!(delayed >= delay * 2 && free < delay);

    a.impair(0, Impairment { delay: Duration::ZERO, loss_percent: 100 }).await?;
    assert!(!reaches(&a, "b").await?);
    for node in [&a, &b] {
        node.impair(0, Impairment::default()).await?;
    }
    assert!(round_trip().await? < delay);
    lab.down().await?;
    Ok(())
}

/// Two nodes whose namespaces hang on a kernel bridge, on VLAN 10 and VLAN 20, all in one subnet.
async fn vlans_are_separate(title: &str, userland: Userland) -> anyhow::Result<()> {
    let card = |name: &str| NodeSpec::new(name).userland(userland).card();
    let lab = Lab::builder(title).node(card("a")).node(card("b")).boot().await?;
    let nodes = [lab.node("a")?, lab.node("b")?];
    let started = Instant::now();
    let (a, b) = tokio::join!(nodes[0].start_ovs(), nodes[1].start_ovs());
    a.and(b)?;
    println!("Open vSwitch on both nodes took {:?}", started.elapsed());
    for (node, addresses) in nodes.iter().zip([["10.9.0.1", "10.9.0.2"], ["10.9.0.3", "10.9.0.4"]])
    {
        node.sh("ovs-vsctl add-br br0 -- add-port br0 vec0; ip link set vec0 up").await?;
        for (vlan, address) in ["10", "20"].iter().zip(addresses) {
            let port = "ip netns add c$VLAN; ip link add p$VLAN type veth peer name eth0 netns c$VLAN; \
                ip -n c$VLAN address add $ADDRESS/24 dev eth0; ip -n c$VLAN link set eth0 up; \
                ip link set p$VLAN up; ovs-vsctl add-port br0 p$VLAN tag=$VLAN";
            let port = Cmd::sh(port).env("VLAN", *vlan).env("ADDRESS", address);
            node.run(port).await?;
        }
        let datapath = node.sh("ovs-appctl dpctl/show").await?;
        assert!(datapath.contains("system@ovs-system"), "not the kernel's datapath: {datapath}");
    }
    let [a, b] = &nodes;
    for (from, vlan, to, reached) in [
        (a, "c10", "10.9.0.3", true),
        (a, "c20", "10.9.0.4", true),
        (b, "c10", "10.9.0.1", true),
        (a, "c10", "10.9.0.4", false),
        (a, "c20", "10.9.0.3", false),
        // Not even on the same node.
        (b, "c10", "10.9.0.4", false),
    ] {
        let ping = ["ip", "netns", "exec", vlan, "busybox", "ping", "-c", "1", "-W", "2", to];
        let output = from.output(ping).await?;
        assert_eq!(output.code == 0, reached, "{} {vlan} to {to}: {}", from.name(), output.text());
    }
    lab.down().await?;
    Ok(())
}

#[tokio::test]
async fn kernel_ovs_carries_vlans_between_nodes_and_keeps_them_apart() -> anyhow::Result<()> {
    vlans_are_separate("VLANs", Userland::Debian12).await
}

#[tokio::test]
async fn kernel_ovs_on_debian13_does_too() -> anyhow::Result<()> {
    vlans_are_separate("VLANs on Debian 13", Userland::Debian13).await
}

#[tokio::test]
async fn etcd_outlives_the_power_cut_of_a_member() -> anyhow::Result<()> {
    let node = |at: u8| NodeSpec::new(format!("e{at}")).card_at(Ipv4Addr::new(10, 77, 0, at), 24);
    let lab = Lab::builder("etcd").node(node(1)).node(node(2)).node(node(3));
    let lab = lab.boot().await?;
    let started = Instant::now();
    let endpoints = lab.start_etcd().await?;
    println!("an etcd cluster of three took {:?}", started.elapsed());
    assert_eq!(endpoints.len(), 3);
    let ctl = |what: &str| {
        Cmd::sh(format!("etcdctl --command-timeout=20s {what}")).env("ETCDCTL_API", "3")
    };
    let (e1, e2, e3) = (lab.node("e1")?, lab.node("e2")?, lab.node("e3")?);
    e1.run(ctl("put before cut")).await?;
    e2.power_off().await?;
    // The one without power may have been the leader: the others elect first.
    e3.wait_for("a write while one is off", Duration::from_secs(60), ctl("put during cut")).await?;
    assert_eq!(e1.run(ctl("get --print-value-only before")).await?.text(), "cut");
    e2.boot().await?;
    e2.start_etcd_member(lab.nodes()).await?;
    e2.wait_for_etcd().await?;
    assert_eq!(e2.run(ctl("get --print-value-only during")).await?.text(), "cut");
    lab.down().await?;
    Ok(())
}
