//! The suite on nodes with a real kernel: the demonstration on both engines, and two hosts.

use std::time::Duration;

use anyhow::{Context, ensure};
use dockline_lab::{Cmd, Lab, Node, NodeSpec, Userland};

/// A demonstration runs a dozen docker commands, each of which takes seconds on a node.
const DEMONSTRATION: Duration = Duration::from_secs(200);

/// What `make up` runs, on a node with the kernel's datapath.
async fn demonstration(title: &str, userland: Userland, version: &str) -> anyhow::Result<()> {
    let node = NodeSpec::new("a").userland(userland).memory_mib(3072);
    let lab = Lab::builder(title).node(node).boot().await?;
    let node = lab.node("a")?;
    node.ready_for_ovs().await?;
    let up = Cmd::from("dockline-up up").deadline(DEMONSTRATION);
    let shown = node.run(up.clone()).await?.text();
    println!("{shown}");
    ensure!(shown.contains(&format!("version {version}")), "another engine than {version}");
    ensure!(
        shown.contains("3 packets transmitted, 3 packets received"),
        "web1 does not reach web2"
    );
    ensure!(shown.matches("VLAN 100").count() == 2, "the containers are not on VLAN 100");
    ensure!(shown.contains("datapath: kernel"), "the datapath is not the kernel's");
    ensure!(shown.contains("written by the first web1"), "the volume has lost its file");
    let again = node.run(up).await?.text();
    ensure!(again.contains("the container web2 runs already"), "a second time is not harmless");

    let purge = Cmd::from("dockline-up purge").deadline(DEMONSTRATION);
    node.run(purge).await?;
    let left = "(ip -o link | grep ' d[lc]-'; losetup --list --noheadings; \
                grep /dev/loop /proc/self/mountinfo) || true";
    let left = node.sh(left).await?;
    ensure!(left.is_empty(), "left behind: {left}");
    lab.down().await?;
    Ok(())
}

#[tokio::test]
async fn the_demonstration_on_docker_20_10_and_the_kernels_datapath() -> anyhow::Result<()> {
    demonstration("demonstration on Docker 20.10", Userland::Debian12, "20.10.").await
}

#[tokio::test]
async fn the_demonstration_on_debian13_docker_26_1_and_the_kernels_datapath() -> anyhow::Result<()>
{
    demonstration("demonstration on Docker 26.1", Userland::Debian13, "26.1.").await
}

/// Starts everything on a node and makes networks of VLAN 10 and 20 on the same subnet, with a
/// range of the node's own; `vec0` is the trunk.
async fn host(node: &Node, range: &str) -> anyhow::Result<()> {
    node.start_ovs().await?;
    node.start_dockline().await?;
    node.start_dockerd(&["--bridge=none"]).await?;
    node.import_busybox().await?;
    for vlan in [10, 20] {
        let create = format!(
            "docker network create -d dockline-net --ipam-driver dockline-ipam -o vlan={vlan} \
             --ipam-opt space=v{vlan} --subnet 10.1.0.0/24 --ip-range {range} \
             --gateway 10.1.0.1 v{vlan}"
        );
        node.run(create).await?;
        let run = format!(
            "docker run -d --init --name c{vlan} --network v{vlan} busybox:lab tail -f /dev/null"
        );
        node.run(run).await?;
    }
    node.run("ip link set vec0 up").await?;
    node.run("ovs-vsctl add-port dockline0 vec0").await?;
    Ok(())
}

async fn address(node: &Node, container: &str) -> anyhow::Result<String> {
    let show = format!("docker exec {container} ip -4 -o addr show eth0");
    let shown = node.sh(show).await?;
    let address = shown.split_whitespace().skip_while(|&word| word != "inet").nth(1);
    Ok(address.and_then(|a| a.split('/').next()).context("no address")?.to_owned())
}

async fn reaches(node: &Node, container: &str, address: &str) -> anyhow::Result<bool> {
    let ping = format!("docker exec {container} ping -c 2 -W 2 {address}");
    Ok(node.output(ping).await?.code == 0)
}

#[tokio::test]
async fn containers_of_two_hosts_reach_their_own_vlan_and_no_other() -> anyhow::Result<()> {
    let spec = |name: &str| NodeSpec::new(name).card().memory_mib(3072);
    let lab = Lab::builder("two hosts").node(spec("a")).node(spec("b")).boot().await?;
    let (a, b) = (lab.node("a")?, lab.node("b")?);
    tokio::try_join!(host(&a, "10.1.0.64/26"), host(&b, "10.1.0.128/26"))?;

    let (a10, b10) = (address(&a, "c10").await?, address(&b, "c10").await?);
    let (a20, b20) = (address(&a, "c20").await?, address(&b, "c20").await?);
    println!("VLAN 10: {a10} and {b10}; VLAN 20: {a20} and {b20}");
    ensure!(reaches(&a, "c10", &b10).await?, "VLAN 10 is not carried between the hosts");
    ensure!(reaches(&b, "c20", &a20).await?, "VLAN 20 is not carried between the hosts");
    // The same subnet on both VLANs, so that an address is only reached on its own: with the
    // containers of VLAN 10 on one host gone, the other's is not to be found from VLAN 20.
    a.run("docker rm -f c10").await?;
    b.run("docker rm -f c20").await?;
    ensure!(!reaches(&a, "c20", &b10).await?, "VLAN 20 reaches VLAN 10 on another host");
    ensure!(!reaches(&b, "c10", &a20).await?, "VLAN 10 reaches VLAN 20 on another host");
    lab.down().await?;
    Ok(())
}

/// Everything that a machine's own services would start at boot.
async fn start_all(node: &Node) -> anyhow::Result<()> {
    node.start_ovs().await?;
    node.start_dockline().await?;
    node.start_dockerd(&["--bridge=none"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_power_cut_loses_nothing_that_was_written_and_leaves_nothing_behind() -> anyhow::Result<()>
{
    let spec = NodeSpec::new("a").memory_mib(3072);
    let lab = Lab::builder("power cut").node(spec).boot().await?;
    let node = lab.node("a")?;
    start_all(&node).await?;
    node.import_busybox().await?;
    node.run(
        "docker network create -d dockline-net --ipam-driver dockline-ipam -o vlan=7 \
         --subnet 10.7.0.0/24 lan",
    )
    .await?;
    node.run("docker volume create -d dockline-vol -o size=64MiB -o fs=ext4 data").await?;
    node.run(
        "docker run -d --init --name one --network lan --ip 10.7.0.9 -v data:/data \
         busybox:lab tail -f /dev/null",
    )
    .await?;
    node.sh("docker exec one sh -c 'echo kept > /data/file; sync'").await?;
    node.power_cycle().await?;

    start_all(&node).await?;
    node.run("docker start one").await?;
    ensure!(node.sh("docker exec one cat /data/file").await? == "kept", "the file is lost");
    ensure!(address(&node, "one").await? == "10.7.0.9", "the address is another");
    node.run("docker rm -f one").await?;
    node.run("docker volume rm data").await?;
    node.run("docker network rm lan").await?;
    // The port of before the cut has no device; the daemon removes it after two looks.
    let clean = "[ -z \"$(ovs-vsctl list-ports dockline0)\" ] && \
                 dockline status --output json | grep -q '\"addresses\": 0'";
    node.wait_for("nothing is left", Duration::from_secs(100), Cmd::sh(clean)).await?;
    let left = "(losetup --list --noheadings; ls /var/lib/dockline/volumes/volumes) || true";
    let left = node.sh(left).await?;
    ensure!(left.is_empty(), "left behind: {left}");
    lab.down().await?;
    Ok(())
}
