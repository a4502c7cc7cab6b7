//! One node: from boot to ready, commands, files, disks.

use dockline_lab::{Cmd, Lab, NodeSpec};

#[tokio::test]
async fn a_node_boots() {
    let lab = Lab::builder("boots").node(NodeSpec::new("a").disk_mib(64)).boot().await.unwrap();
    let node = lab.node("a").unwrap();
    let t = std::time::Instant::now();
    for _ in 0..20 { node.run("true").await.unwrap(); }
    println!("command {:?}", t.elapsed() / 20);
    println!("{}", node.sh("uname -a; cat /proc/mounts; cat /proc/uptime; ps -ef; df -h; ip a; cat /sys/fs/cgroup/cgroup.controllers; dmesg | tail -5").await.unwrap());
    let t = std::time::Instant::now();
    let out = node.run(Cmd::sh("head -c 100000000 /dev/zero")).await.unwrap();
    println!("100 MB {:?} {}", t.elapsed(), out.stdout.len());
    lab.down().await.unwrap();
}
