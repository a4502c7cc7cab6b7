//! The example of `docs/lab.md`, which quotes it.

use std::net::Ipv4Addr;

use dockline_lab::{Lab, NodeSpec, Way};

#[tokio::test]
async fn a_volume_outlives_a_power_cut_and_a_node_its_link() -> anyhow::Result<()> {
    let node = |name: &str, last| NodeSpec::new(name).card_at(Ipv4Addr::new(10, 0, 0, last), 24);
    let lab = Lab::builder("example").node(node("a", 1).disk_mib(512)).node(node("b", 2));
    let lab = lab.boot().await?;
    let (a, b) = (lab.node("a")?, lab.node("b")?);

    a.sh("vgcreate vg /dev/ubda; lvcreate -L 300M -n v vg; mkfs.xfs /dev/vg/v").await?;
    a.sh("mount /dev/vg/v /mnt; echo kept >/mnt/file; sync").await?;
    a.power_cycle().await?;
    assert_eq!(a.sh("vgchange -ay vg >&2; mount /dev/vg/v /mnt; cat /mnt/file").await?, "kept");

    b.run("busybox ping -c 1 a").await?;
    a.cut_link(0, Way::FromNode).await?;
    assert_ne!(b.output("busybox ping -c 1 -W 1 a").await?.code, 0);
    a.heal_link(0).await?;
    b.run("busybox ping -c 1 a").await?;
    Ok(lab.down().await?)
}
