//! The file systems a volume can have.

use std::fmt;
use std::str::FromStr;

use dockline_types::ByteSize;
use serde::{Deserialize, Serialize};

/// A file system that a volume can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FsKind {
    /// XFS: grows while in use, cannot shrink.
    Xfs,
    /// ext4: grows while in use, shrinks while not mounted.
    Ext4,
    /// btrfs: grows and shrinks while in use.
    Btrfs,
}

impl FsKind {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Xfs, Self::Ext4, Self::Btrfs];

    /// Its name, as the kernel and `mkfs` have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
        }
    }

    /// The smallest volume it is made on.
    ///
    /// xfs: `mkfs.xfs` since 5.19 refuses less than 300 MiB. ext4: `mke2fs` leaves the journal out
    /// below 2 MiB without failing, and up to 8 MiB most of the space is the journal. btrfs: `mkfs.btrfs` 6.2 refuses less than 109 MiB.
    pub const fn smallest(self) -> ByteSize {
        match self {
            Self::Xfs => ByteSize::from_mib(300),
            Self::Ext4 => ByteSize::from_mib(8),
            Self::Btrfs => ByteSize::from_mib(128),
        }
    }
}

impl fmt::Display for FsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FsKind {
    type Err = ();

    /// Fails for all but the exact names; the caller says which are allowed.
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_the_kernels_and_the_sidecars() {
        for kind in FsKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert_eq!("XFS".parse::<FsKind>(), Err(()));
    }
}
