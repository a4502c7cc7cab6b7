//! Two hosts with one pool on an etcd cluster: no address twice, and none left over.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::ensure;
use dockline_lab::{Cmd, Lab, Node, NodeSpec};

/// Containers on each host; a container takes two seconds on a node.
const CONTAINERS: usize = 6;

/// Starts everything on a node, with the pools in etcd and `vec1` as the trunk.
async fn host(node: &Node, endpoints: &[String]) -> anyhow::Result<()> {
    let name = node.name();
    let config = format!("host = {name:?}\n[store]\nkind = \"etcd\"\nendpoints = {endpoints:?}\n");
    node.configure_dockline(&config).await?;
    node.start_ovs().await?;
    node.start_dockline().await?;
    node.start_dockerd(&["--bridge=none"]).await?;
    node.import_busybox().await?;
    node.run(
        "docker network create -d dockline-net --ipam-driver dockline-ipam -o vlan=10 \
         --subnet 10.1.0.0/24 --gateway 10.1.0.1 prod",
    )
    .await?;
    Ok(())
}

/// Runs containers and returns their addresses, which the containers themselves tell.
async fn run_containers(node: &Node) -> anyhow::Result<Vec<String>> {
    let script = format!(
        "for i in $(seq {CONTAINERS}); do \
           docker run -d --init --name c$i --network prod busybox:lab tail -f /dev/null >/dev/null; \
           docker exec c$i ip -4 -o addr show eth0 | awk '{{print $4}}' | cut -d/ -f1; \
         done"
    );
    let shown = node.run(Cmd::sh(script).deadline(Duration::from_secs(120))).await?.text();
    Ok(shown.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn hosts_that_share_a_pool_never_give_an_address_twice() -> anyhow::Result<()> {
    let spec = |name: &str, last| {
        NodeSpec::new(name).card_at(Ipv4Addr::new(10, 77, 0, last), 24).card().memory_mib(3072)
    };
    let lab = Lab::builder("one pool").node(spec("a", 1)).node(spec("b", 2)).boot().await?;
    let endpoints = lab.start_etcd().await?;
    let (a, b) = (lab.node("a")?, lab.node("b")?);
    tokio::try_join!(host(&a, &endpoints), host(&b, &endpoints))?;

    let (on_a, on_b) = tokio::try_join!(run_containers(&a), run_containers(&b))?;
    println!("on a: {on_a:?}\non b: {on_b:?}");
    let all: BTreeSet<_> = on_a.iter().chain(&on_b).collect();
    ensure!(all.len() == 2 * CONTAINERS, "an address was given twice");
    for node in [&a, &b] {
        node.run("ip link set vec1 up").await?;
        node.run("ovs-vsctl add-port dockline0 vec1").await?;
    }
    let ping = format!("docker exec c1 ping -c 2 -W 2 {}", on_b[0]);
    a.run(ping).await?;
    // What one host holds cannot be asked for on the other.
    let taken = format!("docker run --rm --network prod --ip {} busybox:lab true", on_a[0]);
    let refused = b.output(taken).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.code != 0 && said.contains("in use"), "the address was given twice: {said}");

    for node in [&a, &b] {
        let remove = "docker rm -f $(docker ps -aq); docker network rm prod";
        node.run(Cmd::sh(remove).deadline(Duration::from_secs(120))).await?;
    }
    let none = Cmd::sh("dockline status --output json | grep -q '\"addresses\": 0'");
    a.wait_for("no address is held", Duration::from_secs(30), none).await?;
    lab.down().await?;
    Ok(())
}
