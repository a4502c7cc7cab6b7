//! Mounting and unmounting one disk, and how full it is.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;

/// Why a disk could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel finds the file system damaged, or none at all.
    #[error(
        "the {fs} file system on {} cannot be mounted: it is damaged and was left as it is; the \
         kernel log says more, and a repair is done by hand", disk.display()
    )]
    Damaged {
        /// The type of the file system.
        fs: String,
        /// The disk.
        disk: PathBuf,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The kernel refuses for another reason.
    #[error("cannot mount {} at {}", disk.display(), at.display())]
    Refused {
        /// The disk.
        disk: PathBuf,
        /// The folder.
        at: PathBuf,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// Somebody works in the folder.
    #[error("{} is in use", at.display())]
    Busy {
        /// The folder.
        at: PathBuf,
    },
    /// The kernel does not unmount.
    #[error("cannot unmount {}", at.display())]
    NotUnmounted {
        /// The folder.
        at: PathBuf,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The file system does not answer.
    #[error("cannot ask how full {} is", at.display())]
    NoUsage {
        /// The folder.
        at: PathBuf,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

/// Mounts a disk at a folder, without set-user-id programs and device files. A file system that
/// was not unmounted is made whole by its own journal and by nothing else.
///
/// `options` are the file system's own, as in `mount -o`; they are not checked here.
pub fn mount_disk(disk: &Path, at: &Path, fs: &str, options: &str) -> Result<(), MountError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some(disk), at, Some(fs), flags, Some(options)).map_err(|source| match source {
        // EUCLEAN and EBADMSG are what file systems answer to damage, EINVAL to a missing
        // superblock, EIO to a disk that cannot be read.
        Errno::EUCLEAN | Errno::EBADMSG | Errno::EINVAL | Errno::EIO => {
            MountError::Damaged { fs: fs.to_owned(), disk: disk.to_owned(), source }
        }
        source => MountError::Refused { disk: disk.to_owned(), at: at.to_owned(), source },
    })
}

/// Unmounts what is mounted at a folder. Never lazily: a mount that somebody works in stays.
/// Nothing mounted there is a success.
pub fn unmount(at: &Path) -> Result<(), MountError> {
    match umount2(at, MntFlags::UMOUNT_NOFOLLOW) {
        // EINVAL: not a mount point.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(Errno::EBUSY) => Err(MountError::Busy { at: at.to_owned() }),
        Err(source) => Err(MountError::NotUnmounted { at: at.to_owned(), source }),
    }
}

/// How full a file system is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What files can have in all.
    pub total: u64,
    /// What files have.
    pub used: u64,
    /// What ordinary users can still have.
    pub free: u64,
}

/// How full the file system is that a path lies in.
pub fn usage(at: &Path) -> Result<Usage, MountError> {
    let figures =
        statvfs(at).map_err(|source| MountError::NoUsage { at: at.to_owned(), source })?;
    let block = figures.fragment_size();
    let (total, unused) = (figures.blocks() * block, figures.blocks_free() * block);
    let free = figures.blocks_available() * block;
    Ok(Usage { total, used: total.saturating_sub(unused), free })
}
