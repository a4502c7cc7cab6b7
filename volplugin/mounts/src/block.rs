//! Any block device: whether somebody has it, and taking its content away.
#![expect(unsafe_code, reason = "discarding and zeroing are ioctls, for which nix has no wrapper")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::O_EXCL;

use crate::DeviceNumber;

/// How much is discarded or zeroed in one go, so that the thread can end between two.
const STEP: u64 = 256 << 20;

nix::ioctl_write_ptr_bad!(blk_discard, 0x1277, [u64; 2]);
nix::ioctl_write_ptr_bad!(blk_zeroout, 0x127f, [u64; 2]);
nix::ioctl_read_bad!(blk_getsize64, 0x8008_1272, u64);

/// How a device's content is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wipe {
    /// The device is told that nothing on it is needed. What reads there afterwards is its affair.
    Discard,
    /// Zeros are written.
    Zero,
}

/// A block device, kept open.
#[derive(Debug)]
pub struct BlockDevice {
    file: File,
    path: PathBuf,
}

impl BlockDevice {
    /// Opens a device.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Opens a device for this process alone; `EBUSY` if somebody else has it so, or mounted.
    pub fn claim(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(O_EXCL).open(path)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Whether a file system on it is mounted anywhere, or another program has it for itself.
    pub fn is_claimed(&self) -> io::Result<bool> {
        match Self::claim(&self.path) {
            Ok(_) => Ok(false),
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Its number.
    pub fn number(&self) -> io::Result<DeviceNumber> {
        self.file.metadata().map(|file| DeviceNumber::from_dev(file.rdev()))
    }

    /// Its size in bytes.
    pub fn size(&self) -> io::Result<u64> {
        let mut size = 0;
        // SAFETY: the descriptor is open and `size` is writable for the length of the call.
        unsafe { blk_getsize64(self.file.as_raw_fd(), &mut size) }?;
        Ok(size)
    }

    /// Takes its content away. A device that cannot discard keeps it, which is no error.
    pub fn wipe(&self, how: Wipe) -> io::Result<()> {
        let size = self.size()?;
        for start in (0..size).step_by(usize::try_from(STEP).unwrap_or(usize::MAX)) {
            let range = [start, STEP.min(size - start)];
            let fd = self.file.as_raw_fd();
            let done = match how {
                // SAFETY: the descriptor is open for the length of the call, which reads the range.
                Wipe::Discard => unsafe { blk_discard(fd, &range) },
                // SAFETY: as above.
                Wipe::Zero => unsafe { blk_zeroout(fd, &range) },
            };
            match done {
                Err(Errno::EOPNOTSUPP) if how == Wipe::Discard => return Ok(()),
                done => done?,
            };
        }
        Ok(())
    }
}

/// What device-mapper calls the device of this number for ever: `LVM-` and two UUIDs for a logical
/// volume. Nothing if it is not one of its.
pub fn dm_uuid(number: DeviceNumber) -> Option<String> {
    let uuid = std::fs::read_to_string(format!("/sys/dev/block/{number}/dm/uuid")).ok()?;
    Some(uuid.trim().to_owned())
}
