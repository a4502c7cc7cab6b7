//! From a volume's size to another.

use dockline_types::ByteSize;

use crate::options::round_up;
use crate::{FsKind, VolumeName, VolumeRecord};

/// Why a volume cannot have a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It would have to shrink.
    #[error("volume {name} has {has}, and is not made smaller: {}", instead(*fs))]
    Smaller {
        /// The volume.
        name: VolumeName,
        /// Its size.
        has: ByteSize,
        /// Its file system.
        fs: FsKind,
    },
    /// No disk can be that large.
    #[error("a volume of {0} is larger than any can be")]
    TooLarge(ByteSize),
}

fn instead(fs: FsKind) -> &'static str {
    match fs {
        FsKind::Xfs => {
            "xfs cannot shrink. Make a smaller volume, and copy the files with both mounted in one \
             container"
        }
        FsKind::Ext4 | FsKind::Btrfs => {
            "this release only grows volumes. Make a smaller volume, and copy the files with both \
             mounted in one container"
        }
    }
}

impl VolumeRecord {
    /// The size to grow to, a multiple of `step`, when this one is asked for.
    pub fn grown(&self, asked: ByteSize, step: ByteSize) -> Result<ByteSize, SizeError> {
        let too_large = || SizeError::TooLarge(asked);
        let mib = round_up(asked).ok_or_else(too_large)?;
        let size = mib.bytes().checked_next_multiple_of(step.bytes().max(1));
        let size = size.map(ByteSize::from_bytes).ok_or_else(too_large)?;
        if size < self.size {
            return Err(SizeError::Smaller {
                name: self.name.clone(),
                has: self.size,
                fs: self.fs,
            });
        }
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_and_never_smaller() {
        let record = VolumeRecord {
            name: "data1".parse().unwrap(),
            id: "11111111-2222-3333-4444-555555555555".parse().unwrap(),
            size: ByteSize::from_mib(512),
            fs: FsKind::Xfs,
            owner: crate::RootOwner::default(),
            created_at: std::time::SystemTime::UNIX_EPOCH.into(),
            layout: None,
            class: None,
            limits: crate::Limits::default(),
        };
        let grown =
            |bytes, step| record.grown(ByteSize::from_bytes(bytes), ByteSize::from_mib(step));
        assert_eq!(grown(600 << 20, 4), Ok(ByteSize::from_mib(600)));
        assert_eq!(grown((600 << 20) + 1, 4), Ok(ByteSize::from_mib(604)));
        assert_eq!(grown(512 << 20, 4), Ok(ByteSize::from_mib(512)));
        assert_eq!(grown((508 << 20) + 1, 4), Ok(ByteSize::from_mib(512)));
        let smaller = grown(1, 4).unwrap_err().to_string();
        assert!(smaller.contains("xfs cannot shrink"), "{smaller}");
        assert!(matches!(grown(u64::MAX, 4), Err(SizeError::TooLarge(_))));
    }
}
