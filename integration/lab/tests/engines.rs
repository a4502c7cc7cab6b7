//! dockerd on a node, in both versions there are.

use std::time::{Duration, Instant};

use dockline_lab::{Cmd, Lab, NodeSpec, Userland};

async fn runs_a_container(title: &str, userland: Userland, version: &str) -> anyhow::Result<()> {
    let lab = Lab::builder(title).node(NodeSpec::new("a").userland(userland).memory_mib(2048));
    let lab = lab.boot().await?;
    let node = lab.node("a")?;
    let started = Instant::now();
    node.start_dockerd(&[]).await?;
    println!("dockerd answered after {:?}", started.elapsed());
    let engine = node.sh("docker version --format '{{.Server.Version}}'").await?;
    assert!(engine.starts_with(version), "{engine}");
    let info = node.sh("docker info --format '{{.Driver}} {{.CgroupVersion}}'").await?;
    assert_eq!(info, "overlay2 2");
    node.import_busybox().await?;
    let run = "docker run --rm --network none --memory 64m busybox:lab echo from a container";
    let started = Instant::now();
    assert_eq!(node.sh(run).await?, "from a container");
    println!("docker run took {:?}", started.elapsed());
    // What the engine has written is there after a power cut, as on a real machine.
    node.sh("docker create --name kept --network none busybox:lab echo kept; sync").await?;
    node.power_cycle().await?;
    node.start_dockerd(&[]).await?;
    let start = Cmd::from("docker start --attach kept").deadline(Duration::from_secs(60));
    assert_eq!(node.run(start).await?.text(), "kept");
    // A killed daemon comes back, too.
    node.kill_program("dockerd").await?;
    node.start_dockerd(&[]).await?;
    lab.down().await?;
    Ok(())
}

#[tokio::test]
async fn docker_20_10_runs_a_container() -> anyhow::Result<()> {
    runs_a_container("Docker 20.10", Userland::Debian12, "20.10.").await
}

#[tokio::test]
async fn docker_26_1_on_debian13_runs_a_container() -> anyhow::Result<()> {
    runs_a_container("Docker 26.1", Userland::Debian13, "26.1.").await
}
