//! The suite on this machine itself: starting what is missing, and stopping just that again.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dockline_host::daemons::{Daemon, built};
use dockline_host::demo::Demo;
use dockline_host::docker::{self, Docker};
use dockline_host::place::Place;
use dockline_host::process::Process;
use dockline_host::report::{note, step};
use dockline_host::switch::{self, Switch, ovs_vsctl};
use nix::unistd::geteuid;

/// Where what `up` started keeps its files and logs.
pub(crate) const FOLDER: &str = "/var/lib/dockline-up";
/// The daemons' own folder (the default of the configuration's `state_dir`).
const STATE: &str = "/var/lib/dockline";
/// The daemons' sockets and locks (the default of the configuration's `run_dir`).
const RUN: &str = "/run/dockline";
/// Our bridge (the default of the configuration's `net.bridge`).
const BRIDGE: &str = "dockline0";

/// The processes that `up` started, by name; kept in a file, so that `down` stops no others.
#[derive(Debug, Default)]
struct Started(BTreeMap<String, Process>);

impl Started {
    fn file() -> std::path::PathBuf {
        Path::new(FOLDER).join("started.json")
    }

    fn load() -> Result<Self> {
        match std::fs::read(Self::file()) {
            Ok(text) => Ok(Self(serde_json::from_slice(&text).context("started.json is damaged")?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    fn add(&mut self, name: &str, process: Process) -> Result<()> {
        self.0.insert(name.to_owned(), process);
        std::fs::write(Self::file(), serde_json::to_vec_pretty(&self.0)?)?;
        Ok(())
    }

    fn runs(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(Process::is_alive)
    }
}

/// Starts what is missing and runs the demonstration.
pub(crate) async fn up() -> Result<()> {
    ensure!(geteuid().is_root(), "this needs root: it makes network interfaces and mounts");
    let place = Place::here(Path::new(FOLDER))?;
    let mut started = Started::load()?;
    load_modules(&place).await;
    start_switch(&place, &mut started).await?;
    for daemon in Daemon::ALL {
        start_daemon(daemon, &place, &mut started).await?;
    }
    let docker = start_docker(&place, &mut started).await?;
    let demo = Demo::new(&docker, &place);
    demo.run().await?;
    println!("==> dockline status");
    let status = place.program(built("dockline")?.to_str().context("a path that is not text")?);
    note(status.arg("status").run().await?.text());
    let neighbour = demo.connection("web2").await?;
    say_what_next(&docker, neighbour.address.split('/').next().unwrap_or_default())
}

/// Loads the kernel's modules that are used if they are there: loop devices for volumes, and the
/// switch's fast datapath.
async fn load_modules(place: &Place) {
    for module in ["loop", "openvswitch"] {
        // Built in, or not to be had: what needs it says so when it is used.
        let _ = place.program("modprobe").args(["--quiet", module]).run().await;
    }
}

async fn start_switch(place: &Place, started: &mut Started) -> Result<()> {
    if switch::answers(place).await {
        println!("==> Open vSwitch runs already");
        return Ok(());
    }
    let switch = step("starting Open vSwitch", Switch::start(place)).await?;
    started.add("ovsdb-server", switch.database)?;
    started.add("ovs-vswitchd", switch.vswitchd)
}

async fn start_daemon(daemon: Daemon, place: &Place, started: &mut Started) -> Result<()> {
    let name = daemon.name();
    if daemon.answers(place).await {
        println!("==> {name} runs already");
        return Ok(());
    }
    let process = step(&format!("starting {name}"), daemon.start(place)).await?;
    started.add(name, process)
}

async fn start_docker(place: &Place, started: &mut Started) -> Result<Docker> {
    let own = Docker { host: format!("unix://{FOLDER}/docker.sock"), process: None };
    if started.runs("dockerd") && own.version(place).await.is_ok() {
        println!("==> dockerd runs already");
        return Ok(own);
    }
    if let Some(docker) = Docker::found(place).await {
        println!("==> using this machine's dockerd {}", docker.version(place).await?);
        return Ok(docker);
    }
    let what = "starting a dockerd of our own (none answers on /var/run/docker.sock)";
    let docker = step(what, Docker::start(place, &docker::QUIET)).await?;
    note(format!("version {}", docker.version(place).await?));
    if let Some(process) = docker.process {
        started.add("dockerd", process)?;
    }
    Ok(docker)
}

fn say_what_next(docker: &Docker, neighbour: &str) -> Result<()> {
    let status = built("dockline")?;
    println!("\nIt works. What to try next:");
    println!("    export DOCKER_HOST={}", docker.host);
    println!("    docker exec web1 ping -c 1 {neighbour}");
    println!("    docker network inspect prod");
    println!("    docker volume inspect data1");
    println!("    ovs-vsctl show");
    println!("    {} status", status.display());
    println!("Logs are in {FOLDER}. `make down` stops it all and keeps the volumes;");
    println!("`make purge` removes them too.");
    Ok(())
}

/// Stops and removes what [`up`] made.
pub(crate) async fn down(purge: bool) -> Result<()> {
    ensure!(geteuid().is_root(), "this needs root, as `make up` did");
    let place = Place::here(Path::new(FOLDER))?;
    let started = Started::load()?;
    let own = Docker { host: format!("unix://{FOLDER}/docker.sock"), process: None };
    let docker = if started.runs("dockerd") { Some(own) } else { Docker::found(&place).await };
    if let Some(docker) = &docker {
        println!("==> removing the demonstration");
        Demo::new(docker, &place).remove(purge).await?;
        if started.runs("dockerd") {
            remove_containers(docker, &place).await?;
        }
    }
    if switch::answers(&place).await {
        remove_bridge(&place).await?;
    }
    // dockerd before the plugins it calls, and the switch last.
    for name in
        ["dockerd", "dockline-vol", "dockline-net", "dockline-ipam", "ovs-vswitchd", "ovsdb-server"]
    {
        if let Some(process) = started.0.get(name).filter(|process| process.is_alive()) {
            step(&format!("stopping {name}"), process.stop()).await?;
        }
    }
    remove_folder(FOLDER)?;
    if purge {
        ensure_unused(STATE)?;
        remove_folder(STATE)?;
        remove_folder(RUN)?;
        println!("Everything is gone, the volumes too.");
    } else {
        println!("Everything is stopped. Volumes stay in {STATE}; `make purge` removes them.");
    }
    Ok(())
}

/// Removes the containers of our own dockerd, which would otherwise run on without it.
async fn remove_containers(docker: &Docker, place: &Place) -> Result<()> {
    let all = docker.run(place, &["ps", "--all", "--quiet"]).await?;
    for container in all.lines() {
        note(format!("docker rm -f {container}"));
        docker.run(place, &["rm", "-f", container]).await?;
    }
    Ok(())
}

/// Removes our bridge, unless something else is still on it.
async fn remove_bridge(place: &Place) -> Result<()> {
    if ovs_vsctl(place, &["br-exists", BRIDGE]).await.is_err() {
        return Ok(());
    }
    let ports = ovs_vsctl(place, &["list-ports", BRIDGE]).await?;
    if ports.is_empty() {
        ovs_vsctl(place, &["del-br", BRIDGE]).await?;
    } else {
        note(format!("the bridge {BRIDGE} stays: it has the ports {}", ports.replace('\n', ", ")));
    }
    Ok(())
}

/// Refuses to remove a folder in which something is mounted: a container still uses it.
fn ensure_unused(folder: &str) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let used = mounted_below(&mounts, folder);
    ensure!(used.is_empty(), "still in use, so nothing is removed: {}", used.join(", "));
    Ok(())
}

/// The mount points below a folder, in the text of a `mountinfo`.
fn mounted_below<'a>(mountinfo: &'a str, folder: &str) -> Vec<&'a str> {
    let below = format!("{folder}/");
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.starts_with(&below)).collect()
}

/// Removes a folder with all that is in it. One that something is mounted on stays, empty.
fn remove_folder(folder: &str) -> Result<()> {
    let removed = remove_content(Path::new(folder)).and_then(|()| std::fs::remove_dir(folder));
    match removed {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ResourceBusy) => {
            Err(error).with_context(|| format!("cannot remove {folder}"))
        }
        _ => Ok(()),
    }
}

fn remove_content(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_mounted_volume_is_not_removed() {
        let mountinfo = "36 25 7:0 / /var/lib/dockline/volumes/mounts/v1 rw - xfs /dev/loop0 rw\n\
                         37 25 8:1 / /var/lib/dockline rw - ext4 /dev/sda1 rw\n\
                         38 25 8:2 / /var/lib/dockline-up rw - ext4 /dev/sda2 rw\n";
        let below = mounted_below(mountinfo, "/var/lib/dockline");
        assert_eq!(below, ["/var/lib/dockline/volumes/mounts/v1"]);
        // Every machine has something mounted below /dev.
        assert!(ensure_unused("/dev").unwrap_err().to_string().contains("nothing is removed"));
    }

    #[test]
    fn a_folder_goes_with_all_that_is_in_it_and_a_missing_one_is_a_success() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("folder");
        std::fs::create_dir_all(folder.join("inner")).unwrap();
        std::fs::write(folder.join("inner/file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", folder.join("link")).unwrap();
        remove_folder(folder.to_str().unwrap()).unwrap();
        assert!(!folder.exists() && Path::new("/etc/passwd").exists());
        remove_folder(folder.to_str().unwrap()).unwrap();
    }
}
