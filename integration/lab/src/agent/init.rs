//! The first process of a node: mounts what a distribution expects, starts udev and the agent,
//! then buries orphans for as long as the node lives.
//!
//! The root is the machine's own (or an image), read-only through hostfs, with an overlay whose
//! upper half is on the node's system disk: what a node writes survives its power cuts as on a real
//! machine. An error here is printed on the console and ends the node, which the lab reports.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::pivot_root;

use super::program;
use crate::boot_config::{BootConfig, MODULES, SYSTEM_DISK, VARIABLE};

/// Folders that a program puts an overlay or a database on: they lie on the system disk itself,
/// because an overlay cannot be the upper half of another, and start empty whatever the machine has.
const OWN_FOLDERS: [&str; 6] = [
    "var/lib/docker",
    "var/lib/containerd",
    "var/lib/dockline",
    "var/lib/dockline-up",
    "var/lib/etcd",
    "var/lib/openvswitch",
];

/// Whether this process is a node's first one.
pub(crate) fn wanted() -> Option<PathBuf> {
    (std::process::id() == 1).then(|| std::env::var_os(VARIABLE)).flatten().map(PathBuf::from)
}

/// Brings the node up and keeps it up. An error goes to the console and switches the node off: a
/// first process that merely ended would bury it under the kernel's panic.
pub(crate) fn run_or_power_off(config: &Path) -> ExitCode {
    if let Err(error) = run(config) {
        eprintln!("lab init: {error:?}");
    }
    match reboot(RebootMode::RB_POWER_OFF) {
        Ok(never) => match never {},
        Err(error) => eprintln!("lab init: switching off: {error}"),
    }
    ExitCode::FAILURE
}

fn run(config: &Path) -> anyhow::Result<()> {
    let config = fs::read(config).with_context(|| format!("reading {}", config.display()))?;
    let config: BootConfig = serde_json::from_slice(&config)?;
    let root = build_root(&config)?;
    enter(&root)?;
    settle(&config)?;
    let agent = program(&config.program)
        .arg("agent")
        .arg(serde_json::to_string(&config)?)
        .spawn()
        .context("starting the agent")?;
    bury(agent.id())
}

/// Waits for every process that ends; the node stops when the agent does.
fn bury(agent: u32) -> anyhow::Result<()> {
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw().unsigned_abs() == agent => {
                bail!("the agent exited with {code}")
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw().unsigned_abs() == agent => {
                bail!("the agent was ended by {signal}")
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for processes"),
        }
    }
}

fn build_root(config: &BootConfig) -> anyhow::Result<PathBuf> {
    fs_mount("proc", Path::new("/proc"), "proc", "")?;
    fs_mount("sys", Path::new("/sys"), "sysfs", "")?;
    let disk = Path::new("/mnt");
    fs_mount(SYSTEM_DISK, disk, "ext4", "")?;
    for folder in ["modules/lib/modules", "upper", "work", "root", "own"] {
        fs::create_dir_all(disk.join(folder)).with_context(|| format!("making {folder}"))?;
    }
    // modprobe wants its folder at a fixed place that the machine need not have.
    bind(Path::new(MODULES), &disk.join("modules/lib/modules"))?;
    run_program("modprobe", &["-d", "/mnt/modules", "overlay"])?;
    let root = disk.join("root");
    let overlay =
        format!("lowerdir={},upperdir=/mnt/upper,workdir=/mnt/work", config.root.display());
    fs_mount("overlay", &root, "overlay", &overlay)?;
    for (source, at, kind, options) in [
        ("proc", "proc", "proc", ""),
        ("sys", "sys", "sysfs", ""),
        ("dev", "dev", "devtmpfs", ""),
        ("devpts", "dev/pts", "devpts", "ptmxmode=0666"),
        ("shm", "dev/shm", "tmpfs", ""),
        ("run", "run", "tmpfs", "mode=755"),
        ("tmp", "tmp", "tmpfs", ""),
        ("cgroup", "sys/fs/cgroup", "cgroup2", ""),
    ] {
        let at = root.join(at);
        // Kernel file systems bring their folders along; the others are made in the overlay.
        if !at.exists() {
            fs::create_dir_all(&at).with_context(|| format!("making {}", at.display()))?;
        }
        fs_mount(source, &at, kind, options)?;
    }
    for folder in OWN_FOLDERS {
        let own = disk.join("own").join(folder);
        fs::create_dir_all(&own).with_context(|| format!("making {}", own.display()))?;
        let at = root.join(folder);
        fs::create_dir_all(&at).with_context(|| format!("making {}", at.display()))?;
        bind(&own, &at)?;
    }
    let modules = (PathBuf::from(MODULES), PathBuf::from("lib/modules"));
    for (from, to) in config.shares.iter().chain([&modules]) {
        let at = root.join(to.strip_prefix("/").unwrap_or(to));
        fs::create_dir_all(&at).with_context(|| format!("making {}", at.display()))?;
        mount(Some("share"), &at, Some("hostfs"), MsFlags::MS_RDONLY, Some(from.as_path()))
            .with_context(|| format!("sharing {}", from.display()))?;
    }
    Ok(root)
}

/// Makes the built root the root of everything and lets go of the old one.
fn enter(root: &Path) -> anyhow::Result<()> {
    std::env::set_current_dir(root)?;
    pivot_root(".", ".").context("changing the root")?;
    umount2(".", MntFlags::MNT_DETACH).context("letting go of the old root")?;
    std::env::set_current_dir("/")?;
    Ok(())
}

/// What a distribution's own start would have done and programs count on.
fn settle(config: &BootConfig) -> anyhow::Result<()> {
    fs::write("/proc/sys/kernel/hostname", &config.name).context("setting the host name")?;
    let mut hosts = format!("127.0.0.1 localhost\n127.0.1.1 {}\n", config.name);
    for (name, address) in &config.hosts {
        hosts.push_str(&format!("{address} {name}\n"));
    }
    fs::write("/etc/hosts", hosts).context("writing /etc/hosts")?;
    // A user-mode root has every controller; a distribution's init would hand them down.
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +io +memory +pids")
        .context("delegating the cgroup controllers")?;
    fs::create_dir_all("/var/log/lab")?;
    fs::create_dir_all("/run/netns")?;
    let etc_mtab = Path::new("/etc/mtab");
    if !etc_mtab.exists() {
        std::os::unix::fs::symlink("/proc/self/mounts", etc_mtab)?;
    }
    run_program("ip", &["link", "set", "lo", "up"])?;
    for (card, address) in &config.addresses {
        run_program("ip", &["address", "add", address, "dev", card])?;
        run_program("ip", &["link", "set", card, "up"])?;
    }
    // LVM waits for udev's word on every device it makes; without udevd it waits for ever or aborts.
    run_program("/lib/systemd/systemd-udevd", &["--daemon"])
}

fn fs_mount(source: &str, at: &Path, kind: &str, options: &str) -> anyhow::Result<()> {
    mount(Some(source), at, Some(kind), MsFlags::empty(), Some(options))
        .with_context(|| format!("mounting {kind} on {}", at.display()))
}

fn bind(from: &Path, at: &Path) -> anyhow::Result<()> {
    mount(Some(from), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("showing {} on {}", from.display(), at.display()))
}

/// Runs a program of the node's root to its end.
pub(crate) fn run_program(name: &str, args: &[&str]) -> anyhow::Result<()> {
    let status = program(name).args(args).status().with_context(|| format!("starting {name}"))?;
    if status.success() {
        return Ok(());
    }
    let signal = status.signal().map(|signal| format!(" (signal {signal})")).unwrap_or_default();
    bail!("{name} {} failed: {:?}{signal}", args.join(" "), status.code())
}
