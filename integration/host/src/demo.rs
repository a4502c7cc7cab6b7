//! The demonstration: what a user does, through the unmodified docker client, and what came of it,
//! read back from the real things: the container, the kernel and OVSDB.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::docker::Docker;
use crate::image;
use crate::place::Place;
use crate::report::{note, step};
use crate::switch::ovs_vsctl;

/// The demonstration's network.
pub const NETWORK: &str = "prod";
/// The demonstration's volume.
pub const VOLUME: &str = "data1";
/// The demonstration's containers.
pub const CONTAINERS: [&str; 2] = ["web1", "web2"];

/// What a container's data must still say after the container was replaced.
const WORDS: &str = "written by the first web1";

/// The demonstration on one place.
#[derive(Debug, Clone, Copy)]
pub struct Demo<'a> {
    docker: &'a Docker,
    place: &'a Place,
}

/// A container's connection, as the container, the kernel and OVSDB have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its address with the prefix length.
    pub address: String,
    /// Its MAC.
    pub mac: String,
    /// The port of the switch it is on.
    pub port: String,
    /// The port's VLAN tag.
    pub vlan: String,
}

impl<'a> Demo<'a> {
    /// A demonstration with this dockerd.
    pub fn new(docker: &'a Docker, place: &'a Place) -> Self {
        Self { docker, place }
    }

    /// Runs it; what stands already is left standing.
    pub async fn run(&self) -> Result<()> {
        step("an image for the containers, made of this machine's busybox", async {
            image::import(self.docker, self.place).await
        })
        .await?;
        self.make("network", NETWORK, &NETWORK_CREATE).await?;
        self.make("volume", VOLUME, &VOLUME_CREATE).await?;
        self.container("web1").await?;
        self.container("web2").await?;
        self.show().await?;
        self.replace_web1().await
    }

    /// Removes its containers, its network and its image; the volume only if `purge`.
    pub async fn remove(&self, purge: bool) -> Result<()> {
        for container in CONTAINERS {
            self.remove_one(&["rm", "-f", container], &["container", "inspect", container]).await?;
        }
        let network = ["network", "rm", NETWORK];
        self.remove_one(&network, &["network", "inspect", NETWORK]).await?;
        let image = ["image", "rm", image::NAME];
        self.remove_one(&image, &["image", "inspect", image::NAME]).await?;
        if purge {
            let volume = ["volume", "rm", VOLUME];
            self.remove_one(&volume, &["volume", "inspect", VOLUME]).await?;
        }
        Ok(())
    }

    async fn remove_one(&self, remove: &[&str], inspect: &[&str]) -> Result<()> {
        if self.docker.run(self.place, inspect).await.is_ok() {
            note(format!("docker {}", remove.join(" ")));
            self.docker.run(self.place, remove).await?;
        }
        Ok(())
    }

    async fn make(&self, kind: &str, name: &str, create: &[&str]) -> Result<()> {
        if self.docker.run(self.place, &[kind, "inspect", name]).await.is_ok() {
            println!("==> the {kind} {name} is there already");
            return Ok(());
        }
        let what = format!("docker {}", create.join(" "));
        step(&what, self.docker.run(self.place, create)).await?;
        Ok(())
    }

    async fn container(&self, name: &str) -> Result<()> {
        let inspect = ["container", "inspect", "--format", "{{.State.Running}}", name];
        match self.docker.run(self.place, &inspect).await.as_deref() {
            Ok("true") => {
                println!("==> the container {name} runs already");
                return Ok(());
            }
            Ok(_) => {
                step(
                    &format!("docker start {name}"),
                    self.docker.run(self.place, &["start", name]),
                )
                .await?;
                return Ok(());
            }
            Err(_) => {}
        }
        let run = container_run(name);
        let what = format!("docker {}", run.join(" "));
        step(&what, self.docker.run(self.place, &run)).await?;
        Ok(())
    }

    /// How a container is connected.
    pub async fn connection(&self, container: &str) -> Result<Connection> {
        let inside = |args: &[&str]| {
            let args: Vec<_> = ["exec", container].iter().chain(args).copied().collect();
            let command = self.docker.command(self.place, &args);
            async move { command.run().await.map(|output| output.text()) }
        };
        let addresses = inside(&["ip", "-4", "-o", "addr", "show", "eth0"]).await?;
        let mut words = addresses.split_whitespace();
        let address = words.find(|&word| word == "inet").and_then(|_| words.next());
        let address = address.context("eth0 has no IPv4 address")?.to_owned();
        let mac = inside(&["cat", "/sys/class/net/eth0/address"]).await?;
        let peer: u64 = inside(&["cat", "/sys/class/net/eth0/iflink"]).await?.parse()?;
        let links = self.place.program("ip").args(["-json", "link", "show"]).run().await?;
        let links: Vec<Value> = serde_json::from_slice(&links.stdout)?;
        let port = links.iter().find(|link| link["ifindex"] == peer);
        let port = port.and_then(|link| link["ifname"].as_str());
        let port = port.context("the other end of eth0 is not on this host")?;
        // The port is the far end of the same wire (docs/network.md).
        let port = port.replacen("dh-", "dl-", 1);
        let vlan = ovs_vsctl(self.place, &["get", "port", &port, "tag"]).await?;
        Ok(Connection { address, mac, port, vlan })
    }

    async fn show(&self) -> Result<()> {
        println!("==> what came of it, read back from the containers, the kernel and OVSDB");
        for container in CONTAINERS {
            let Connection { address, mac, port, vlan } = self.connection(container).await?;
            note(format!("{container}: address {address}, MAC {mac}, port {port}, VLAN {vlan}"));
        }
        let address = self.connection("web2").await?.address;
        let address = address.split('/').next().unwrap_or_default();
        note(self.exec("web1", &["ping", "-c", "3", "-W", "2", address]).await?);
        note(self.exec("web1", &["df", "-h", "/data"]).await?);
        Ok(())
    }

    async fn replace_web1(&self) -> Result<()> {
        let write = format!("echo {WORDS} > /data/words");
        note(format!("web1: {write}"));
        self.exec("web1", &["sh", "-c", &write]).await?;
        step("docker rm -f web1, and a new web1 on the same volume", async {
            self.docker.run(self.place, &["rm", "-f", "web1"]).await?;
            self.docker.run(self.place, &container_run("web1")).await
        })
        .await?;
        let read = self.exec("web1", &["cat", "/data/words"]).await?;
        ensure!(read == WORDS, "the volume has lost its file: it says {read:?}");
        note(format!("web1: cat /data/words\n{read}"));
        Ok(())
    }

    async fn exec(&self, container: &str, args: &[&str]) -> Result<String> {
        let args: Vec<_> = ["exec", container].iter().chain(args).copied().collect();
        let command = self.docker.command(self.place, &args).deadline(Duration::from_secs(30));
        Ok(command.run().await?.text())
    }
}

/// The arguments that make the network.
pub const NETWORK_CREATE: [&str; 13] = [
    "network",
    "create",
    "-d",
    "dockline-net",
    "--ipam-driver",
    "dockline-ipam",
    "-o",
    "vlan=100",
    "--subnet",
    "10.100.0.0/24",
    "--gateway",
    "10.100.0.1",
    NETWORK,
];

/// The arguments that make the volume.
pub const VOLUME_CREATE: [&str; 9] =
    ["volume", "create", "-d", "dockline-vol", "-o", "size=1GiB", "-o", "fs=xfs", VOLUME];

/// The arguments that run a container of the demonstration.
pub fn container_run(name: &str) -> Vec<&str> {
    let mut run = vec!["run", "-d", "--name", name, "--network", NETWORK];
    if name == "web1" {
        run.extend(["-v", "data1:/data", "--volume-driver", "dockline-vol"]);
    }
    // `tail` stays for ever; as the container's first process it would not hear SIGTERM.
    run.extend(["--init", image::NAME, "tail", "-f", "/dev/null"]);
    run
}
