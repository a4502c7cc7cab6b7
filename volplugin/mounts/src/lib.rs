//! Mounts and loop devices of this host, as the kernel has them.
//!
//! * [`table`], [`mounted_at`]: what is mounted where, from `mountinfo`.
//! * [`holders`]: who has a device mounted, in all mount namespaces.
//! * [`mount_disk`], [`unmount`], [`usage`]: mount a disk, unmount it, how full it is.
//! * [`grow_fs`]: a mounted file system grows to its disk's size.
//! * [`BlockDevice`]: whether somebody has a device, and taking its content away.
//! * [`LoopDevice`]: a file as a disk, which goes with its last user.
//!
//! Nothing is remembered here and nothing is counted: every answer is read from the kernel when it
//! is asked for. All calls block; an asynchronous caller runs them on a thread for that. "Own" is
//! the mount namespace of the calling *thread*.

mod block;
mod device;
mod grow;
mod holders;
mod loopdev;
mod mount;
mod mountinfo;

pub use block::{BlockDevice, Wipe, dm_uuid};
pub use device::DeviceNumber;
pub use grow::{GrowError, grow_fs};
pub use holders::{Holder, HoldersError, holders, users_below};
pub use loopdev::{LoopDevice, LoopError};
pub use mount::{MountError, Usage, mount_disk, unmount, usage};
pub use mountinfo::{Mount, TableError, mounted_at, parse, table};
