//! Which uses of volumes Docker has begun and not ended.
//!
//! Docker names a use by an id, but the id is not unique per call, so neither a counter nor a set
//! of ids is right:
//!
//! * `docker cp` on a running container mounts with the *same* id again and unmounts once.
//! * After a crash of dockerd its containers are dead or, with live-restore, still running. In
//!   both cases there was no unmount. A dead container's next start mounts with the id it had; a
//!   live one's mounts go on silently, with one unmount at its end.
//! * An unmount may come for a use that never began, or twice.
//!
//! So a row counts the mounts of one id, and belongs to the dockerd (the *generation*) that made
//! it. Whatever an earlier generation counted stands for one use at most. Rows say when the host's
//! own mount can go; they never say that a volume is mounted, and never keep it from being removed
//! (Docker asks for that only when it has no references left). They end with the boot that they
//! were made in.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::VolumeName;

/// The version of the form that is written.
const VERSION: u32 = 1;

/// The most uses of one volume at a time. Docker's own limit on containers is far below.
const MOST_USES: usize = 10_000;

/// Why a text is not the id of a mount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the mount id has {0} bytes: 1 to {longest} are expected", longest = MountId::LONGEST)]
pub struct MountIdError(usize);

/// Docker's name for a container's use of a volume: 64 hexadecimal digits as a rule, which other
/// clients need not keep to.
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
        if (1..=Self::LONGEST).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(MountIdError(text.len()))
        }
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
    /// Nobody uses the volume any more.
    Last,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    count: NonZeroU32,
    generation: u64,
}

/// The uses of all volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    version: u32,
    boot: BootId,
    generation: u64,
    rows: BTreeMap<VolumeName, BTreeMap<MountId, Row>>,
}

impl Ledger {
    /// No uses.
    pub fn new(boot: BootId) -> Self {
        Self { version: VERSION, boot, generation: 0, rows: BTreeMap::new() }
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
    pub fn new_generation(&mut self) {
        self.generation += 1;
    }

    /// Docker begins a use.
    ///
    /// `alive` tells whether the volume is mounted outside the host's own mount namespace. It is
    /// asked only when an earlier dockerd began this use: if a container runs on, this mount comes
    /// on top (`docker cp` under live-restore); if not, it takes the place of the one that died.
    pub fn mount(
        &mut self,
        volume: &VolumeName,
        id: &MountId,
        alive: impl FnOnce() -> bool,
    ) -> Result<Mounted, LedgerError> {
        let generation = self.generation;
        let uses = self.rows.entry(volume.clone()).or_default();
        if let Some(row) = uses.get_mut(id) {
            if row.generation != generation {
                let count =
                    if alive() { NonZeroU32::MIN.saturating_add(1) } else { NonZeroU32::MIN };
                *row = Row { count, generation };
            } else {
                row.count = row.count.saturating_add(1);
            }
            return Ok(Mounted::Again);
        }
        if uses.len() >= MOST_USES {
            return Err(LedgerError::TooManyUses(volume.clone()));
        }
        let first = uses.is_empty();
        uses.insert(id.clone(), Row { count: NonZeroU32::MIN, generation });
        Ok(if first { Mounted::First } else { Mounted::Another })
    }

    /// Docker ends a use.
    pub fn unmount(&mut self, volume: &VolumeName, id: &MountId) -> Unmounted {
        let Some(uses) = self.rows.get_mut(volume) else { return Unmounted::Unknown };
        let Some(row) = uses.get_mut(id) else { return Unmounted::Unknown };
        let fresh = row.generation == self.generation;
        match NonZeroU32::new(row.count.get() - 1).filter(|_| fresh) {
            Some(count) => row.count = count,
            None => {
                uses.remove(id);
            }
        }
        if uses.is_empty() {
            self.rows.remove(volume);
            return Unmounted::Last;
        }
        Unmounted::InUse
    }

    /// Forgets all uses of a volume.
    pub fn forget(&mut self, volume: &VolumeName) {
        self.rows.remove(volume);
    }

    /// Forgets the uses of a volume that an earlier dockerd began: the volume was looked at and is
    /// mounted in no container. Tells whether it had any.
    pub fn forget_stale(&mut self, volume: &VolumeName) -> bool {
        let Some(uses) = self.rows.get_mut(volume) else { return false };
        let before = uses.len();
        uses.retain(|_, row| row.generation == self.generation);
        let forgot = uses.len() < before;
        if uses.is_empty() {
            self.rows.remove(volume);
        }
        forgot
    }

    /// The volumes with uses that an earlier dockerd began, and that may have ended unseen.
    pub fn stale(&self) -> Vec<VolumeName> {
        let stale =
            |uses: &BTreeMap<_, Row>| uses.values().any(|row| row.generation != self.generation);
        self.rows.iter().filter(|(_, uses)| stale(uses)).map(|(name, _)| name.clone()).collect()
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
        ledger.mount(&name("v"), &id(use_id), || panic!("asked for nothing")).unwrap()
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
        ledger.new_generation();
        assert_eq!(ledger.mount(&name("v"), &id("a"), || false).unwrap(), Mounted::Again);
        assert_eq!(unmount(&mut ledger, "a"), Unmounted::Last);
    }

    #[test]
    fn a_container_that_outlived_dockerd_ends_its_use_once() {
        let mut ledger = ledger();
        mount(&mut ledger, "a");
        mount(&mut ledger, "a");
        ledger.new_generation();
        assert_eq!(unmount(&mut ledger, "a"), Unmounted::Last);
    }

    #[test]
    fn copying_into_a_container_that_outlived_dockerd_does_not_end_its_use() {
        let mut ledger = ledger();
        mount(&mut ledger, "a");
        ledger.new_generation();
        ledger.mount(&name("v"), &id("a"), || true).unwrap();
        assert_eq!(unmount(&mut ledger, "a"), Unmounted::InUse);
        assert_eq!(unmount(&mut ledger, "a"), Unmounted::Last);
    }

    #[test]
    fn only_what_an_earlier_dockerd_began_is_stale() {
        let mut ledger = ledger();
        mount(&mut ledger, "a");
        ledger.new_generation();
        mount(&mut ledger, "b");
        assert_eq!(ledger.stale(), [name("v")]);
        assert!(ledger.forget_stale(&name("v")));
        assert!(!ledger.forget_stale(&name("v")));
        assert_eq!((ledger.uses(&name("v")), ledger.stale()), (1, vec![]));
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
        let refused = ledger.mount(&name("v"), &id("one more"), || false);
        assert!(matches!(refused, Err(LedgerError::TooManyUses(_))));
        assert_eq!(mount(&mut ledger, "0"), Mounted::Again);
    }
}
