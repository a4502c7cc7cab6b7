//! The contract suite again, on nodes with device-mapper: volumes are devices there.

use std::time::Duration;

use dockline_lab::{Cmd, Lab, NodeSpec, Userland};

async fn suite_passes_on(title: &str, userland: Userland) -> anyhow::Result<()> {
    let node = NodeSpec::new("a").userland(userland);
    let lab = Lab::builder(title).node(node).boot().await?;
    let node = lab.node("a")?;
    node.run("modprobe loop").await?;
    let tests = std::env::current_exe()?;
    let name = tests.file_name().and_then(|name| name.to_str()).expect("a name");
    // One after another: a node has one CPU.
    let suite = Cmd::new(format!("/lab/bin/deps/{name}")).args(["contract::", "--test-threads=1"]);
    let suite = suite.deadline(Duration::from_secs(200));
    let output = node.output(suite).await?;
    let (said, complaint) = (output.text(), String::from_utf8_lossy(&output.stderr));
    println!("{}: {}", node.sh("lvm version | head -n1").await?, said);
    assert_eq!(output.code, 0, "{complaint}");
    assert!(said.contains("14 passed"), "{said}");
    Ok(lab.down().await?)
}

#[tokio::test]
async fn the_contract_holds_on_a_node() -> anyhow::Result<()> {
    suite_passes_on("lvm contract", Userland::Debian12).await
}

#[tokio::test]
async fn the_contract_holds_on_debian13() -> anyhow::Result<()> {
    suite_passes_on("lvm contract on Debian 13", Userland::Debian13).await
}
