//! Tearing a lab down to nothing, by whoever is left to do it.
//!
//! The same function serves the lab's own end, the reaper that outlives a killed owner, and the
//! sweep that finds what both of them left. It touches one lab's processes (those in its network
//! namespace), its one mount and its folder, and nothing else.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{LabError, errno, io};
use crate::mark::{LabId, folders};

/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// Removes everything of every lab whose owner is dead; returns what was removed.
pub fn sweep() -> Result<Vec<LabId>, LabError> {
    let mut dead: Vec<LabId> = LabId::all();
    dead.retain(|id| !id.owner_lives());
    for &id in &dead {
        tear_down(id)?;
    }
    Ok(dead)
}

/// Removes everything of one lab. What is gone already is no error, so that two may do it at once.
pub(crate) fn tear_down(id: LabId) -> Result<(), LabError> {
    let handle = id.namespace();
    let started = Instant::now();
    loop {
        let left = processes_in(&handle);
        if left.is_empty() {
            break;
        }
        if started.elapsed() > GONE {
            return Err(LabError::NotMet {
                what: format!("the end of lab {id}'s processes"),
                waited: GONE,
                last: format!("processes {left:?}"),
            });
        }
        for pid in left {
            // One that ended meanwhile is what was wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::yield_now();
    }
    loop {
        // A handle may carry the namespace more than once; the last attempt finds nothing mounted.
        match umount2(&handle, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => break,
            Err(error) => return Err(errno(format!("unmount {}", handle.display()))(error)),
        }
    }
    remove(&id.folder())?;
    // The folder of all labs goes with the last of them; as long as it has others it stays.
    let _ = std::fs::remove_dir(folders());
    Ok(())
}

/// Removes a folder that somebody else may be removing at this moment.
fn remove(folder: &Path) -> Result<(), LabError> {
    const ATTEMPTS: usize = 5;
    let mut last = Ok(());
    for _ in 0..ATTEMPTS {
        match std::fs::remove_dir_all(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !folder.exists() => {
                return Ok(());
            }
            Err(error) => last = Err(io(format!("remove {}", folder.display()))(error)),
        }
    }
    last
}

/// The live processes whose network namespace is the one behind this handle.
fn processes_in(handle: &Path) -> Vec<i32> {
    let Ok(namespace) = std::fs::metadata(handle) else { return Vec::new() };
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let inside = |pid: &i32| {
        std::fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|of| (of.dev(), of.ino()) == (namespace.dev(), namespace.ino()))
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(inside)
        .collect()
}

/// A helper process that tears the lab down when its owner has ended in whatever way.
#[derive(Debug)]
pub(crate) struct Reaper {
    child: Child,
    /// Held open as long as the lab is wanted; the system closes it when the owner dies.
    lifeline: Option<ChildStdin>,
}

impl Reaper {
    /// Starts the reaper of a lab of this process.
    #[expect(clippy::disallowed_methods, reason = "it must outlive this process: no deadline fits")]
    pub(crate) fn start(program: &Path, id: LabId) -> Result<Self, LabError> {
        use std::os::unix::process::CommandExt;
        let mut child = std::process::Command::new(program)
            .args(["reap", &id.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Out of reach of a signal to the owner's group, such as a terminal's ctrl-C.
            .process_group(0)
            .spawn()
            .map_err(io("start the lab's reaper"))?;
        let lifeline = child.stdin.take();
        Ok(Self { child, lifeline })
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // The lab is torn down already or will be by it; either way it ends, and is buried here.
        let _ = self.child.wait();
    }
}

/// The reaper's whole life: waits until the owner lets go, then tears the lab down.
pub(crate) fn reap(id: LabId) -> Result<(), LabError> {
    let mut nothing = [0; 16];
    while matches!(std::io::stdin().read(&mut nothing), Ok(1..)) {}
    tear_down(id)
}
