//! What makes a lab recognisable as a lab, and whose: its id.
//!
//! Everything a lab makes on the machine is in its folder, which carries the id: disk images, logs
//! and the handle of its network namespace, in which every process it starts lives. The id names the
//! owner process by number and start time, so that anyone can tell whether the owner is still there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

/// What the name of a lab's folder begins with.
const PREFIX: &str = "lab-";

/// The folder the labs' folders lie in unless `DOCKLINE_LAB_DIR` says otherwise. Not the temporary
/// folder: nodes hide that, and disk images need a real disk.
const FOLDERS: &str = "/var/tmp/dockline-lab";

/// A lab's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabId {
    /// The owner's process id.
    owner: u32,
    /// When the owner started, in clock ticks since the machine's boot: process ids are used again.
    started: u64,
    /// Which of the owner's labs.
    number: u32,
}

impl LabId {
    /// An id that this process has not used yet.
    pub(crate) fn fresh() -> std::io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let owner = std::process::id();
        let started = start_time(owner)
            .ok_or_else(|| std::io::Error::other("/proc does not know this process"))?;
        Ok(Self { owner, started, number: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// Whether the process that made the lab still lives.
    pub fn owner_lives(&self) -> bool {
        start_time(self.owner) == Some(self.started)
    }

    /// The handle of the lab's network namespace, for `nsenter --net=`.
    pub fn namespace(&self) -> PathBuf {
        self.folder().join("netns")
    }

    /// The lab's folder.
    pub fn folder(&self) -> PathBuf {
        folders().join(format!("{PREFIX}{self}"))
    }

    /// The ids of all labs that have left something on the machine.
    pub fn all() -> Vec<Self> {
        let Ok(folders) = std::fs::read_dir(folders()) else { return Vec::new() };
        let id = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.ok()?.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok()
        };
        folders.filter_map(id).collect()
    }
}

/// The folder all labs' folders lie in.
pub(crate) fn folders() -> PathBuf {
    std::env::var_os("DOCKLINE_LAB_DIR").map_or_else(|| PathBuf::from(FOLDERS), PathBuf::from)
}

/// When a process started, in clock ticks since boot; `None` if it is gone or only waits to be
/// buried.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything, also spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

impl fmt::Display for LabId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.owner, self.started, self.number)
    }
}

/// A text that is not a lab's id.
#[derive(Debug, thiserror::Error)]
#[error("not a lab's id")]
pub struct NotAnId;

impl FromStr for LabId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let mut parts = text.split('.');
        let mut next = || parts.next().ok_or(NotAnId);
        let id = Self {
            owner: next()?.parse().map_err(|_| NotAnId)?,
            started: next()?.parse().map_err(|_| NotAnId)?,
            number: next()?.parse().map_err(|_| NotAnId)?,
        };
        // Only what this program itself would have written: "+1" and "01" are somebody else's.
        if parts.next().is_none() && id.to_string() == text { Ok(id) } else { Err(NotAnId) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_and_knows_its_owner() {
        let id = LabId::fresh().unwrap();
        assert_eq!(id.to_string().parse::<LabId>().unwrap(), id);
        assert!(id.owner_lives());
        let reused = LabId { started: id.started + 1, ..id };
        assert!(!reused.owner_lives(), "another process under the same number is not the owner");
        assert_ne!(id, LabId::fresh().unwrap());
    }

    #[test]
    fn other_texts_are_not_ids() {
        for text in ["", "1", "1.2", "1.2.3.4", "01.2.3", "+1.2.3", "a.b.c", "1.2.3 "] {
            assert!(text.parse::<LabId>().is_err(), "{text}");
        }
    }
}
