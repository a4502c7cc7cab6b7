//! File systems on new disks.
//!
//! A file system is made here and nowhere else, and only on a disk that has never had one: the
//! programs are not told to overwrite anything. `mkfs` itself makes the folder that containers
//! get, with its owner, so a new disk need not be mounted.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dockline_exec::Program;
use dockline_vol_core::{FsKind, RootOwner, VolumeRecord};

use crate::backend::BackendError;

/// The folder within the file system that a container gets. Not its root: ext4 has `lost+found`
/// there, with which Docker does not copy the image's files up and databases refuse to start.
pub const DATA: &str = "_data";

/// How long `mkfs` may take. Dockerd waits 120 s for a volume.
const DEADLINE: Duration = Duration::from_secs(80);

/// What a new disk reads as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Zeros.
    Zeros,
    /// What its blocks held before, but for what would be taken for a file system.
    Leftovers,
}

/// The programs that make file systems.
#[derive(Debug, Clone)]
pub struct Mkfs {
    /// For xfs.
    pub xfs: PathBuf,
    /// For ext4.
    pub ext4: PathBuf,
    /// For btrfs.
    pub btrfs: PathBuf,
}

impl Default for Mkfs {
    fn default() -> Self {
        Self { xfs: "mkfs.xfs".into(), ext4: "mkfs.ext4".into(), btrfs: "mkfs.btrfs".into() }
    }
}

impl Mkfs {
    /// Makes a volume's file system on its disk, a new one. `scratch` is an empty folder for this
    /// alone.
    pub async fn make(
        &self,
        record: &VolumeRecord,
        disk: &Path,
        scratch: &Path,
        content: Content,
    ) -> Result<(), BackendError> {
        let program = match record.fs {
            FsKind::Xfs => self.xfs(record, scratch),
            FsKind::Ext4 => self.ext4(record, scratch, content),
            FsKind::Btrfs => self.btrfs(record, scratch),
        };
        let program = program.map_err(BackendError::storage("prepare mkfs in", scratch))?;
        let program = program.arg(disk).deadline(DEADLINE);
        program.run().await.map_err(BackendError::NoFileSystem)?;
        Ok(())
    }

    /// `-p` takes a list of what to make in the root: xfs(5) calls it a prototype.
    fn xfs(&self, record: &VolumeRecord, scratch: &Path) -> io::Result<Program> {
        let list = scratch.join("prototype");
        let RootOwner { uid, gid, mode } = record.owner;
        let root = "d--755 0 0";
        let data = format!("{DATA} d--{:03o} {uid} {gid}", mode.bits());
        std::fs::write(&list, format!("/\n0 0\n{root}\n{data}\n$\n$\n"))?;
        let id = format!("uuid={}", record.id);
        Ok(Program::new(&self.xfs).args(["-q", "-K", "-m", &id, "-p"]).arg(list))
    }

    /// `-d` copies a folder into the root.
    ///
    /// The kernel writes the tables of inodes later (`lazy_itable_init`). A journal that reads as
    /// zeros needs no writing; one of leftovers could be replayed. A data disk has nothing that
    /// must go on when it is full (`-m 0`).
    fn ext4(&self, record: &VolumeRecord, scratch: &Path, content: Content) -> io::Result<Program> {
        prototype(record, scratch)?;
        let id = record.id.as_str();
        let journal = u8::from(content == Content::Zeros);
        let extended =
            format!("nodiscard,lazy_itable_init=1,lazy_journal_init={journal},root_owner=0:0");
        let extended = extended.as_str();
        let args = ["-q", "-m", "0", "-U", id, "-E", extended, "-d"];
        Ok(Program::new(&self.ext4).args(args).arg(scratch))
    }

    /// `-r` copies a folder into the root, which gets its owner and mode.
    fn btrfs(&self, record: &VolumeRecord, scratch: &Path) -> io::Result<Program> {
        prototype(record, scratch)?;
        Ok(Program::new(&self.btrfs)
            .args(["-q", "-K", "-U", record.id.as_str(), "-r"])
            .arg(scratch))
    }
}

/// Makes what the root of the new file system is to hold.
fn prototype(record: &VolumeRecord, scratch: &Path) -> io::Result<()> {
    let data = scratch.join(DATA);
    std::fs::DirBuilder::new().mode(0o700).create(&data)?;
    let RootOwner { uid, gid, mode } = record.owner;
    chown(&data, Some(uid), Some(gid))?;
    std::fs::set_permissions(&data, PermissionsExt::from_mode(mode.bits()))?;
    // The root itself gets the mode of the folder that is copied.
    std::fs::set_permissions(scratch, PermissionsExt::from_mode(0o755))
}
