//! Numbers of block devices.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The number of a device. Minor numbers go beyond 255: split and join only as the kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// Which driver.
    pub major: u64,
    /// Which of the driver's devices.
    pub minor: u64,
}

impl DeviceNumber {
    /// The device that a device file stands for.
    pub fn of_file(path: &Path) -> std::io::Result<Self> {
        std::fs::metadata(path).map(|file| Self::from_dev(file.rdev()))
    }

    /// Splits what `stat` calls a device.
    pub fn from_dev(dev: u64) -> Self {
        Self { major: nix::sys::stat::major(dev), minor: nix::sys::stat::minor(dev) }
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_numbers_beyond_255_are_split_right() {
        let dev = nix::sys::stat::makedev(7, 300);
        assert_eq!(DeviceNumber::from_dev(dev).to_string(), "7:300");
        assert_eq!(DeviceNumber::of_file(Path::new("/dev/null")).unwrap().to_string(), "1:3");
    }
}
