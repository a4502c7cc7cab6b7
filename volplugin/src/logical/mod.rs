//! Disks as logical volumes of LVM, thin or thick.
//!
//! Everything about a volume stands in LVM: its size, and the rest in its tags. So the volumes of a
//! host can be told from its volume groups alone, and a change of a volume is a change of tags:
//!
//! * making one makes a logical volume in the stage `creating`, then its file system, then the
//!   stage `ready` in one commit. A name exists whole or not at all, whenever this dies.
//! * removing one is the stage `trash`, one commit; wiping and `lvremove` come later, and again
//!   after a crash.
//!
//! Logical volumes are named by the volume's id, not by its name. They stay active from one boot to
//! the next, so mounting runs no command of LVM as a rule, and never waits for one that runs.
//!
//! A group belongs to one host: two that share its disks would take each other's unfinished
//! volumes away.

mod device;
mod groups;
mod trash;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dockline_lvm::{Command, Logical, Lvm, LvmError, Picture};
use dockline_types::ByteSize;
use dockline_vol_core::{Layout, Limits, Stage, Tagged, VolumeId, VolumeName, VolumeRecord};
use tokio::time::MissedTickBehavior;

use crate::backend::{Backend, BackendError, Capacity, Disk, Found};
use crate::blocking;
use crate::mkfs::{Content, Mkfs};
pub use groups::{GroupChoice, Groups};
pub use trash::WipeChoice;

/// How long a command of LVM is waited for. Making a volume takes two of them and `mkfs`, and
/// dockerd waits 120 s for a volume and 60 s for the shorter calls.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it is waited to learn what became of a command whose outcome is not known.
const PROBE: Duration = Duration::from_secs(10);

/// How often it is looked what there is, beside the looks that a change needs.
const LOOKS: Duration = Duration::from_secs(30);

/// The backend. Cheap to clone: clones share everything.
#[derive(Debug, Clone)]
pub struct LogicalDisks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lvm: Lvm,
    groups: Groups,
    mkfs: Mkfs,
    wipe: WipeChoice,
    /// Where `mkfs` gets its folders.
    scratch: PathBuf,
    known: Mutex<Known>,
    /// One look for what is to be removed at a time.
    sweeping: tokio::sync::Mutex<()>,
}

/// What is held in memory.
#[derive(Debug, Default)]
struct Known {
    /// As of the last report.
    picture: Picture,
    /// Where the volumes are.
    places: BTreeMap<VolumeId, Place>,
    /// Those that are being made now.
    making: BTreeSet<VolumeId>,
    /// Those whose creators were told that they failed; whatever stage they reach, they go.
    abandoned: BTreeSet<VolumeId>,
}

/// Where a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    group: String,
    /// The logical volume.
    name: String,
    /// What device-mapper calls it for ever.
    dm_uuid: String,
}

impl Place {
    fn path(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }
}

/// The name of a volume's logical volume. It has no dash, which device-mapper would double.
fn logical_name(id: &VolumeId) -> String {
    format!("dv_{}", id.as_str().replace('-', ""))
}

impl LogicalDisks {
    /// The backend over these groups. Nothing is asked of LVM yet.
    pub async fn open(
        lvm: Lvm,
        groups: Groups,
        mkfs: Mkfs,
        wipe: WipeChoice,
        root: &Path,
    ) -> Result<Self, BackendError> {
        let scratch = root.join("mkfs");
        let folder = scratch.clone();
        blocking(move || {
            // What an earlier run left there.
            let _ = std::fs::remove_dir_all(&folder);
            crate::durable::make_folder(&folder, 0o700)
        })
        .await
        .map_err(BackendError::storage("make", &scratch))?;
        let (known, sweeping) = Default::default();
        let disks = Self(Arc::new(Inner { lvm, groups, mkfs, wipe, scratch, known, sweeping }));
        disks.keep_looking();
        Ok(disks)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self, command: Command) -> Result<(), BackendError> {
        self.0.lvm.run(command, PATIENCE).await?;
        Ok(())
    }

    /// Looks from time to time what there is: others fill pools and extend groups.
    fn keep_looking(&self) {
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(LOOKS);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval.tick().await;
            loop {
                interval.tick().await;
                let Some(inner) = inner.upgrade() else { return };
                if let Err(error) = Self(inner).look(PATIENCE).await {
                    tracing::warn!(error = ?error, "cannot see the volume groups");
                }
            }
        });
    }

    /// Reads what there is.
    async fn look(&self, patience: Duration) -> Result<Picture, BackendError> {
        let picture = self.0.lvm.picture(&self.0.groups.names(), patience).await?;
        self.known().picture = picture.clone();
        Ok(picture)
    }

    fn place(&self, record: &VolumeRecord) -> Result<Place, BackendError> {
        let place = self.known().places.get(&record.id).cloned();
        place.ok_or_else(|| BackendError::Taken { at: logical_name(&record.id).into() })
    }

    /// The part of `create` that leaves something behind if it fails.
    async fn make(
        &self,
        record: &VolumeRecord,
        group: &GroupChoice,
    ) -> Result<VolumeRecord, BackendError> {
        let made = groups::create(record, group, &logical_name(&record.id));
        self.run(made).await?;
        self.format(record, group).await?;
        let name = logical_name(&record.id);
        let (dm_uuid, size) = device::identify(&group.name, &name).await?;
        let place = Place { group: group.name.clone(), name, dm_uuid };
        let ready = self.run(change_stage(&place.path(), Stage::Creating, Stage::Ready)).await;
        match ready {
            Err(BackendError::Lvm(error)) if error.is_unknown() => {
                let picture = self.look(PROBE).await?;
                find(&picture, record, Stage::Ready).ok_or(error)?;
            }
            told => told?,
        }
        self.known().places.insert(record.id.clone(), place);
        Ok(VolumeRecord { size, ..record.clone() })
    }

    async fn format(&self, record: &VolumeRecord, group: &GroupChoice) -> Result<(), BackendError> {
        let scratch = self.0.scratch.join(record.id.as_str());
        let folder = scratch.clone();
        let made = blocking(move || std::fs::DirBuilder::new().mode(0o700).create(&folder)).await;
        made.map_err(BackendError::storage("make", &scratch))?;
        let device = device::node(&group.name, &logical_name(&record.id));
        let content = match group.layout {
            Layout::Thin => Content::Zeros,
            Layout::Thick => Content::Leftovers,
        };
        let made = self.0.mkfs.make(record, &device, &scratch, content).await;
        // What stays of it goes at the next start.
        let _ = blocking(move || std::fs::remove_dir_all(&scratch)).await;
        made
    }
}

/// The command that brings a logical volume from one stage to another.
fn change_stage(path: &str, from: Stage, to: Stage) -> Command {
    Command::new("lvchange").args(["--deltag", &from.tag(), "--addtag", &to.tag()]).arg(path)
}

/// Where a volume is, if a picture shows it in this stage.
fn find(picture: &Picture, record: &VolumeRecord, stage: Stage) -> Option<Place> {
    ours(picture).into_iter().find_map(|(place, tagged)| match tagged {
        Tagged::Ours(is, found) if is == stage && found.id == record.id => Some(place),
        _ => None,
    })
}

/// The logical volumes that bear our mark.
fn ours(picture: &Picture) -> Vec<(Place, Tagged)> {
    let all = picture.logicals.iter().filter_map(|logical| {
        let tagged = match VolumeRecord::from_tags(&logical.tags, logical.size) {
            Tagged::Foreign => return None,
            tagged => tagged,
        };
        let group = picture.groups.get(&logical.group)?;
        let uuids = [&group.uuid, &logical.uuid].map(|uuid| uuid.replace('-', ""));
        let dm_uuid = format!("LVM-{}", uuids.concat());
        let (group, name) = (logical.group.clone(), logical.name.clone());
        Some((Place { group, name, dm_uuid }, tagged))
    });
    all.collect()
}

impl Backend for LogicalDisks {
    fn about(&self) -> String {
        format!("LVM, {}", self.0.groups)
    }

    fn step(&self) -> ByteSize {
        let known = self.known();
        let largest = known.picture.groups.values().map(|group| group.extent).max();
        largest.unwrap_or(ByteSize::from_mib(4))
    }

    async fn recover(&self) -> Result<BTreeMap<VolumeName, Found>, BackendError> {
        let picture = self.look(PATIENCE).await?;
        self.0.groups.check(&picture)?;
        let (mut found, mut places) = (BTreeMap::new(), BTreeMap::new());
        for (place, tagged) in ours(&picture) {
            let (name, volume) = match tagged {
                Tagged::Foreign | Tagged::Ours(Stage::Creating | Stage::Trash, _) => continue,
                Tagged::Ours(Stage::Ready, record) => {
                    places.insert(record.id.clone(), place.clone());
                    (record.name.clone(), Found::Whole(*record))
                }
                Tagged::Unclear { name: Some(name), reason } => {
                    let reason = format!("logical volume {}: {reason}", place.path());
                    (name, Found::Damaged(reason))
                }
                Tagged::Unclear { name: None, reason } => {
                    tracing::error!(at = place.path(), reason, "left alone");
                    continue;
                }
            };
            if found.insert(name.clone(), volume).is_some() {
                let reason = format!("two logical volumes are called so; one is {}", place.path());
                found.insert(name, Found::Damaged(reason));
            }
        }
        self.known().places = places;
        Ok(found)
    }

    async fn create(&self, record: &VolumeRecord) -> Result<VolumeRecord, BackendError> {
        let group = self.0.groups.choose(record, &self.known().picture)?;
        self.known().making.insert(record.id.clone());
        let record = VolumeRecord { layout: Some(group.layout), ..record.clone() };
        let made = self.make(&record, &group).await;
        let mut known = self.known();
        known.making.remove(&record.id);
        if made.is_err() {
            known.abandoned.insert(record.id.clone());
            drop(known);
            let disks = self.clone();
            // It may have to wait for the very command that failed to answer.
            tokio::spawn(async move {
                if let Err(error) = disks.empty_trash().await {
                    tracing::warn!(error = ?error, "cannot clean up yet");
                }
            });
        }
        made
    }

    async fn grow(&self, record: &VolumeRecord, size: ByteSize) -> Result<ByteSize, BackendError> {
        let place = self.place(record)?;
        // Said to be larger already, LVM fails; so what it has counts, not what it says.
        let extend = Command::new("lvextend").args(["-L", &format!("{}b", size.bytes())]);
        let extended = self.run(extend.arg(place.path())).await;
        let picture = self.look(if extended.is_ok() { PATIENCE } else { PROBE }).await?;
        let is = |logical: &&Logical| logical.path() == place.path() && logical.size >= size;
        match picture.logicals.iter().find(is) {
            Some(logical) => Ok(logical.size),
            None => Err(extended.err().unwrap_or(BackendError::Taken { at: place.path().into() })),
        }
    }

    async fn relimit(&self, record: &VolumeRecord, limits: Limits) -> Result<(), BackendError> {
        let tags = |limits: Limits, option: &str| {
            let tag = (!limits.is_none()).then(|| [option.to_owned(), limits.tag()]);
            tag.into_iter().flatten()
        };
        if record.limits == limits {
            return Ok(());
        }
        let change = Command::new("lvchange").args(tags(record.limits, "--deltag"));
        let change = change.args(tags(limits, "--addtag")).arg(self.place(record)?.path());
        self.run(change).await
    }

    async fn attach(&self, record: &VolumeRecord) -> Result<Disk, BackendError> {
        let place = self.place(record)?;
        if let Some(disk) = device::find(&place).await? {
            return Ok(disk);
        }
        self.run(Command::new("lvchange").args(["-ay", "-K"]).arg(place.path())).await?;
        let disk = device::find(&place).await?;
        disk.ok_or_else(|| BackendError::NotTheDevice {
            path: place.path(),
            device: device::node(&place.group, &place.name),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    async fn in_use(&self, record: &VolumeRecord) -> Result<Option<Disk>, BackendError> {
        let Ok(place) = self.place(record) else { return Ok(None) };
        let Some(disk) = device::find(&place).await? else { return Ok(None) };
        blocking(move || {
            // An active device that nobody has is not in use.
            let claimed = disk.is_claimed();
            Ok(claimed.map_err(BackendError::storage("look at", &disk.path))?.then_some(disk))
        })
        .await
    }

    async fn remove(&self, record: &VolumeRecord) -> Result<(), BackendError> {
        let place = self.place(record)?;
        let trashed = self.run(change_stage(&place.path(), Stage::Ready, Stage::Trash)).await;
        if let Err(error) = trashed {
            // If it is gone, or trash by now, then so it should be; else the cause is told.
            let picture = self.look(PROBE).await.map_err(|_| error)?;
            if find(&picture, record, Stage::Ready).is_some() {
                let said = "it is still there".to_owned();
                return Err(LvmError::Refused { command: "lvchange".to_owned(), said }.into());
            }
        }
        self.known().places.remove(&record.id);
        Ok(())
    }

    async fn empty_trash(&self) -> Result<(), BackendError> {
        self.sweep().await
    }

    async fn capacity(&self) -> Result<Capacity, BackendError> {
        let known = self.known();
        self.0.groups.check(&known.picture)?;
        Ok(self.0.groups.capacity(&known.picture))
    }
}
