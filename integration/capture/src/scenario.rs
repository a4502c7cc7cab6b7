//! What is done while traffic is written down: every kind of call that this engine sends, with and
//! without each of the options that show in it, and some that are refused.

use std::path::Path;

use anyhow::{Context, Result};
use dockline_host::daemons::Daemon;
use dockline_host::docker::QUIET;
use dockline_host::image;
use dockline_host::place::Place;
use dockline_host::report::wait_until;
use dockline_host::suite::Suite;

/// The docker commands, in their order; the ones that are to be refused begin with `!`.
const COMMANDS: &[&str] = &[
    "network create -d dockline-net --ipam-driver dockline-ipam -o vlan=100 -o mtu=1400 \
     --subnet 10.100.0.0/24 --ip-range 10.100.0.128/25 --gateway 10.100.0.1 \
     --aux-address router=10.100.0.2 --label x=y one",
    "network create -d dockline-net --ipam-driver dockline-ipam two",
    "network create -d dockline-net --ipam-driver dockline-ipam --internal --ipam-opt space=lab \
     --subnet 10.100.0.0/24 three",
    "network create -d dockline-net --ipam-driver dockline-ipam --ipv6 --subnet 10.103.0.0/24 \
     --subnet 2001:db8:1::/64 --gateway 2001:db8:1::1 four",
    "!network create -d dockline-net --ipam-driver dockline-ipam -o vlan=4095 bad",
    "!network create -d dockline-net --ipam-driver dockline-ipam --subnet 10.100.0.0/16 bad",
    "volume create -d dockline-vol -o size=64MiB -o fs=ext4 data",
    "volume create -d dockline-vol -o size=64MiB -o fs=ext4 data",
    "!volume create -d dockline-vol -o size=0 bad",
    "volume ls",
    "volume inspect data",
    "run -d --init --name c1 --network one -v data:/data --volume-driver dockline-vol IMAGE \
     tail -f /dev/null",
    "cp /etc/hostname c1:/data/file",
    "run -d --init --name c2 --network one --ip 10.100.0.9 --mac-address 02:42:0a:64:00:63 IMAGE \
     tail -f /dev/null",
    "!run --name c3 --network one --ip 10.100.0.9 IMAGE true",
    "!run --name c4 --network one -p 80:80 IMAGE true",
    "run -d --init --name c5 --network four --expose 80 IMAGE tail -f /dev/null",
    "network connect two c1",
    "network disconnect two c1",
    "restart -t 1 c1",
    "rm -f c1 c2 c3 c4 c5",
    "volume rm data",
    "network rm one two three four",
];

/// Runs the scenario and writes one file for each plugin.
pub(crate) async fn run(output: &Path) -> Result<()> {
    std::fs::create_dir_all(output)?;
    let output = output.canonicalize()?;
    let place = Place::stage().await?;
    let own = std::env::current_exe()?;
    let own = own.to_str().context("a path that is not text")?;
    let real = place.folder.join("plugins").display().to_string();
    for daemon in Daemon::ALL {
        let socket = format!("{}.sock", daemon.name());
        let file = output.join(format!("{}.jsonl", daemon.name()));
        let _ = std::fs::remove_file(&file);
        let listen = format!("/run/docker/plugins/{socket}");
        place.program("mkdir").args(["-p", "/run/docker/plugins"]).run().await?;
        let (forward, file) = (format!("{real}/{socket}"), file.display().to_string());
        let flags = ["--listen", &listen, "--forward", &forward, "--output", &file];
        let command = [&[own, "proxy"], &flags[..]].concat();
        place.start(&format!("proxy-{}", daemon.name()), &command, &[]).await?;
        let there = async || Ok(place.program("test").args(["-S", &listen]).run().await.is_ok());
        wait_until("the proxy listens", std::time::Duration::from_secs(10), there).await?;
    }
    let suite = Suite::on(place, &QUIET, &format!("plugins_dir = {real:?}\n")).await?;
    for line in COMMANDS {
        let (refused, line) = line.strip_prefix('!').map_or((false, *line), |line| (true, line));
        let args: Vec<_> = line.split_whitespace().map(named).collect();
        println!("docker {line}");
        if refused {
            suite.docker_error(&args).await?;
        } else {
            suite.docker(&args).await?;
        }
    }
    println!("engine {}", suite.docker.version(&suite.place).await?);
    Ok(())
}

fn named(word: &str) -> &str {
    if word == "IMAGE" { image::NAME } else { word }
}
