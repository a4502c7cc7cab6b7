//! Why a call of Docker's is refused.

use dockline_mounts::Holder;
use dockline_types::ByteSize;
use dockline_vol_core::{
    Difference, MountIdError, OptionError, SizeError, VolumeName, VolumeNameError,
};

use crate::backend::BackendError;
use crate::host::HostError;
use crate::uses::UsesError;
use dockline_locks::Busy;

/// Why a call is refused. The text is what the user of `docker` reads.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Not a name.
    #[error(transparent)]
    Name(#[from] VolumeNameError),
    /// Not options.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// Not the id of a mount.
    #[error(transparent)]
    MountId(#[from] MountIdError),
    /// The name is taken by a volume that is not like that.
    #[error(
        "volume {name} exists already, and is another: choose another name, or ask for what it is"
    )]
    Conflict {
        /// The name.
        name: VolumeName,
        /// Where they differ.
        #[source]
        difference: Difference,
    },
    /// No such volume.
    #[error("there is no volume {0}: `docker volume create -d dockline-vol {0}` makes one")]
    Unknown(VolumeName),
    /// What is kept of the volume cannot be trusted, so nothing is done with it.
    #[error("volume {name} is damaged and was left as it is: {reason}")]
    Damaged {
        /// The name.
        name: VolumeName,
        /// What is wrong.
        reason: String,
    },
    /// Somebody has the volume's disk mounted or open.
    #[error("volume {name} is in use by {}: nothing was removed", list(holders))]
    InUse {
        /// The name.
        name: VolumeName,
        /// Who.
        holders: Vec<Holder>,
    },
    /// The backend has not told yet what volumes there are.
    #[error(
        "it is not known yet what volumes there are: {backend} does not answer; the log says why"
    )]
    NotRead {
        /// What it is.
        backend: String,
    },
    /// Another call is at work on the volume.
    #[error("volume {name} is busy")]
    Busy {
        /// The name.
        name: VolumeName,
        /// How long was waited.
        #[source]
        source: Busy,
    },
    /// The backend could not do it.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// It could not be mounted.
    #[error("volume {name} is not mounted")]
    Host {
        /// The name.
        name: VolumeName,
        /// Why.
        #[source]
        source: HostError,
    },
    /// A size that cannot be had.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// Its disk has grown, its file system not yet.
    #[error(
        "the disk of volume {name} has {size} now, and its file system is smaller still: ask again, \
         or it grows when it is next mounted"
    )]
    HalfGrown {
        /// The name.
        name: VolumeName,
        /// The size.
        size: ByteSize,
        /// Why.
        #[source]
        source: HostError,
    },
    /// The use could not be recorded.
    #[error(transparent)]
    Uses(#[from] UsesError),
    /// The kernel gives no new id.
    #[error("cannot read a new id from the kernel")]
    NoId(#[source] std::io::Error),
}

/// How many holders a message names.
const NAMED: usize = 5;

fn list(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return "something outside of all processes, a mount namespace kept open for instance"
            .to_owned();
    }
    let named = holders.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match holders.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
