//! Which uses of volumes Docker has begun and not ended.
//!
//! Docker names a use by an id, but the id is not unique per call, so neither a counter nor a set
//! of ids is right:
//!
//! * `docker cp` on a running container mounts with the *same* id again and unmounts once.
//! * After a crash of dockerd its containers are dead or, with live-restore, still running. In
//!   both cases there was no unmount. A dead container's next start mounts with the id it had. A
//!   live one's end is told by one unmount, or (20.10) by none at all; and a `docker cp` into it
//!   mounts and unmounts with its id before that.
//! * An unmount may come for a use that never began, or twice.
//!
//! So a row counts the mounts of one id that the present dockerd made, and beside them remembers
//! whether an *earlier* dockerd had made any, which then stand for one use at most. Whether that
//! one goes on, only a look at the containers' mounts can tell; it is due when nothing else keeps
//! a volume in use. Rows say when the host's own mount
//! can go; they never say that a volume is mounted, and never keep it from being removed (Docker
//! asks for that only when it has no references left). They end with the boot that they were made
//! in.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::VolumeName;

/// The version of the form that is written.
const VERSION: u32 = 1;

/// The most uses of one volume at a time. Docker's own limit on containers is far below.
const MOST_USES: usize = 10_000;

/// Why a text is not the id of a mount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the mount id has {0} bytes: at most {longest} are expected", longest = MountId::LONGEST)]
pub struct MountIdError(usize);

/// Docker's name for a container's use of a volume: 64 hexadecimal digits as a rule. Other clients
/// need not keep to that, and a dockerd that forgot the id of a container it found running says "".
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountId(String);

impl MountId {
    /// The longest id, in bytes.
    pub const LONGEST: usize = 256;
}

impl FromStr for MountId {
    type Err = MountIdError;

    fn from_str(text: &str) -> Result<Self, MountIdError> {
        if text.len() > Self::LONGEST {
            return Err(MountIdError(text.len()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for MountId {
    type Error = MountIdError;

    fn try_from(text: String) -> Result<Self, MountIdError> {
        text.parse()
    }
}

impl From<MountId> for String {
    fn from(id: MountId) -> Self {
        id.0
    }
}

impl fmt::Display for MountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one boot of the host, as the kernel does (`/proc/sys/kernel/random/boot_id`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootId(pub String);

/// Why a use cannot be recorded, or what was recorded cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Somebody mounts and never unmounts.
    #[error("volume {0} has {MOST_USES} uses already: something mounts it and never unmounts it")]
    TooManyUses(VolumeName),
    /// What was kept is not a ledger, or a later release's.
    #[error("the record of mounts is not understood")]
    Malformed(#[source] serde_json::Error),
}

/// What a mount was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounted {
    /// The first use of the volume.
    First,
    /// The volume was in use; this use is new.
    Another,
    /// This use had begun before.
    Again,
}

/// What an unmount was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// There was no such use.
    Unknown,
    /// The volume is still in use.
    InUse,
    /// Only uses that an earlier dockerd began are left: a look at the containers' mounts must tell
    /// whether they go on.
    InUseByEarlier,
    /// Nobody uses the volume any more.
    Last,
}

/// What one id stands for; never nothing at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// The mounts that the present dockerd has made and not undone.
    count: u32,
    /// Whether an earlier dockerd had made some that may go on.
    earlier: bool,
}

/// The uses of all volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    version: u32,
    boot: BootId,
    rows: BTreeMap<VolumeName, BTreeMap<MountId, Row>>,
}

impl Ledger {
    /// No uses.
    pub fn new(boot: BootId) -> Self {
        Self { version: VERSION, boot, rows: BTreeMap::new() }
    }

    /// Reads what was kept; what another boot kept is over.
    pub fn from_json(text: &[u8], boot: BootId) -> Result<Self, LedgerError> {
        let kept: Self = serde_json::from_slice(text).map_err(LedgerError::Malformed)?;
        if kept.version != VERSION {
            let version = serde::de::Error::custom(format_args!("version {}", kept.version));
            return Err(LedgerError::Malformed(version));
        }
        Ok(if kept.boot == boot { kept } else { Self::new(boot) })
    }

    /// The ledger as text to be kept.
    pub fn to_json(&self) -> Result<String, LedgerError> {
        serde_json::to_string(self).map_err(LedgerError::Malformed)
    }

    /// A new dockerd is there: what is recorded so far was begun by an earlier one.
    pub fn new_dockerd(&mut self) {
        for row in self.rows.values_mut().flat_map(BTreeMap::values_mut) {
            *row = Row { count: 0, earlier: true };
        }
    }

    /// Docker begins a use.
    pub fn mount(&mut self, volume: &VolumeName, id: &MountId) -> Result<Mounted, LedgerError> {
        let uses = self.rows.entry(volume.clone()).or_default();
        if let Some(row) = uses.get_mut(id) {
            row.count = row.count.saturating_add(1);
            return Ok(Mounted::Again);
        }
        if uses.len() >= MOST_USES {
            return Err(LedgerError::TooManyUses(volume.clone()));
        }
        let first = uses.is_empty();
        uses.insert(id.clone(), Row { count: 1, earlier: false });
        Ok(if first { Mounted::First } else { Mounted::Another })
    }

    /// Docker ends a use.
    pub fn unmount(&mut self, volume: &VolumeName, id: &MountId) -> Unmounted {
        let Some(uses) = self.rows.get_mut(volume) else { return Unmounted::Unknown };
        let Some(row) = uses.get_mut(id) else { return Unmounted::Unknown };
        match row.count.checked_sub(1) {
            Some(count) => row.count = count,
            None => row.earlier = false,
        }
        if row.count == 0 && !row.earlier {
            uses.remove(id);
        }
        if uses.is_empty() {
            self.rows.remove(volume);
            return Unmounted::Last;
        }
        let counted = uses.values().any(|row| row.count > 0);
        if counted { Unmounted::InUse } else { Unmounted::InUseByEarlier }
    }

    /// Forgets all uses of a volume.
    pub fn forget(&mut self, volume: &VolumeName) {
        self.rows.remove(volume);
    }

    /// Forgets the uses of a volume that an earlier dockerd began: the volume was looked at and is
    /// mounted in no container. Tells whether it had any.
    pub fn forget_earlier(&mut self, volume: &VolumeName) -> bool {
        let Some(uses) = self.rows.get_mut(volume) else { return false };
        let had = uses.values().any(|row| row.earlier);
        uses.retain(|_, row| {
            row.earlier = false;
            row.count > 0
        });
        if uses.is_empty() {
            self.rows.remove(volume);
        }
        had
    }

    /// The volumes with uses that an earlier dockerd began, and that may have ended unseen.
    pub fn earlier(&self) -> Vec<VolumeName> {
        let earlier = |uses: &BTreeMap<_, Row>| uses.values().any(|row| row.earlier);
        self.rows.iter().filter(|(_, uses)| earlier(uses)).map(|(name, _)| name.clone()).collect()
    }

    /// The volumes in use.
    pub fn volumes(&self) -> impl Iterator<Item = &VolumeName> {
        self.rows.keys()
    }

    /// How many uses a volume has.
    pub fn uses(&self, volume: &VolumeName) -> usize {
        self.rows.get(volume).map_or(0, BTreeMap::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> VolumeName {
        text.parse().unwrap()
    }

    fn id(text: &str) -> MountId {
        text.parse().unwrap()
    }

    fn ledger() -> Ledger {
        Ledger::new(BootId("boot".into()))
    }

    fn mount(ledger: &mut Ledger, use_id: &str) -> Mounted {
        ledger.mount(&name("v"), &id(use_id)).unwrap()
    }

    fn unmount(ledger: &mut Ledger, use_id: &str) -> Unmounted {
        ledger.unmount(&name("v"), &id(use_id))
    }

    #[test]
    fn copying_into_a_running_container_does_not_end_its_use() {
        let mut ledger = ledger();
        assert_eq!(mount(&mut ledger, "a"), Mounted::First);
        assert_eq!(mount(&mut ledger, "a"), Mounted::Again);
        assert_eq!(unmount(&mut ledger, "a"), Unmounted::InUse);
        assert_eq!(unmount(&mut ledger, "a"), Unmounted::Last);
        assert_eq!(unmount(&mut ledger, "a"), Unmounted::Unknown);
    }

    #[test]
    fn two_containers_share_a_volume() {
        let mut ledger = ledger();
        assert_eq!(mount(&mut ledger, "a"), Mounted::First);
        assert_eq!(mount(&mut ledger, "b"), Mounted::Another);
        assert_eq!(unmount(&mut ledger, "a"), Unmounted::InUse);
        assert_eq!(unmount(&mut ledger, "b"), Unmounted::Last);
    }

    #[test]
    fn after_a_crash_of_dockerd_the_next_start_takes_the_dead_ones_place() {
        let mut ledger = ledger();
        mount(&mut ledger, "a");
        mount(&mut ledger, "a");
        ledger.new_dockerd();
        assert_eq!(mount(&mut ledger, "a"), Mounted::Again);
        assert_eq!(unmount(&mut ledger, "a"), Unmounted::InUseByEarlier);
        assert!(ledger.forget_earlier(&name("v")), "no container has it");
        assert_eq!(ledger.uses(&name("v")), 0);
    }

    #[test]
    fn a_container_that_outlived_dockerd_ends_its_use_once() {
        let mut ledger = ledger();
        mount(&mut ledger, "a");
        mount(&mut ledger, "a");
        ledger.new_dockerd();
        assert_eq!(unmount(&mut ledger, "a"), Unmounted::Last);
    }

    /// With dockerd 20.10 the copy's unmount is the last there is.
    #[test]
    fn copying_into_a_container_that_outlived_dockerd_does_not_end_its_use() {
        let mut ledger = ledger();
        mount(&mut ledger, "a");
        ledger.new_dockerd();
        mount(&mut ledger, "a");
        assert_eq!(unmount(&mut ledger, "a"), Unmounted::InUseByEarlier);
        assert_eq!(unmount(&mut ledger, "a"), Unmounted::Last);
    }

    #[test]
    fn only_what_an_earlier_dockerd_began_may_have_ended_unseen() {
        let mut ledger = ledger();
        mount(&mut ledger, "a");
        ledger.new_dockerd();
        mount(&mut ledger, "b");
        assert_eq!(ledger.earlier(), [name("v")]);
        assert!(ledger.forget_earlier(&name("v")));
        assert!(!ledger.forget_earlier(&name("v")));
        assert_eq!((ledger.uses(&name("v")), ledger.earlier()), (1, vec![]));
    }

    #[test]
    fn it_survives_a_restart_but_not_a_reboot() {
        let mut ledger = ledger();
        mount(&mut ledger, "a");
        let kept = ledger.to_json().unwrap();
        let again = Ledger::from_json(kept.as_bytes(), BootId("boot".into())).unwrap();
        assert_eq!(again, ledger);
        let rebooted = Ledger::from_json(kept.as_bytes(), BootId("other".into())).unwrap();
        assert_eq!(rebooted.volumes().count(), 0);
    }

    #[test]
    fn what_is_not_a_ledger_is_refused() {
        let kept = ledger().to_json().unwrap();
        for bad in ["", "{}", &kept.replace("\"version\":1", "\"version\":2")] {
            assert!(Ledger::from_json(bad.as_bytes(), BootId("boot".into())).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_number_of_uses_is_bounded() {
        let mut ledger = ledger();
        for number in 0..MOST_USES {
            mount(&mut ledger, &number.to_string());
        }
        let refused = ledger.mount(&name("v"), &id("one more"));
        assert!(matches!(refused, Err(LedgerError::TooManyUses(_))));
        assert_eq!(mount(&mut ledger, "0"), Mounted::Again);
    }
}
