//! What a volume is and who uses it, decided without any I/O.
//!
//! * [`VolumeName`], [`VolumeOptions`]: what users write, checked once at the edge.
//! * [`VolumeRecord`]: what is kept beside a volume, in a versioned form; as text or as [`Tagged`]
//!   logical volumes.
//! * [`Ledger`]: which of Docker's mount ids use which volume, right through crashes, `docker cp`
//!   and live-restore.
//!
//! It knows no backend: neither loop devices nor LVM, and it mounts nothing.

mod fs;
mod layout;
mod ledger;
mod limits;
mod name;
mod options;
mod owner;
mod record;
mod resize;
mod tags;

pub use fs::FsKind;
pub use layout::{Class, ClassError, Layout};
pub use ledger::{BootId, Ledger, LedgerError, MountId, MountIdError, Mounted, Unmounted};
pub use limits::{Limits, bytes_per_second, operations_per_second};
pub use name::{VolumeName, VolumeNameError};
pub use options::{Defaults, Difference, OptionError, VolumeOptions, VolumeSettings, option_help};
pub use owner::{DirMode, ModeError, RootOwner};
pub use record::{RecordError, Timestamp, VolumeId, VolumeRecord};
pub use resize::SizeError;
pub use tags::{Stage, Tagged};
