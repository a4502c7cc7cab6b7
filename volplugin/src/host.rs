//! The host's own mounts of volumes: `mounts/NAME` under the root folder.
//!
//! Docker binds containers' mounts from them. Whether a volume is mounted is read from the kernel
//! each time: a count or a flag can outlive a crash, and a container would then write to the
//! host's disk. (It could not even so: what Docker gets is a folder within the volume's file
//! system, which is not there when that is not mounted.)

use std::path::{Path, PathBuf};

use dockline_mounts::{DeviceNumber, GrowError, Holder, Mount, MountError, TableError, Usage};
use dockline_vol_core::{FsKind, VolumeName, VolumeRecord};

use crate::backend::{Backend, BackendError, Disk};
use crate::mkfs::DATA;
use crate::{blocking, durable};

/// Why a volume is not mounted.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The backend has no disk for it.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The kernel refuses.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// What is mounted where cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Its file system does not grow.
    #[error(transparent)]
    Grow(#[from] GrowError),
    /// Its disk does not say how large it is.
    #[error("cannot tell the size of {}", disk.display())]
    NoSize {
        /// The device.
        disk: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Something else is mounted in the volume's place.
    #[error("{what} is mounted at {}, and not the volume's disk: unmount it", at.display())]
    Foreign {
        /// The mount point.
        at: PathBuf,
        /// What is mounted there.
        what: String,
    },
    /// The file system is not one that was made for a volume.
    #[error("the file system has no folder {DATA}: it was not made by Dockline, or it is damaged")]
    NoData,
    /// The mount point cannot be made.
    #[error("cannot make the folder {}", at.display())]
    NoMountPoint {
        /// The mount point.
        at: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// The folder of the mounts.
#[derive(Debug, Clone)]
pub struct Host {
    folder: PathBuf,
}

impl Host {
    /// The mounts under this root folder, which exists.
    pub fn open(root: &Path) -> Result<Self, HostError> {
        let folder = root.join("mounts");
        // The kernel's table has paths without symbolic links.
        let opened = make_folder(&folder).and_then(|()| folder.canonicalize());
        let folder = opened.map_err(|source| HostError::NoMountPoint { at: folder, source })?;
        Ok(Self { folder })
    }

    fn point(&self, name: &VolumeName) -> PathBuf {
        self.folder.join(name.as_str())
    }

    /// The folder that Docker gets.
    pub fn data(&self, name: &VolumeName) -> PathBuf {
        self.point(name).join(DATA)
    }

    /// Mounts a volume unless it is mounted.
    pub async fn mount(
        &self,
        backend: &impl Backend,
        record: &VolumeRecord,
    ) -> Result<(), HostError> {
        let at = self.point(&record.name);
        let (point, data) = (at.clone(), self.data(&record.name));
        if let Some(there) = blocking(move || dockline_mounts::mounted_at(&point)).await? {
            let disk = backend.in_use(record).await?;
            return check(&there, disk.as_ref(), at, &data);
        }
        let disk = backend.attach(record).await?;
        let fs = record.fs;
        blocking(move || {
            make_folder(&at)
                .map_err(|source| HostError::NoMountPoint { at: at.clone(), source })?;
            dockline_mounts::mount_disk(&disk.path, &at, fs.name(), options(fs))?;
            // A growth that was cut short ends here.
            if let Err(error) = grow_to(&disk, &at, fs) {
                tracing::error!(at = %at.display(), error = ?error, "smaller than its disk");
            }
            // Kept until here, so that the device cannot go before it is mounted.
            drop(disk);
            if data.is_dir() {
                return Ok(());
            }
            if let Err(error) = dockline_mounts::unmount(&at) {
                tracing::warn!(at = %at.display(), error = ?error, "cannot unmount it again");
            }
            Err(HostError::NoData)
        })
        .await
    }

    /// Lets the file system of a mounted volume fill its disk.
    pub async fn grow(
        &self,
        backend: &impl Backend,
        record: &VolumeRecord,
    ) -> Result<(), HostError> {
        let (at, fs) = (self.point(&record.name), record.fs);
        let disk = backend.attach(record).await?;
        blocking(move || grow_to(&disk, &at, fs)).await
    }

    /// Unmounts a volume if it is mounted. Others keep the mounts they have.
    ///
    /// The mount point stays: deleting a folder takes away what is mounted on it in *all*
    /// namespaces (`vfs_rmdir` calls `detach_mounts`), without asking whether it is in use.
    pub async fn unmount(&self, name: &VolumeName) -> Result<(), MountError> {
        let at = self.point(name);
        blocking(move || dockline_mounts::unmount(&at)).await
    }

    /// Deletes the mount point of a volume that is gone, and that nobody has mounted.
    pub async fn forget(&self, name: &VolumeName) {
        let at = self.point(name);
        // What is left of it does no harm, and a volume of the same name uses it.
        let _ = blocking(move || std::fs::remove_dir(&at)).await;
    }

    /// The volumes that are mounted.
    pub async fn mounted(&self) -> Result<Vec<VolumeName>, TableError> {
        let folder = self.folder.clone();
        let table = blocking(dockline_mounts::table).await?;
        let name = |mount: Mount| {
            mount.mount_point.strip_prefix(&folder).ok()?.to_str()?.parse::<VolumeName>().ok()
        };
        Ok(table.into_iter().filter_map(name).collect())
    }

    /// The processes that work in a volume's mount.
    pub async fn users(&self, name: &VolumeName) -> Vec<Holder> {
        let at = self.point(name);
        blocking(move || dockline_mounts::users_below(&at).unwrap_or_default()).await
    }

    /// How full a mounted volume is; nothing if it is not mounted.
    pub async fn usage(&self, name: &VolumeName) -> Option<Usage> {
        let data = self.data(name);
        blocking(move || dockline_mounts::usage(&data).ok()).await
    }
}

fn grow_to(disk: &Disk, at: &Path, fs: FsKind) -> Result<(), HostError> {
    let size =
        disk.size().map_err(|source| HostError::NoSize { disk: disk.path.clone(), source })?;
    Ok(dockline_mounts::grow_fs(at, fs.name(), size)?)
}

/// Whether what is mounted is the volume.
fn check(there: &Mount, disk: Option<&Disk>, at: PathBuf, data: &Path) -> Result<(), HostError> {
    // The mounts of btrfs carry a number that no device has.
    let device = match there.fs_type == FsKind::Btrfs.name() {
        true => DeviceNumber::of_file(Path::new(&there.source)).ok(),
        false => Some(there.device),
    };
    if disk.is_none_or(|disk| Some(disk.number) != device) {
        return Err(HostError::Foreign { at, what: there.source.to_string_lossy().into_owned() });
    }
    if data.is_dir() { Ok(()) } else { Err(HostError::NoData) }
}

/// `discard`: what containers delete is given back to the disk that holds the images. ext4 goes on
/// after finding damage unless it is told not to.
fn options(fs: FsKind) -> &'static str {
    match fs {
        FsKind::Xfs | FsKind::Btrfs => "discard",
        FsKind::Ext4 => "discard,errors=remount-ro",
    }
}

/// Passable and not readable for others: a container's root may be any user of the host.
fn make_folder(path: &Path) -> std::io::Result<()> {
    durable::make_folder(path, 0o711)
}
