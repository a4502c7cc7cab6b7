//! Growing a mounted file system to the size of its disk.
//!
//! By the file systems' own ioctls on the mount, which is what `xfs_growfs`, `resize2fs` and `btrfs
//! filesystem resize` do. Sources: `fs/xfs/libxfs/xfs_fs.h`, `fs/ext4/ext4.h`,
//! `include/uapi/linux/btrfs.h`. Asking for what is so already changes nothing.
#![expect(unsafe_code, reason = "file systems grow by ioctls, for which nix has no wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statfs::fstatfs;

/// xfs leaves a rest alone that is smaller than this many blocks (`XFS_MIN_AG_BLOCKS`).
const XFS_LEAST: u64 = 64;

/// `struct xfs_fsop_geom_v1`.
#[repr(C)]
#[derive(Default)]
struct XfsGeometry {
    block_size: u32,
    unused: [u32; 6],
    inode_percent: u32,
    data_blocks: u64,
    rest: [u64; 9],
}

/// `struct xfs_growfs_data`.
#[repr(C)]
struct XfsGrow {
    blocks: u64,
    inode_percent: u32,
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct BtrfsArguments {
    fd: i64,
    name: [u8; 4088],
}

nix::ioctl_read_bad!(xfs_geometry, 0x8070_5864, XfsGeometry);
nix::ioctl_write_ptr_bad!(xfs_grow, 0x4010_586E, XfsGrow);
nix::ioctl_write_ptr_bad!(ext4_resize, 0x4008_6610, u64);
nix::ioctl_write_ptr_bad!(btrfs_resize, 0x5000_9403, BtrfsArguments);

/// Why a file system does not grow.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// The mount cannot be looked at.
    #[error("cannot look at the file system at {at}")]
    Unreadable {
        /// Where it is mounted.
        at: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel refuses.
    #[error("the {fs} file system at {at} does not grow; the kernel log may say why")]
    Refused {
        /// Its type.
        fs: String,
        /// Where it is mounted.
        at: std::path::PathBuf,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

/// Lets the file system of this type that is mounted at a folder fill its disk, which has so many
/// bytes. It may be in use.
pub fn grow_fs(at: &Path, fs: &str, disk: u64) -> Result<(), GrowError> {
    let unreadable = |source| GrowError::Unreadable { at: at.to_owned(), source };
    let folder = File::open(at).map_err(unreadable)?;
    let done = match fs {
        "xfs" => grow_xfs(&folder, disk),
        "ext4" => grow_ext4(&folder, disk),
        "btrfs" => grow_btrfs(&folder),
        _ => Err(Errno::EOPNOTSUPP),
    };
    done.map_err(|source| GrowError::Refused { fs: fs.to_owned(), at: at.to_owned(), source })
}

fn grow_xfs(folder: &File, disk: u64) -> Result<(), Errno> {
    let mut geometry = XfsGeometry::default();
    // SAFETY: the descriptor is open, and the structure has the kernel's layout and is writable.
    unsafe { xfs_geometry(folder.as_raw_fd(), &mut geometry) }?;
    let blocks = disk / u64::from(geometry.block_size.max(1));
    if blocks < geometry.data_blocks + XFS_LEAST {
        return Ok(());
    }
    let grow = XfsGrow { blocks, inode_percent: geometry.inode_percent };
    // SAFETY: the descriptor is open, and the structure has the kernel's layout.
    unsafe { xfs_grow(folder.as_raw_fd(), &grow) }.map(drop)
}

fn grow_ext4(folder: &File, disk: u64) -> Result<(), Errno> {
    let block = u64::try_from(fstatfs(folder)?.block_size()).map_err(|_| Errno::EINVAL)?;
    let blocks = disk / block.max(1);
    // SAFETY: the descriptor is open, and the kernel reads the number.
    unsafe { ext4_resize(folder.as_raw_fd(), &blocks) }.map(drop)
}

fn grow_btrfs(folder: &File) -> Result<(), Errno> {
    let mut arguments = BtrfsArguments { fd: 0, name: [0; 4088] };
    arguments.name[..3].copy_from_slice(b"max");
    // SAFETY: the descriptor is open, and the structure has the kernel's layout; the name ends
    // with a zero.
    unsafe { btrfs_resize(folder.as_raw_fd(), &arguments) }.map(drop)
}
