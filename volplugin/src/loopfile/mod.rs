//! Disks in files: a sparse image per volume, used through a loop device.
//!
//! Under the root folder:
//!
//! ```text
//! volumes/NAME/{disk.img,volume.json}   a volume: its disk, and its record
//! creating/ID/…                         one that is being made; a rename makes it a volume
//! trash/ID/…                            one that was removed by a rename, until it is deleted
//! lock                                  held by the one daemon that works here
//! ```
//!
//! A volume's folder appears and disappears by one rename, so a name exists whole or not at all,
//! whenever this process or the host dies.
//!
//! Images are sparse: volumes may be promised more than the disk has. A single one larger than the
//! whole disk is refused, one larger than what is free is made and warned about.

mod files;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dockline_mounts::{LoopDevice, LoopError};
use dockline_types::ByteSize;
use dockline_vol_core::{Limits, VolumeName, VolumeRecord};

use crate::backend::{Backend, BackendError, Capacity, Disk, Found, Kept};
use crate::blocking;
use crate::mkfs::{Content, Mkfs};
use files::Files;

/// The points of a change after which a crash leaves something else on the disk. The tests fail and
/// die at each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The folder of a volume being made is there.
    Folder,
    /// Its image is there, empty.
    Image,
    /// Its file system is made.
    Formatted,
    /// All is written, under a name that is not a volume's.
    Written,
    /// It has its name.
    Named,
    /// The image of a volume that grows is longer, its record does not know.
    Enlarged,
    /// The removed volume has lost its name.
    Trashed,
    /// The image of a removed volume is deleted, its record not.
    ImageDeleted,
}

/// The backend.
#[derive(Debug, Clone)]
pub struct LoopFiles {
    files: Arc<Files>,
    mkfs: Mkfs,
}

impl LoopFiles {
    /// Opens the root folder, made if it is not there, for this process alone.
    pub async fn open(root: &Path, mkfs: Mkfs) -> Result<Self, BackendError> {
        let root = root.to_owned();
        let files = blocking(move || Files::open(&root)).await?;
        Ok(Self { files: Arc::new(files), mkfs })
    }

    async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, BackendError> + Send + 'static,
    ) -> Result<T, BackendError> {
        let files = Arc::clone(&self.files);
        blocking(move || work(&files)).await
    }

    /// The part of `create` that leaves something behind if it fails.
    async fn make(&self, record: &VolumeRecord) -> Result<(), BackendError> {
        let of = record.clone();
        let (image, scratch) = self.with_files(move |files| files.begin(&of)).await?;
        self.mkfs.make(record, &image, &scratch, Content::Zeros).await?;
        let of = record.clone();
        self.with_files(move |files| files.commit(&of)).await
    }

    async fn check_room(&self, record: &VolumeRecord) -> Result<(), BackendError> {
        let Capacity { total, free } = self.capacity().await?;
        let (size, place) = (record.size, self.files.root().to_owned());
        if size > total {
            return Err(BackendError::BeyondDisk { size, total, place });
        }
        if size > free {
            tracing::warn!(
                volume = %record.name, %size, %free, place = %place.display(),
                "the volume is larger than what is free: writing to it can fail before it is full"
            );
        }
        Ok(())
    }
}

impl Backend for LoopFiles {
    fn about(&self) -> String {
        format!("loop files in {}", self.files.root().display())
    }

    async fn recover(&self) -> Result<BTreeMap<VolumeName, Found>, BackendError> {
        self.with_files(|files| {
            files.sweep()?;
            files.scan()
        })
        .await
    }

    async fn create(&self, record: &VolumeRecord) -> Result<VolumeRecord, BackendError> {
        let asked = [("layout", record.layout.is_some()), ("class", record.class.is_some())];
        if let Some((option, _)) = asked.into_iter().find(|(_, asked)| *asked) {
            return Err(BackendError::OnlyFiles { option });
        }
        self.check_room(record).await?;
        let made = self.make(record).await;
        if made.is_err() {
            let of = record.clone();
            let undone = self.with_files(move |files| files.abandon(&of)).await;
            if let Err(error) = undone {
                // The next start sweeps it; what the caller needs to hear is the cause.
                tracing::warn!(volume = %record.name, error = ?error, "cannot clean up");
            }
        }
        made.map(|()| record.clone())
    }

    fn step(&self) -> ByteSize {
        ByteSize::from_mib(1)
    }

    async fn grow(&self, record: &VolumeRecord, size: ByteSize) -> Result<ByteSize, BackendError> {
        let grown = VolumeRecord { size, ..record.clone() };
        self.check_room(&grown).await?;
        let image = self.files.image(&record.name);
        self.with_files(move |files| files.grow(&grown)).await?;
        blocking(move || {
            let device = LoopDevice::find(&image).map_err(BackendError::Device)?;
            let refreshed = device.map_or(Ok(()), |device| device.refresh_size());
            refreshed.map_err(BackendError::storage("enlarge the device of", &image))
        })
        .await?;
        Ok(size)
    }

    async fn relimit(&self, record: &VolumeRecord, limits: Limits) -> Result<(), BackendError> {
        let record = VolumeRecord { limits, ..record.clone() };
        self.with_files(move |files| files.rewrite(&record)).await
    }

    async fn attach(&self, record: &VolumeRecord) -> Result<Disk, BackendError> {
        let image = self.files.image(&record.name);
        blocking(move || LoopDevice::attach(&image).map_err(BackendError::Device).and_then(disk))
            .await
    }

    async fn in_use(&self, record: &VolumeRecord) -> Result<Option<Disk>, BackendError> {
        let image = self.files.image(&record.name);
        blocking(move || match LoopDevice::find(&image) {
            Ok(device) => device.map(disk).transpose(),
            // Deleted behind our back. It must still be possible to remove what is left.
            Err(LoopError::Image { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(BackendError::Device(error)),
        })
        .await
    }

    async fn remove(&self, record: &VolumeRecord) -> Result<(), BackendError> {
        let of = record.clone();
        self.with_files(move |files| files.trash(&of)).await
    }

    async fn empty_trash(&self) -> Result<(), BackendError> {
        self.with_files(Files::empty_trash).await
    }

    async fn capacity(&self) -> Result<Capacity, BackendError> {
        self.with_files(|files| {
            let usage = dockline_mounts::usage(files.root()).map_err(|error| {
                BackendError::storage("ask for the room in", files.root())(std::io::Error::other(
                    error,
                ))
            })?;
            Ok(Capacity {
                total: ByteSize::from_bytes(usage.total),
                free: ByteSize::from_bytes(usage.free),
            })
        })
        .await
    }
}

fn disk(device: LoopDevice) -> Result<Disk, BackendError> {
    let path = PathBuf::from(device.path());
    let number = device.number().map_err(BackendError::storage("ask for the number of", &path))?;
    Ok(Disk { path, number, device: Kept::Loop(device) })
}
