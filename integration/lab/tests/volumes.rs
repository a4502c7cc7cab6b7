//! What volumes rest on: LVM thin pools, growth, throttling, and disks that fail.

use std::time::{Duration, Instant};

use dockline_lab::{Cmd, DiskFault, Lab, LabError, Node, NodeSpec, Userland};

async fn one(title: &str) -> anyhow::Result<(Lab, Node)> {
    let lab = Lab::builder(title).node(NodeSpec::new("a").disk_mib(2048)).boot().await?;
    let node = lab.node("a")?;
    Ok((lab, node))
}

/// A thin volume of 512 MiB with xfs, mounted on /v.
const THIN: &str = "vgcreate -q vg $DISK; lvcreate -q -T -L 1G vg/pool; \
    lvcreate -q -T -V 512M -n v vg/pool; mkfs.xfs -q /dev/vg/v; mkdir -p /v; mount /dev/vg/v /v";

fn thin(disk: &str) -> Cmd {
    Cmd::sh(THIN).env("DISK", disk)
}

#[tokio::test]
async fn a_thin_volume_grows_while_mounted_and_survives_a_power_cut() -> anyhow::Result<()> {
    grows_and_survives("thin volume", Userland::Debian12).await
}

#[tokio::test]
async fn a_thin_volume_on_debian13_does_too() -> anyhow::Result<()> {
    grows_and_survives("thin volume on Debian 13", Userland::Debian13).await
}

async fn grows_and_survives(title: &str, userland: Userland) -> anyhow::Result<()> {
    let node = NodeSpec::new("a").userland(userland).disk_mib(2048);
    let lab = Lab::builder(title).node(node).boot().await?;
    let node = lab.node("a")?;
    node.run(thin("/dev/ubda")).await?;
    node.sh("echo kept >/v/file; sync").await?;
    node.run("lvextend -q -r -L 900M vg/v").await?;
    let size = node.sh("df -BM --output=size /v | tail -n1").await?;
    let size: u32 = size.trim().trim_end_matches('M').parse()?;
    assert!((800..=900).contains(&size), "{size} MiB");
    node.power_cycle().await?;
    node.sh("vgchange -q -ay vg; mount /dev/vg/v /v").await?;
    assert_eq!(node.sh("cat /v/file").await?, "kept");
    lab.down().await?;
    Ok(())
}

#[tokio::test]
async fn io_max_limits_the_volumes_device() -> anyhow::Result<()> {
    let (lab, node) = one("io.max").await?;
    node.run(thin("/dev/ubda")).await?;
    let write = "d=$(cat /sys/block/$(basename $(readlink -f /dev/vg/v))/dev); g=/sys/fs/cgroup/t; \
        mkdir -p $g; echo \"$d wbps=$RATE\" >$g/io.max; echo $$ >$g/cgroup.procs; \
        dd if=/dev/zero of=/v/f bs=256K count=16 oflag=direct status=none";
    let time = async |rate: &str| {
        let started = Instant::now();
        node.run(Cmd::sh(write).env("RATE", rate)).await?;
        Ok::<_, LabError>(started.elapsed())
    };
    let (free, limited) = (time("max").await?, time("1048576").await?);
    println!("4 MiB: {free:?} without a limit, {limited:?} at 1 MiB/s");
    assert!(limited > Duration::from_secs(3), "{limited:?}");
    assert!(free < limited, "{free:?} without a limit");
    lab.down().await?;
    Ok(())
}

#[tokio::test]
async fn a_disk_dies_loses_writes_is_slow_and_recovers() -> anyhow::Result<()> {
    let (lab, node) = one("disk faults").await?;
    let disk = node.faulty_disk("/dev/ubda", "bad").await?;
    node.run(thin(&disk.device())).await?;
    assert_eq!(node.sh("pvs --noheadings -o pv_name").await?, disk.device());
    let device = disk.device();
    // The last sectors are nobody's; what is read and written there is the disk alone.
    let at = "seek=8190 bs=256K count=1 oflag=direct conv=notrunc status=none";
    let write = |byte: &str| {
        Cmd::sh(format!(
            "head -c 262144 /dev/zero | tr '\\0' {byte} | dd of={device} iflag=fullblock {at}"
        ))
    };
    let read =
        format!("dd if={device} skip=8190 bs=256K count=1 iflag=direct status=none | head -c1");
    node.run(write("a")).await?;
    assert_eq!(node.sh(&read).await?, "a");

    disk.set(DiskFault::Dead).await?;
    assert_ne!(node.output(write("b")).await?.code, 0, "a dead disk took a write");
    assert_eq!(node.sh(format!("{read} 2>/dev/null")).await?, "", "a dead disk was read");

    disk.set(DiskFault::RefusesWrites).await?;
    assert_ne!(node.output(write("b")).await?.code, 0);
    assert_eq!(node.sh(&read).await?, "a");

    disk.set(DiskFault::LosesWrites).await?;
    node.run(write("b")).await?;
    assert_eq!(node.sh(&read).await?, "a", "the write was not lost");

    let slow = Duration::from_millis(700);
    disk.set(DiskFault::Slow { read: slow, write: Duration::ZERO }).await?;
    let started = Instant::now();
    assert_eq!(node.sh(&read).await?, "a");
    println!("a read that is delayed by {slow:?} took {:?}", started.elapsed());
    assert!(started.elapsed() >= slow);

    let flakey = DiskFault::Flakey { up: Duration::from_secs(1), down: Duration::from_secs(1) };
    disk.set(flakey).await?;
    let fails = Cmd::sh(format!("! {read} 2>/dev/null | grep -q a"));
    node.wait_for("a failure of the flakey disk", Duration::from_secs(10), fails).await?;
    let works = Cmd::sh(format!("{read} 2>/dev/null | grep -q a"));
    node.wait_for("its recovery", Duration::from_secs(10), works).await?;

    disk.set(DiskFault::None).await?;
    node.run(write("b")).await?;
    assert_eq!(node.sh(&read).await?, "b");
    lab.down().await?;
    Ok(())
}

#[tokio::test]
async fn a_full_disk_is_full_until_the_filler_goes() -> anyhow::Result<()> {
    let (lab, node) = one("full disk").await?;
    node.sh("mkfs.xfs -q /dev/ubda; mkdir /v; mount /dev/ubda /v").await?;
    let filler = node.fill("/v").await?;
    let full = node.output(Cmd::sh("head -c 1000000 /dev/zero >/v/more; sync /v/more")).await?;
    assert_ne!(full.code, 0);
    node.run(["rm", &filler]).await?;
    node.sh("head -c 1000000 /dev/zero >/v/more; sync /v/more").await?;
    lab.down().await?;
    Ok(())
}
