//! Who has a device mounted: every mount namespace of the host is looked at.
//!
//! Processes come and go meanwhile: one that vanishes is no holder. A namespace that is kept by no
//! process, or only by one that the kernel hides even from root, is not seen. So an empty answer
//! does not say that a device is free: whether it is, the device says.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{DeviceNumber, Mount, parse};

/// Why holders cannot be looked for.
#[derive(Debug, thiserror::Error)]
#[error("cannot look through /proc for who uses a disk")]
pub struct HoldersError(#[source] Error);

/// A process that uses a disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name, as `ps` shows it.
    pub command: String,
    /// Where it has the disk mounted, or the file of the disk that it uses.
    pub path: PathBuf,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}) at {}", self.command, self.pid, self.path.display())
    }
}

/// Names one mount namespace: the inode of `/proc/PID/ns/mnt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Namespace(u64);

impl Namespace {
    fn of(proc: &Path) -> Result<Self, Error> {
        std::fs::metadata(proc.join("ns/mnt")).map(|file| Self(file.ino()))
    }
}

/// Whether a mount shows a device. `source` is for file systems whose mounts carry a number of
/// their own (btrfs); it is a path in the holder's namespace, so it only adds.
fn shows(mount: &Mount, device: DeviceNumber, source: Option<&Path>) -> bool {
    let same_source = source.is_some_and(|source| Path::new(&mount.source) == source);
    mount.device == device || same_source
}

/// The processes, one per mount namespace, that see a device mounted outside the calling thread's
/// own namespace.
pub fn holders(device: DeviceNumber, source: Option<&Path>) -> Result<Vec<Holder>, HoldersError> {
    let own = Namespace::of(Path::new("/proc/thread-self")).map_err(HoldersError)?;
    let mut seen = BTreeSet::from([own]);
    let mut found = Vec::new();
    for (pid, proc) in processes()? {
        let Some(namespace) = still_there(Namespace::of(&proc))? else { continue };
        if !seen.insert(namespace) {
            continue;
        }
        let Some(table) = still_there(std::fs::read(proc.join("mountinfo")))? else {
            // Its namespace may have other processes.
            seen.remove(&namespace);
            continue;
        };
        let mounts = parse(&table).map_err(|error| HoldersError(Error::other(error)))?;
        if let Some(mount) = mounts.into_iter().rfind(|mount| shows(mount, device, source)) {
            found.push(Holder { pid, command: command(&proc), path: mount.mount_point });
        }
    }
    Ok(found)
}

/// The processes that have a file or their working folder at or below a path. Only names are
/// compared; the file system itself is not asked, for it may hang.
pub fn users_below(path: &Path) -> Result<Vec<Holder>, HoldersError> {
    let mut found = Vec::new();
    for (pid, proc) in processes()? {
        let mut links = vec![proc.join("cwd"), proc.join("root"), proc.join("exe")];
        if let Some(folder) = still_there(std::fs::read_dir(proc.join("fd")))? {
            links.extend(folder.flatten().map(|entry| entry.path()));
        }
        let targets = links.iter().flat_map(std::fs::read_link);
        if let Some(used) = targets.into_iter().find(|target| target.starts_with(path)) {
            found.push(Holder { pid, command: command(&proc), path: used });
        }
    }
    Ok(found)
}

/// The processes there are, each with its folder under `/proc`.
fn processes() -> Result<Vec<(u32, PathBuf)>, HoldersError> {
    let entries = std::fs::read_dir("/proc").map_err(HoldersError)?;
    let number = |name: OsString| name.to_str().and_then(|name| name.parse().ok());
    let all =
        entries.flatten().filter_map(|entry| Some((number(entry.file_name())?, entry.path())));
    Ok(all.collect())
}

/// `None` for a process that is gone, or of which the kernel shows nothing (a kernel thread, a
/// zombie, one that a security module hides).
fn still_there<T>(result: Result<T, Error>) -> Result<Option<T>, HoldersError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            Ok(None)
        }
        Err(error) => match error.raw_os_error().map(nix::errno::Errno::from_raw) {
            Some(nix::errno::Errno::ESRCH | nix::errno::Errno::EINVAL) => Ok(None),
            _ => Err(HoldersError(error)),
        },
    }
}

fn command(proc: &Path) -> String {
    let name = std::fs::read(proc.join("comm")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    if name.is_empty() { "a process that has ended".to_owned() } else { name.trim().to_owned() }
}
