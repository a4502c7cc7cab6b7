//! Files as disks.
//!
//! The kernel is asked directly and not through `losetup`, for two reasons. A device is made with
//! "autoclear" in the same step that makes it, so it goes with its last user even if this process
//! is killed in between; and it stays open from here until it is mounted, so nobody else can get
//! it meanwhile. Sources: `drivers/block/loop.c`, `include/uapi/linux/loop.h`.
#![expect(unsafe_code, reason = "loop devices are made by ioctls, for which nix has no wrapper")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::O_EXCL;

use crate::DeviceNumber;

/// How often another process may snatch the free device that the kernel named.
const ATTEMPTS: u32 = 256;

/// The device goes with its last user.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// The image is read and written past the page cache, if its file system can do that.
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl LoopInfo {
    const EMPTY: Self = Self {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, LoopConfig);
nix::ioctl_none_bad!(loop_set_capacity, 0x4C07);
nix::ioctl_read_bad!(loop_get_status64, 0x4C05, LoopInfo);

/// Why a file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// The file cannot be opened.
    #[error("cannot open the image {}", image.display())]
    Image {
        /// The file.
        image: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel has no loop devices.
    #[error("there are no loop devices here: `modprobe loop` loads the driver")]
    NoDriver(#[source] io::Error),
    /// The kernel does not make one.
    #[error("cannot make the image {} a loop device", image.display())]
    NotMade {
        /// The file.
        image: PathBuf,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The devices there are cannot be listed.
    #[error("cannot look through the loop devices")]
    Lookup(#[source] io::Error),
}

/// A loop device, kept open. Once it is closed here and mounted nowhere, the kernel takes it away.
#[derive(Debug)]
pub struct LoopDevice {
    device: File,
    path: PathBuf,
}

impl LoopDevice {
    /// The device of an image: the one it has, or else a new one.
    ///
    /// An image that somebody still has mounted must not get a second device: two mounts that know
    /// nothing of each other would destroy the file system. The caller sees to it that this is
    /// called once at a time for an image.
    pub fn attach(image: &Path) -> Result<Self, LoopError> {
        if let Some(device) = Self::find(image)? {
            return Ok(device);
        }
        let failed = |source| LoopError::Image { image: image.to_owned(), source };
        let file = File::options().read(true).write(true).open(image).map_err(failed)?;
        let control = File::options()
            .read(true)
            .write(true)
            .open("/dev/loop-control")
            .map_err(LoopError::NoDriver)?;
        let not_made = |source| LoopError::NotMade { image: image.to_owned(), source };
        let info = LoopInfo { flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO, ..LoopInfo::EMPTY };
        let fd = u32::try_from(file.as_raw_fd()).map_err(|_| not_made(Errno::EBADF))?;
        let config = LoopConfig { fd, block_size: 0, info, reserved: [0; 8] };
        for _ in 0..ATTEMPTS {
            // SAFETY: the descriptor is open for the length of the call, which takes no memory.
            let number = unsafe { loop_ctl_get_free(control.as_raw_fd()) }.map_err(not_made)?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = open(&path, 0).map_err(LoopError::NoDriver)?;
            // SAFETY: both descriptors are open and `config` lives for the length of the call; it
            // has the kernel's layout, and the kernel only reads it.
            match unsafe { loop_configure(device.as_raw_fd(), &config) } {
                Ok(_) => return Ok(Self { device, path }),
                Err(Errno::EBUSY) => {}
                Err(source) => return Err(not_made(source)),
            }
        }
        Err(not_made(Errno::EBUSY))
    }

    /// The device that an image has now.
    pub fn find(image: &Path) -> Result<Option<Self>, LoopError> {
        let failed = |source| LoopError::Image { image: image.to_owned(), source };
        let wanted = std::fs::metadata(image).map_err(failed)?;
        for entry in std::fs::read_dir("/sys/block").map_err(LoopError::Lookup)?.flatten() {
            // The folder `loop` is there while the device has an image.
            if !entry.path().join("loop").exists() {
                continue;
            }
            let path = Path::new("/dev").join(entry.file_name());
            let Ok(device) = open(&path, 0) else { continue };
            let image_of = status(device.as_raw_fd()).map(|info| (info.device, info.inode));
            if image_of == Some((wanted.dev(), wanted.ino())) {
                return Ok(Some(Self { device, path }));
            }
        }
        Ok(None)
    }

    /// Whether a file system on it is mounted anywhere, or another program has it for itself.
    pub fn is_claimed(&self) -> io::Result<bool> {
        match open(&self.path, O_EXCL) {
            Ok(_) => Ok(false),
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Takes up that the image has another length now.
    pub fn refresh_size(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open for the length of the call, which takes no memory.
        unsafe { loop_set_capacity(self.device.as_raw_fd()) }?;
        Ok(())
    }

    /// Its size in bytes.
    pub fn size(&self) -> io::Result<u64> {
        let mut device = &self.device;
        std::io::Seek::seek(&mut device, io::SeekFrom::End(0))
    }

    /// The device file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of the device.
    pub fn number(&self) -> io::Result<DeviceNumber> {
        self.device.metadata().map(|file| DeviceNumber::from_dev(file.rdev()))
    }
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

/// What the kernel says of a loop device; nothing if it has no image.
fn status(device: RawFd) -> Option<LoopInfo> {
    let mut info = LoopInfo::EMPTY;
    // SAFETY: the descriptor is open and `info` is writable for the length of the call; it has the
    // kernel's layout, and any bytes are valid in it.
    unsafe { loop_get_status64(device, &mut info) }.ok().map(|_| info)
}
