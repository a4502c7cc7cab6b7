//! The files and folders of the loop-file backend, and the order in which they are written.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use dockline_types::ByteSize;
use dockline_vol_core::{VolumeName, VolumeRecord};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Step;
use crate::backend::{BackendError, Found};
use crate::durable;

const IMAGE: &str = "disk.img";
const RECORD: &str = "volume.json";

/// The longest record that is read, in bytes. A real one has about 300.
const LONGEST_RECORD: u64 = 64 << 10;

/// The root folder, held for this process.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    /// Released when the process ends, however it ends.
    _lock: Flock<File>,
}

impl Files {
    pub(super) fn open(root: &Path) -> Result<Self, BackendError> {
        // The root of a container with remapped users passes through to its mounts, and sees no
        // names on the way.
        let kept = ["volumes", "creating", "trash"].map(|name| (root.join(name), 0o700));
        for (path, mode) in [(root.to_owned(), 0o711)].into_iter().chain(kept) {
            durable::make_folder(&path, mode).map_err(BackendError::storage("make", &path))?;
        }
        let path = root.join("lock");
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(BackendError::storage("open", &path))?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(
                |(_, errno)| match errno {
                    Errno::EWOULDBLOCK => BackendError::NotAlone { place: root.to_owned() },
                    errno => BackendError::storage("lock", &path)(errno.into()),
                },
            )?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn volume(&self, name: &VolumeName) -> PathBuf {
        self.root.join("volumes").join(name.as_str())
    }

    pub(super) fn image(&self, name: &VolumeName) -> PathBuf {
        self.volume(name).join(IMAGE)
    }

    fn being_made(&self, record: &VolumeRecord) -> PathBuf {
        self.root.join("creating").join(record.id.as_str())
    }

    /// What `mkfs` may use while it works; beside the folder that becomes the volume.
    fn scratch(&self, record: &VolumeRecord) -> PathBuf {
        self.root.join("creating").join(format!("{}.mkfs", record.id))
    }

    /// Begins a volume: an empty image, and a folder for `mkfs`.
    pub(super) fn begin(&self, record: &VolumeRecord) -> Result<(PathBuf, PathBuf), BackendError> {
        let (folder, scratch) = (self.being_made(record), self.scratch(record));
        for path in [&folder, &scratch] {
            let made = DirBuilder::new().mode(0o700).create(path);
            made.map_err(BackendError::storage("make", path))?;
        }
        reached(Step::Folder)?;
        let image = folder.join(IMAGE);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&image);
        file.and_then(|file| file.set_len(record.size.bytes()))
            .map_err(BackendError::storage("make", &image))?;
        reached(Step::Image)?;
        Ok((image, scratch))
    }

    /// Makes what was begun a volume: everything reaches the disk, and then it gets its name.
    pub(super) fn commit(&self, record: &VolumeRecord) -> Result<(), BackendError> {
        reached(Step::Formatted)?;
        let (folder, scratch) = (self.being_made(record), self.scratch(record));
        remove(&scratch)?;
        let image = folder.join(IMAGE);
        let synced = File::open(&image).and_then(|file| file.sync_all());
        synced.map_err(BackendError::storage("write", &image))?;
        let path = folder.join(RECORD);
        durable::write_new(&path, record.to_json().as_bytes())
            .map_err(BackendError::storage("write", &path))?;
        sync(&folder)?;
        reached(Step::Written)?;
        let at = self.volume(&record.name);
        durable::rename_new(&folder, &at).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => BackendError::Taken { at: at.clone() },
            _ => BackendError::storage("name", &at)(error),
        })?;
        reached(Step::Named)?;
        sync(&self.root.join("volumes"))
    }

    /// Takes back what [`Files::begin`] and [`Files::commit`] did. If even the name was given and
    /// only its way to the disk failed, the volume goes too: its creator was told that it failed.
    pub(super) fn abandon(&self, record: &VolumeRecord) -> Result<(), BackendError> {
        let named = read_record(&self.volume(&record.name)).ok();
        if named.is_some_and(|named| named.id == record.id) {
            self.trash(record)?;
        }
        let scratch = remove(&self.scratch(record));
        remove(&self.being_made(record)).and(scratch)
    }

    /// Makes a volume's image longer, and then says so in its record. If this dies in between, the
    /// image is longer than the record says, and counts.
    pub(super) fn grow(&self, record: &VolumeRecord) -> Result<(), BackendError> {
        let image = self.image(&record.name);
        let longer = File::options().write(true).open(&image).and_then(|file| {
            if file.metadata()?.len() < record.size.bytes() {
                file.set_len(record.size.bytes())?;
            }
            file.sync_all()
        });
        longer.map_err(BackendError::storage("enlarge", &image))?;
        reached(Step::Enlarged)?;
        self.rewrite(record)
    }

    /// Replaces a volume's record.
    pub(super) fn rewrite(&self, record: &VolumeRecord) -> Result<(), BackendError> {
        let folder = self.volume(&record.name);
        let (path, new) = (folder.join(RECORD), folder.join("volume.json.new"));
        remove(&new)?;
        durable::write_new(&new, record.to_json().as_bytes())
            .map_err(BackendError::storage("write", &new))?;
        std::fs::rename(&new, &path).map_err(BackendError::storage("write", &path))?;
        sync(&folder)
    }

    /// Takes a volume's name away. The image keeps its inode, and with it its content for anybody
    /// who has it open.
    pub(super) fn trash(&self, record: &VolumeRecord) -> Result<(), BackendError> {
        let (from, trash) = (self.volume(&record.name), self.root.join("trash"));
        match durable::rename_new(&from, &trash.join(record.id.as_str())) {
            // Somebody has deleted it already.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(BackendError::storage("remove", &from))?,
        }
        reached(Step::Trashed)?;
        sync(&self.root.join("volumes"))?;
        sync(&trash)
    }

    /// Deletes what was removed.
    pub(super) fn empty_trash(&self) -> Result<(), BackendError> {
        let mut result = Ok(());
        for path in entries(&self.root.join("trash"))? {
            let image = path.join(IMAGE);
            let deleted = match std::fs::remove_file(&image) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(BackendError::storage("delete", &image)(error))
                }
                _ => Ok(()),
            };
            reached(Step::ImageDeleted)?;
            result = result.and(deleted.and_then(|()| remove(&path)));
        }
        result
    }

    /// Deletes what was never finished.
    pub(super) fn sweep(&self) -> Result<(), BackendError> {
        for path in entries(&self.root.join("creating"))? {
            tracing::info!(path = %path.display(), "deleting a volume that was never finished");
            remove(&path)?;
        }
        Ok(())
    }

    /// All volumes. What is not a volume's name is left alone; what has a volume's name and is not
    /// as it should be is told, and left alone too.
    pub(super) fn scan(&self) -> Result<BTreeMap<VolumeName, Found>, BackendError> {
        let mut found = BTreeMap::new();
        for path in entries(&self.root.join("volumes"))? {
            let name = path.file_name().and_then(|name| name.to_str()).map(str::parse);
            let Some(Ok(name)) = name else {
                tracing::warn!(path = %path.display(), "not a volume: left alone");
                continue;
            };
            let volume = self.inspect(&name, &path).map_or_else(Found::Damaged, Found::Whole);
            found.insert(name, volume);
        }
        Ok(found)
    }

    fn inspect(&self, name: &VolumeName, path: &Path) -> Result<VolumeRecord, String> {
        let record = read_record(path)?;
        if record.name != *name {
            let file = path.join(RECORD);
            return Err(format!("{} is the record of volume {}", file.display(), record.name));
        }
        let image = self.image(name);
        let length = std::fs::metadata(&image).map(|file| file.len());
        match length {
            // Longer if its growth was cut short.
            Ok(length) if length >= record.size.bytes() => {
                Ok(VolumeRecord { size: ByteSize::from_bytes(length), ..record })
            }
            Ok(length) => Err(format!(
                "its disk {} has {length} bytes and not {}",
                image.display(),
                record.size.bytes()
            )),
            Err(error) => Err(format!("its disk {} cannot be read: {error}", image.display())),
        }
    }
}

fn read_record(volume: &Path) -> Result<VolumeRecord, String> {
    let path = volume.join(RECORD);
    let unreadable = |error: &dyn std::fmt::Display| {
        format!("its record {} cannot be read: {error}", path.display())
    };
    let length = std::fs::metadata(&path).map_err(|error| unreadable(&error))?.len();
    if length > LONGEST_RECORD {
        return Err(unreadable(&format_args!("it has {length} bytes")));
    }
    let text = std::fs::read(&path).map_err(|error| unreadable(&error))?;
    VolumeRecord::from_json(&text)
        .map_err(|error| unreadable(&dockline_plugin_specs::route::chain(&error)))
}

fn sync(folder: &Path) -> Result<(), BackendError> {
    durable::sync_folder(folder).map_err(BackendError::storage("write", folder))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, BackendError> {
    let paths = std::fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
    });
    paths.map_err(BackendError::storage("list", folder))
}

/// Deletes a folder with all that is in it, if it is there. Only ever called for folders that this
/// backend made under `creating` and `trash`, where nothing is ever mounted.
fn remove(path: &Path) -> Result<(), BackendError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(BackendError::storage("delete", path)(error))
        }
        _ => Ok(()),
    }
}

/// Where the tests make a change fail or die.
#[cfg(not(test))]
fn reached(_: Step) -> Result<(), BackendError> {
    Ok(())
}

#[cfg(test)]
use super::tests::reached;
