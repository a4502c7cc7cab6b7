//! The user-mode kernel of one node as a process of the machine: its command line, its start, its
//! sudden end.
//!
//! A user-mode kernel is a process group: the kernel itself, its disk thread and one process per
//! address space of the guest. Killing only the kernel leaves the others behind, some of them
//! running; so everything here is done to the group.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::watch;

use crate::boot_config::{CONTROL_CARD, VARIABLE};
use crate::error::{LabError, io};
use crate::wait;

/// The user-mode kernel's program.
pub(crate) const PROGRAM: &str = "/usr/bin/linux.uml";

/// How long the processes of a killed node may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// What a node's kernel is started with.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The name of its host.
    pub(crate) name: String,
    /// The namespace its cards are in.
    pub(crate) namespace: PathBuf,
    /// The node's folder: control files, console, boot config.
    pub(crate) folder: PathBuf,
    /// The program that is its first process.
    pub(crate) init: PathBuf,
    /// The boot config that the first process reads.
    pub(crate) config: PathBuf,
    /// Memory in MiB.
    pub(crate) memory: u32,
    /// The CPU it is pinned to: one that wanders runs up to ten times slower.
    pub(crate) cpu: usize,
    /// Disk images by the letter's place: 0 is `/dev/ubda`.
    pub(crate) disks: Vec<(usize, PathBuf)>,
    /// Cards on the trunk: tap and MAC, in the order of `vec0`, `vec1`…
    pub(crate) cards: Vec<(String, String)>,
    /// The control link: tap and MAC.
    pub(crate) control: (String, String),
}

impl Kernel {
    /// Where its console is written.
    pub(crate) fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    fn args(&self) -> Vec<String> {
        let folder = self.folder.display();
        let mut args = vec![
            format!("mem={}M", self.memory),
            format!("umid={}", self.name),
            format!("uml_dir={folder}/uml"),
            "rootfstype=hostfs".to_owned(),
            "rootflags=/".to_owned(),
            "ro".to_owned(),
            format!("init={}", self.init.display()),
            format!("{VARIABLE}={}", self.config.display()),
            "con=null".to_owned(),
            "con0=null,fd:1".to_owned(),
            "panic=-1".to_owned(),
            "noreboot".to_owned(),
            "quiet".to_owned(),
        ];
        args.extend(self.disks.iter().map(|(at, image)| format!("ubd{at}={}", image.display())));
        let card = |name: &str, tap: &str, mac: &str, gro: u8| {
            format!("{name}:transport=tap,ifname={tap},depth=128,gro={gro},mac={mac}")
        };
        // Tagged traffic is faster without gro.
        args.extend(
            (0..).zip(&self.cards).map(|(at, (tap, mac))| card(&format!("vec{at}"), tap, mac, 0)),
        );
        let (tap, mac) = &self.control;
        args.push(card(CONTROL_CARD, tap, mac, 1));
        args
    }

    /// Where the kernel is to keep the node's memory, unless its own choice, /dev/shm, has room: a
    /// node that finds that full dies of it, at an odd moment.
    fn memory_folder(&self) -> Option<(&'static str, &Path)> {
        let shm = nix::sys::statvfs::statvfs("/dev/shm").ok();
        let room = shm.map_or(0, |shm| (shm.blocks_available() * shm.fragment_size()) >> 20);
        (room < u64::from(self.memory)).then_some(("TMPDIR", self.folder.as_path()))
    }

    /// Switches the power on.
    #[expect(clippy::disallowed_methods, reason = "a node runs until it is cut: no deadline fits")]
    pub(crate) fn start(&self) -> Result<Running, LabError> {
        let console = OpenOptions::new().create(true).append(true).open(self.console());
        let console = console.map_err(io("open a node's console"))?;
        let errors = console.try_clone().map_err(io("open a node's console"))?;
        let mut command = tokio::process::Command::new("nsenter");
        command
            .arg(format!("--net={}", self.namespace.display()))
            .args(["taskset", "-c", &self.cpu.to_string(), PROGRAM])
            .args(self.args())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(self.memory_folder())
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors)
            .current_dir(&self.folder)
            .process_group(0);
        let child = command.spawn().map_err(io("start nsenter (package util-linux)"))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let group = group.ok_or_else(|| LabError::Io {
            doing: format!("start node {}", self.name),
            source: std::io::Error::other("it ended at once"),
        })?;
        let (tell, ended) = watch::channel(None);
        tokio::spawn(bury(child, tell));
        Ok(Running { group, folder: self.folder.clone(), ended })
    }
}

/// A node's kernel that has power. Dropping it cuts the power.
#[derive(Debug)]
pub(crate) struct Running {
    group: Pid,
    folder: PathBuf,
    ended: Ended,
}

/// Tells how a kernel ended, once it has.
pub(crate) type Ended = watch::Receiver<Option<String>>;

/// Waits for a kernel's end and tells how it ended.
async fn bury(mut child: Child, tell: watch::Sender<Option<String>>) {
    let status = child.wait().await;
    tell.send_replace(Some(end_in_words(status)));
}

/// Waits until a kernel has ended; returns how.
pub(crate) async fn end_of(mut ended: Ended) -> String {
    let told = ended.wait_for(Option::is_some).await.ok().and_then(|how| how.clone());
    told.unwrap_or_else(|| "it was lost with the runtime that watched it".to_owned())
}

impl Running {
    /// What tells of its end.
    pub(crate) fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// Cuts the power and waits until nothing of it runs, so that its disks can be used again.
    pub(crate) async fn cut(self) -> Result<(), LabError> {
        self.kill();
        wait::until("every process of the killed node is gone", GONE, || {
            let left = self.members();
            let gone = if left.is_empty() { Ok(()) } else { Err(format!("processes {left:?}")) };
            std::future::ready(gone)
        })
        .await
    }

    /// Sends a signal to the kernel alone: stopped, it does nothing for its guest.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), LabError> {
        kill(self.group, signal).map_err(crate::error::errno("signal a node"))
    }

    fn kill(&self) {
        if self.ended.borrow().is_none() {
            // It may end by itself in this moment; then there is nothing left to kill.
            let _ = killpg(self.group, Signal::SIGKILL);
            return;
        }
        // The kernel is buried, and its number may be somebody else's by now.
        for pid in self.members() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// The live processes of this node.
    fn members(&self) -> Vec<i32> {
        let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
        let number = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.ok()?.file_name().to_str()?.parse::<i32>().ok()
        };
        processes.filter_map(number).filter(|&pid| self.is_member(pid).unwrap_or(false)).collect()
    }

    /// Whether a process is in the group and has the node's folder in its command line, as all
    /// processes of a user-mode kernel have; `None` if it is gone.
    fn is_member(&self, pid: i32) -> Option<bool> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, group) = (fields.next()?, fields.nth(1)?);
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let folder = self.folder.to_string_lossy();
        let ours = String::from_utf8_lossy(&line).contains(&*folder);
        Some(state != "Z" && group == self.group.to_string() && ours)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a node ended, in words.
fn end_in_words(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("it ended with exit code {code}"),
            (_, Some(signal)) => format!("it was ended by signal {signal}"),
            _ => "it ended".to_owned(),
        },
        Err(error) => format!("it was lost: {error}"),
    }
}

/// The last lines of a console, for an error message.
pub(crate) fn tail(console: &Path) -> String {
    const LINES: usize = 25;
    let text = std::fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
