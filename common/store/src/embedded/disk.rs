//! The file: its tables, how it is opened, and what is refused.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend};
use redb::{ReadTransaction, TableDefinition, TableError, TableHandle};

use crate::{Entry, Key, Revision, Value};

/// The version of the file's layout that this program reads and writes.
pub const SCHEMA: u64 = 1;

/// How much of the file is kept in memory, in bytes. The callers keep what they need often.
const CACHE: usize = 8 << 20;

/// Key -> the two revisions (8 bytes each, big-endian) and the value.
pub(super) const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SCHEMA_ROW: &str = "schema";
pub(super) const REVISION_ROW: &str = "revision";

/// Opens the file; called at the start and again after the file failed.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, OpenError> + Send + Sync>;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "{} is in use by another process: only one daemon can have it open; stop the other, \
         or give this one a file of its own", path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer version.
    #[error(
        "{} has layout {found}, and this version knows none above {SCHEMA}: it was written by a \
         newer Dockline; run that version", path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u64,
    },
    /// It is a database of something else.
    #[error("{} is not a Dockline store: it was left as it is; name another file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Its contents make no sense.
    #[error(
        "{} is damaged and was left as it is: put back a copy, or move it away to start empty",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        #[source]
        source: Box<redb::Error>,
    },
    /// The system refused.
    #[error("cannot open {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    fn from_redb(path: &Path, error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Self::InUse { path: path.to_owned() },
            // redb reports a file that is no database at all in this way.
            redb::Error::Io(source) if source.kind() == std::io::ErrorKind::InvalidData => {
                Self::Foreign { path: path.to_owned() }
            }
            redb::Error::Io(source) => Self::io(path, source),
            other => Self::Damaged { path: path.to_owned(), source: Box::new(other) },
        }
    }
}

/// Opens the file at `path`, creating it if it is not there.
///
/// A new file is made under another name and gets its own when it is whole: one whose making was
/// cut short by a kill or a power cut is never taken for a store, nor for something foreign.
pub(super) fn open_file(path: &Path) -> Result<Database, OpenError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    if path.exists() {
        let database = open_path(path)?;
        remove_leftover(&new)?;
        return Ok(database);
    }
    let database = match open_path(&new) {
        // The rest of a making that was cut short: whoever makes one now has it locked.
        Err(OpenError::Foreign { .. } | OpenError::Damaged { .. }) => {
            remove_leftover(&new)?;
            open_path(&new)?
        }
        opened => opened?,
    };
    let io = |error| OpenError::io(path, error);
    // Unlike a rename this never replaces a store that another process has made meanwhile.
    std::fs::hard_link(&new, path).map_err(io)?;
    remove_leftover(&new)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(io)?;
    Ok(database)
}

fn remove_leftover(new: &Path) -> Result<(), OpenError> {
    match std::fs::remove_file(new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(OpenError::io(new, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn open_path(path: &Path) -> Result<Database, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(|error| OpenError::io(path, error))?;
    let backend = FileBackend::new(file).map_err(|error| OpenError::from_redb(path, error))?;
    open_backend(backend, path)
}

/// Opens a database on any storage and checks that it is ours.
pub(super) fn open_backend<B: StorageBackend>(
    backend: B,
    path: &Path,
) -> Result<Database, OpenError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    let database = builder.create_with_backend(backend);
    let database = database.map_err(|error| OpenError::from_redb(path, error))?;
    check_schema(&database, path)?;
    Ok(database)
}

fn check_schema(database: &Database, path: &Path) -> Result<(), OpenError> {
    let failed = |error: redb::Error| OpenError::from_redb(path, error);
    let read = database.begin_read().map_err(|error| failed(error.into()))?;
    let found = match read.open_table(META) {
        Ok(meta) => {
            let row = meta.get(SCHEMA_ROW).map_err(|error| failed(error.into()))?;
            row.map(|row| row.value())
        }
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(TableError::Storage(error)) => return Err(failed(error.into())),
        Err(_) => return Err(OpenError::Foreign { path: path.to_owned() }),
    };
    match found {
        Some(SCHEMA) => Ok(()),
        Some(found) => Err(OpenError::NewerSchema { path: path.to_owned(), found }),
        None => {
            let mut tables = read.list_tables().map_err(|error| failed(error.into()))?;
            if tables.any(|table| !table.name().is_empty()) {
                return Err(OpenError::Foreign { path: path.to_owned() });
            }
            create_tables(database).map_err(failed)
        }
    }
}

fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let mut write = database.begin_write()?;
    write.set_two_phase_commit(true);
    {
        write.open_table(ENTRIES)?;
        let mut meta = write.open_table(META)?;
        meta.insert(SCHEMA_ROW, SCHEMA)?;
        meta.insert(REVISION_ROW, 0)?;
    }
    write.commit()?;
    Ok(())
}

/// The revision of the last transaction that changed something.
pub(super) fn revision(database: &Database) -> Result<Revision, OpenError> {
    let failed = |error| OpenError::from_redb(Path::new("the store"), error);
    let read = database.begin_read().map_err(|error| failed(redb::Error::from(error)))?;
    read_revision(&read).map_err(failed)
}

pub(super) fn read_revision(read: &ReadTransaction) -> Result<Revision, redb::Error> {
    let row = read.open_table(META)?.get(REVISION_ROW)?;
    Ok(Revision(row.map_or(0, |row| row.value())))
}

/// Where the value begins in a row of [`ENTRIES`].
const HEADER: usize = 16;

pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEADER + entry.value.as_bytes().len());
    row.extend_from_slice(&entry.create_revision.0.to_be_bytes());
    row.extend_from_slice(&entry.mod_revision.0.to_be_bytes());
    row.extend_from_slice(entry.value.as_bytes());
    row
}

pub(super) fn decode(key: &[u8], row: &[u8]) -> Result<Entry, redb::Error> {
    let corrupt = || redb::Error::Corrupted(format!("the row of key {}", key.escape_ascii()));
    let (create_revision, rest) = row.split_first_chunk().ok_or_else(corrupt)?;
    let (mod_revision, value) = rest.split_first_chunk().ok_or_else(corrupt)?;
    Ok(Entry {
        key: Key::new(key).map_err(|_| corrupt())?,
        value: Value::new(value).map_err(|_| corrupt())?,
        create_revision: Revision(u64::from_be_bytes(*create_revision)),
        mod_revision: Revision(u64::from_be_bytes(*mod_revision)),
    })
}

/// One entry of an open table.
pub(super) fn entry(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &Key,
) -> Result<Option<Entry>, redb::Error> {
    match table.get(key.as_bytes())? {
        Some(row) => decode(key.as_bytes(), row.value()).map(Some),
        None => Ok(None),
    }
}

/// The first entry of an open table whose key begins with `prefix`.
pub(super) fn first_under(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    prefix: &Key,
) -> Result<Option<Entry>, redb::Error> {
    match table.range::<&[u8]>(prefix.as_bytes()..)?.next() {
        Some(row) => {
            let (key, row) = row?;
            let ours = key.value().starts_with(prefix.as_bytes());
            ours.then(|| decode(key.value(), row.value())).transpose()
        }
        None => Ok(None),
    }
}
