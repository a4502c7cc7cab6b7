//! Docker's calls.

use std::sync::PoisonError;
use std::time::Duration;

use dockline_mounts::{Holder, MountError, holders};
use dockline_plugin_specs::volume::{
    Capabilities, Create, Get, Mount, Mounted, Path, Remove, Scope, Unmount, Volume, VolumeDriver,
};
use dockline_vol_core::{
    MountId, Unmounted, VolumeName, VolumeOptions, VolumeRecord, VolumeSettings,
};
use serde_json::{Map, Value, json};

use super::{Driver, DriverError, Entry, birth};
use crate::backend::{Backend, Disk, Found};
use crate::blocking;

/// How long a disk may take to become free after its last mount is gone. The kernel does that at
/// once unless another program, udev for instance, looks at the disk in this moment.
const FREE_PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether it is free.
const FREE_INTERVAL: Duration = Duration::from_millis(20);

/// How long a question waits for the first answer of a backend, once at start: dockerd takes "not
/// known yet" for "there is none". Later nothing waits.
const READ_PATIENCE: Duration = Duration::from_secs(45);

impl<B: Backend> VolumeDriver for Driver<B> {
    type Failure = DriverError;

    async fn activated(&self) {
        self.new_dockerd().await;
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { scope: Scope::Local }
    }

    async fn create(&self, request: Create) -> Result<(), DriverError> {
        let name: VolumeName = request.name.parse()?;
        let options = VolumeOptions::parse(&request.opts)?;
        let settings = options.settle(&self.shared.defaults)?;
        let _held = self.lock(&name).await?;
        match self.record(&name) {
            Err(DriverError::Unknown(_)) => {}
            Err(damaged) => return Err(damaged),
            Ok(record) => {
                return match options.difference(&record.settings(), self.shared.backend.step()) {
                    None => Ok(()),
                    Some(difference) => Err(DriverError::Conflict { name, difference }),
                };
            }
        }
        let (id, created_at) = birth().await?;
        let VolumeSettings { size, fs, owner, layout, class, limits } = settings;
        let name_of = name.clone();
        let record =
            VolumeRecord { name: name_of, id, size, fs, owner, created_at, layout, class, limits };
        let record = self.shared.backend.create(&record).await?;
        tracing::info!(volume = %name, id = %record.id, %size, %fs, "made");
        self.change_table(|table| table.insert(name, Entry::new(Found::Whole(record))));
        Ok(())
    }

    async fn remove(&self, request: Remove) -> Result<(), DriverError> {
        let name: VolumeName = request.name.parse()?;
        let _held = self.lock(&name).await?;
        let record = match self.record(&name) {
            Err(DriverError::Unknown(_)) => return Ok(()),
            known => known?,
        };
        self.free(&record).await?;
        self.shared.backend.remove(&record).await?;
        tracing::info!(volume = %name, id = %record.id, "removed");
        self.change_table(|table| table.remove(&name));
        self.shared.host.forget(&name).await;
        self.empty_trash();
        // Only after the volume is gone: if it stays, so does what is known of its uses.
        let forgotten = self.shared.uses.change(move |uses| {
            uses.forget(&name);
            Ok(())
        });
        Ok(forgotten.await?)
    }

    async fn mount(&self, request: Mount) -> Result<Mounted, DriverError> {
        let name: VolumeName = request.name.parse()?;
        let id: MountId = request.id.parse()?;
        let _held = self.lock(&name).await?;
        let record = self.record(&name)?;
        let mounted = self.shared.host.mount(&self.shared.backend, &record).await;
        mounted.map_err(|source| DriverError::Host { name: name.clone(), source })?;
        self.set_mounted(&name, true);
        self.note_mount();
        let of = name.clone();
        let begun = self.shared.uses.change(move |uses| uses.mount(&of, &id));
        if let Err(error) = begun.await {
            self.unmount_if_unused(&name).await;
            return Err(error.into());
        }
        Ok(Mounted { mountpoint: self.mountpoint(&name) })
    }

    async fn unmount(&self, request: Unmount) -> Result<(), DriverError> {
        let name: VolumeName = request.name.parse()?;
        let id: MountId = request.id.parse()?;
        let _held = self.lock(&name).await?;
        // The record first: a crash in between leaves a mount without uses, which the next start
        // undoes, and not uses without a mount.
        let of = name.clone();
        let ended = self.shared.uses.change(move |uses| Ok(uses.unmount(&of, &id))).await?;
        tracing::debug!(volume = %name, ?ended, "a use ended");
        if ended == Unmounted::InUseByEarlier {
            self.end_earlier_uses_of(&name).await
        } else {
            self.unmount_if_unused(&name).await;
            Ok(())
        }
    }

    async fn path(&self, request: Path) -> Result<Mounted, DriverError> {
        let name: VolumeName = request.name.parse()?;
        if self.entry(&name).is_none() {
            self.wait_read(READ_PATIENCE).await?;
        }
        let entry = self.entry(&name).ok_or_else(|| DriverError::Unknown(name.clone()))?;
        let mountpoint = if entry.mounted { self.mountpoint(&name) } else { String::new() };
        Ok(Mounted { mountpoint })
    }

    async fn get(&self, request: Get) -> Result<Option<Volume>, DriverError> {
        // What is not a name names no volume; the error comes with the Create that follows.
        let Ok(name) = request.name.parse::<VolumeName>() else { return Ok(None) };
        if self.entry(&name).is_none() {
            self.wait_read(READ_PATIENCE).await?;
        }
        let Some(mut entry) = self.entry(&name) else { return Ok(None) };
        entry.usage = self.usage(&name).await;
        Ok(Some(self.show(&name, &entry)))
    }

    async fn list(&self) -> Result<Vec<Volume>, DriverError> {
        self.wait_read(READ_PATIENCE).await?;
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        Ok(table.iter().map(|(name, entry)| self.show(name, entry)).collect())
    }
}

impl<B: Backend> Driver<B> {
    fn mountpoint(&self, name: &VolumeName) -> String {
        self.shared.host.data(name).to_string_lossy().into_owned()
    }

    fn show(&self, name: &VolumeName, entry: &Entry) -> Volume {
        let mountpoint = if entry.mounted { self.mountpoint(name) } else { String::new() };
        let (created_at, status) = match &entry.found {
            Found::Whole(record) => (Some(record.created_at.to_string()), status(record, entry)),
            Found::Damaged(reason) => {
                (None, Map::from_iter([("damaged".to_owned(), Value::from(reason.as_str()))]))
            }
        };
        Volume { name: name.to_string(), mountpoint, created_at, status }
    }

    /// Who has a disk mounted outside the host's own mount namespace.
    pub(super) async fn containers(&self, disk: Option<&Disk>) -> Vec<Holder> {
        let Some(disk) = disk else { return Vec::new() };
        let (number, path) = (disk.number, disk.path.clone());
        let found = blocking(move || holders(number, Some(&path))).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(error = ?error, "cannot see who uses a disk");
            Vec::new()
        })
    }

    /// Unmounts a volume that no use is recorded of. Docker is not told if somebody works in it:
    /// it has no use for that, and the volume's removal will say who it is.
    pub(super) async fn unmount_if_unused(&self, name: &VolumeName) {
        if self.shared.uses.look(|uses| uses.uses(name)) > 0 {
            return;
        }
        match self.shared.host.unmount(name).await {
            Ok(()) => self.set_mounted(name, false),
            Err(error) => {
                tracing::warn!(volume = %name, error = ?error, "unused, and stays mounted");
            }
        }
    }

    /// Sees to it that nobody has a volume's disk, or tells who has. The host's own mount goes,
    /// which takes nothing from a container: that has its own.
    async fn free(&self, record: &VolumeRecord) -> Result<(), DriverError> {
        let name = record.name.clone();
        match self.shared.host.unmount(&name).await {
            Ok(()) => self.set_mounted(&name, false),
            Err(MountError::Busy { .. }) => {
                let holders = self.shared.host.users(&name).await;
                return Err(DriverError::InUse { name, holders });
            }
            Err(error) => return Err(DriverError::Host { name, source: error.into() }),
        }
        let mut interval = tokio::time::interval(FREE_INTERVAL);
        let waited = tokio::time::Instant::now();
        loop {
            interval.tick().await;
            let Some(disk) = self.shared.backend.in_use(record).await? else { return Ok(()) };
            let holders = self.containers(Some(&disk)).await;
            if !holders.is_empty() {
                return Err(DriverError::InUse { name, holders });
            }
            if waited.elapsed() >= FREE_PATIENCE {
                let holders = blocking(move || openers(&disk)).await;
                return Err(DriverError::InUse { name, holders });
            }
        }
    }
}

/// The other processes that have a disk itself open.
fn openers(disk: &Disk) -> Vec<Holder> {
    let mut holders = dockline_mounts::users_below(&disk.path).unwrap_or_default();
    holders.retain(|holder| holder.pid != std::process::id());
    holders
}

/// What `docker volume inspect` shows beside what Docker itself knows.
fn status(record: &VolumeRecord, entry: &Entry) -> Map<String, Value> {
    let mut status = Map::new();
    let mut say = |key: &str, value: Value| status.insert(key.to_owned(), value);
    say("id", json!(record.id));
    say("size", json!(record.size));
    say("size_bytes", json!(record.size.bytes()));
    say("fs", json!(record.fs));
    say("mounted", json!(entry.mounted));
    if let Some(layout) = record.layout {
        say("layout", json!(layout));
    }
    if !record.limits.is_none() {
        say("limits", json!(record.limits));
    }
    if let Some(class) = &record.class {
        say("class", json!(class));
    }
    if let Some(usage) = entry.usage {
        say("used_bytes", json!(usage.used));
        say("free_bytes", json!(usage.free));
    }
    status
}
