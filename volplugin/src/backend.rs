//! What a backend does: it keeps disks, and for each its record.
//!
//! File systems are made and mounted above it, and it is asked for one change of one volume at a
//! time.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};

use dockline_exec::ExecError;
use dockline_lvm::LvmError;
use dockline_mounts::{BlockDevice, DeviceNumber, LoopDevice, LoopError};
use dockline_types::ByteSize;
use dockline_vol_core::{Class, Limits, VolumeName, VolumeRecord};

/// Why a backend did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// It would not fit even if nothing else were there.
    #[error("{size} is more than the whole disk of {} has, which is {total}", place.display())]
    BeyondDisk {
        /// The size that was asked for.
        size: ByteSize,
        /// What the disk has.
        total: ByteSize,
        /// The folder or group the disks are kept in.
        place: PathBuf,
    },
    /// Something of this name is there that was not there when this daemon started.
    #[error(
        "{} is there already and not known here: restart dockline-vol to have it read", at.display()
    )]
    Taken {
        /// Where it is.
        at: PathBuf,
    },
    /// The file system was not made; nothing is left of the volume.
    #[error("the file system was not made")]
    NoFileSystem(#[source] ExecError),
    /// A file or folder of the backend's own could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Storage {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The disk could not be made a device.
    #[error("the volume's disk does not become a device")]
    Device(#[source] LoopError),
    /// LVM did not do it.
    #[error(transparent)]
    Lvm(#[from] LvmError),
    /// No volume group of the configuration is there.
    #[error("no volume group for {} is there: configured are {configured}", Wanted(class.as_ref()))]
    NoGroup {
        /// The class that was asked for.
        class: Option<Class>,
        /// The groups that the configuration names, with their classes.
        configured: String,
    },
    /// A thin volume needs a pool.
    #[error(
        "group {group} has no thin pool: `lvcreate -T -L SIZE {group}/pool` makes one, and \
         layout=thick needs none"
    )]
    NoPool {
        /// The group.
        group: String,
    },
    /// The backend has no choice to make.
    #[error("{option} needs volume groups: volumes are kept in files here (vol.groups is empty)")]
    OnlyFiles {
        /// The option that was given.
        option: &'static str,
    },
    /// The volume's logical volume does not become its device.
    #[error("logical volume {path} is not the device {}", device.display())]
    NotTheDevice {
        /// `GROUP/NAME`.
        path: String,
        /// Where its device was expected.
        device: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another daemon has the place.
    #[error("another dockline-vol works in {}: stop it, or give this one another root", place.display())]
    NotAlone {
        /// The folder.
        place: PathBuf,
    },
}

impl BackendError {
    /// For `map_err`: what was tried, and with which path.
    pub(crate) fn storage(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Storage { what, path, source }
    }
}

/// How a group that is looked for is called in messages.
struct Wanted<'a>(Option<&'a Class>);

impl std::fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(class) => write!(f, "class {class}"),
            None => f.write_str("volumes"),
        }
    }
}

/// A volume that a backend found at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is as it should be.
    Whole(VolumeRecord),
    /// There is something of that name, which is not touched: what is wrong with it.
    Damaged(String),
}

/// A volume's disk as a device, which stays one at least as long as this lives.
#[derive(Debug)]
pub struct Disk {
    /// The device file.
    pub path: PathBuf,
    /// The device's number.
    pub number: DeviceNumber,
    /// Keeps the device.
    pub(crate) device: Kept,
}

/// What keeps a device a device.
#[derive(Debug)]
pub(crate) enum Kept {
    /// It would go with its last user.
    Loop(LoopDevice),
    /// It stays by itself.
    Block(BlockDevice),
}

impl Disk {
    /// Its size in bytes.
    pub fn size(&self) -> io::Result<u64> {
        match &self.device {
            Kept::Loop(device) => device.size(),
            Kept::Block(device) => device.size(),
        }
    }

    /// Whether it is mounted anywhere, or another program has it for itself.
    pub fn is_claimed(&self) -> io::Result<bool> {
        match &self.device {
            Kept::Loop(device) => device.is_claimed(),
            Kept::Block(device) => device.is_claimed(),
        }
    }
}

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// In all.
    pub total: ByteSize,
    /// For new data.
    pub free: ByteSize,
}

/// Keeps the disks of volumes. Every verb but [`Backend::recover`] is about a volume that nobody
/// else changes meanwhile.
pub trait Backend: Send + Sync + 'static {
    /// What it is and where, for people: `loop files in /var/lib/dockline/volumes`.
    fn about(&self) -> String;

    /// At start: takes away what a crash left half made, and tells what volumes there are.
    fn recover(
        &self,
    ) -> impl Future<Output = Result<BTreeMap<VolumeName, Found>, BackendError>> + Send;

    /// Makes a volume with its file system: whole when this returns `Ok`, else not there. Returns
    /// the record with what the backend chose.
    fn create(
        &self,
        record: &VolumeRecord,
    ) -> impl Future<Output = Result<VolumeRecord, BackendError>> + Send;

    /// Makes a volume's disk larger, in use or not, and returns the size that it has then; the
    /// file system on it is the caller's. Asked for what is so already, it changes nothing.
    fn grow(
        &self,
        record: &VolumeRecord,
        size: ByteSize,
    ) -> impl Future<Output = Result<ByteSize, BackendError>> + Send;

    /// Keeps other limits with a volume.
    fn relimit(
        &self,
        record: &VolumeRecord,
        limits: Limits,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Sizes are rounded up to a multiple of this.
    fn step(&self) -> ByteSize;

    /// The volume's disk as a device: the one there is, or else a new one.
    fn attach(
        &self,
        record: &VolumeRecord,
    ) -> impl Future<Output = Result<Disk, BackendError>> + Send;

    /// The volume's disk if it is a device that somebody may have.
    fn in_use(
        &self,
        record: &VolumeRecord,
    ) -> impl Future<Output = Result<Option<Disk>, BackendError>> + Send;

    /// Takes a volume away at once, for ever; what it occupied is freed by
    /// [`Backend::empty_trash`]. The disk must not be in use.
    fn remove(
        &self,
        record: &VolumeRecord,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Frees what removed volumes occupied, also those of earlier runs.
    fn empty_trash(&self) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// How much room there is.
    fn capacity(&self) -> impl Future<Output = Result<Capacity, BackendError>> + Send;
}
