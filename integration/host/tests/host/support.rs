//! What the tests of the host tier share.

use std::time::Duration;

use anyhow::{Context, Result};
use dockline_host::image;
use dockline_host::report::wait_until;
use dockline_host::suite::Suite;
use dockline_host::switch::ovs_vsctl;
use serde_json::Value;

/// How long something that needs two looks of the janitor may take.
pub(crate) const TWO_LOOKS: Duration = Duration::from_secs(100);

/// Runs a container that stays until it is removed.
pub(crate) async fn run(suite: &Suite, name: &str, options: &[&str]) -> Result<String> {
    let mut args = vec!["run", "-d", "--init", "--name", name];
    args.extend(options);
    args.extend([image::NAME, "tail", "-f", "/dev/null"]);
    suite.docker(&args).await
}

/// Runs a command in a container and returns what it printed.
pub(crate) async fn exec(suite: &Suite, container: &str, args: &[&str]) -> Result<String> {
    let args: Vec<_> = ["exec", container].iter().chain(args).copied().collect();
    suite.docker(&args).await
}

/// The names of the containers' ports on the switch.
pub(crate) async fn ports(suite: &Suite) -> Result<Vec<String>> {
    // The bridge is made with the first port.
    let ports = ovs_vsctl(&suite.place, &["list-ports", "dockline0"]).await.unwrap_or_default();
    Ok(ports.lines().map(str::to_owned).collect())
}

/// The loop devices whose files lie on the suite's stage.
pub(crate) async fn loop_devices(suite: &Suite) -> Result<Vec<String>> {
    let listed = suite.run("losetup", &["--json", "--list", "--output", "NAME,BACK-FILE"]).await?;
    let listed: Value = serde_json::from_str(&listed).unwrap_or_default();
    let devices = listed["loopdevices"].as_array().cloned().unwrap_or_default();
    let folder = suite.place.folder.display().to_string();
    let files = devices.iter().filter_map(|device| device["back-file"].as_str());
    Ok(files.filter(|file| file.starts_with(&folder)).map(str::to_owned).collect())
}

/// The mounts of volumes, as the suite's stage has them.
pub(crate) async fn volume_mounts(suite: &Suite) -> Result<Vec<String>> {
    let mounts = suite.run("cat", &["/proc/self/mountinfo"]).await?;
    let is_volume = |line: &&str| line.contains("/dev/loop") && line.contains("dockline");
    Ok(mounts.lines().filter(is_volume).map(str::to_owned).collect())
}

/// The devices of containers that are on the host.
pub(crate) async fn container_devices(suite: &Suite) -> Result<Vec<String>> {
    let links = suite.run("ip", &["-json", "link", "show"]).await?;
    let links: Vec<Value> = serde_json::from_str(&links)?;
    let names = links.iter().filter_map(|link| link["ifname"].as_str());
    let ours = names
        .filter(|name| ["dc-", "dh-", "dl-", "ds-"].iter().any(|prefix| name.starts_with(prefix)));
    Ok(ours.map(str::to_owned).collect())
}

/// What `dockline status` says of one daemon.
pub(crate) async fn status(suite: &Suite, daemon: &str) -> Result<Value> {
    let dockline = dockline_host::daemons::built("dockline")?;
    let config = suite.place.folder.join("dockline.toml");
    let command = suite.place.program(&dockline.display().to_string()).arg("--config").arg(config);
    let output = command.args(["status", "--output", "json"]).output().await?;
    let all: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let one = all.into_iter().find(|one| one["name"] == daemon);
    Ok(one.unwrap_or_default())
}

/// Waits until no container's port, device, address, loop device or mount is left.
pub(crate) async fn nothing_left(suite: &Suite, patience: Duration) -> Result<()> {
    let mut left = String::new();
    let waited = wait_until("nothing is left", patience, async || {
        let addresses = status(suite, "dockline-ipam").await?["counts"]["addresses"].clone();
        left = format!(
            "ports {:?}, devices {:?}, loop devices {:?}, mounts {:?}, addresses {addresses}",
            ports(suite).await?,
            container_devices(suite).await?,
            loop_devices(suite).await?,
            volume_mounts(suite).await?,
        );
        Ok(left == "ports [], devices [], loop devices [], mounts [], addresses 0")
    });
    waited.await.with_context(|| format!("left behind: {left}"))
}
