//! The store in one file of this host, for a suite that needs no server.
//!
//! A single thread writes. It takes every transaction that waits, applies them one after the other
//! in one transaction of the file, makes that durable with one sync, and then answers them all
//! (group commit): the more callers, the more each sync carries. Reads use the file's snapshots
//! and never wait for a sync. Only one process at a time can have the file open.

mod disk;
mod history;
mod read;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{ReadTransaction, ReadableDatabase, StorageBackend};
use tokio::sync::{mpsc, oneshot};

pub use disk::{OpenError, SCHEMA};
pub use history::EmbeddedWatch;
pub use read::EmbeddedScan;

use crate::{Entry, Key, Outcome, Prefix, Revision, Store, StoreError, Txn};
use disk::Opener;
use history::History;
use writer::{Job, Writer};

/// How many transactions may wait for the writer; further callers wait to get in line.
const QUEUE: usize = 1024;

/// How long a transaction may take. A sync of a healthy disk takes milliseconds; dockerd's users
/// lose patience long after this.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why the file is not usable at the moment.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Down {
    #[error("the store is closed")]
    Closed,
    #[error("the store file failed and could not be opened again: {0}")]
    Broken(#[source] Arc<OpenError>),
    #[error("the store file failed and is being opened again")]
    Recovering,
    #[error("the disk did not answer within {} s", DEADLINE.as_secs())]
    Slow,
}

/// What the handle, the writer, the scans and the watches share.
#[derive(Debug)]
pub(crate) struct Shared {
    file: RwLock<Result<redb::Database, Down>>,
    history: History,
    /// Wakes the writer, so that a file whose reads fail is opened again.
    nudge: mpsc::Sender<Job>,
}

impl Shared {
    fn file(&self) -> RwLockReadGuard<'_, Result<redb::Database, Down>> {
        self.file.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_file(&self, file: Result<redb::Database, Down>) {
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = file;
    }

    fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        match &*self.file() {
            Ok(file) => file.begin_read().map_err(|error| self.failed_read(error)),
            Err(down) => Err(StoreError::unavailable(down.clone())),
        }
    }

    /// After a failed read the file must be opened anew before it can be used again.
    fn failed_read(&self, error: impl Into<redb::Error>) -> StoreError {
        let error = error.into();
        tracing::warn!(%error, "cannot read the store file; opening it again");
        // A full queue means that the writer is awake and will find out by itself.
        let _ = self.nudge.try_send(Job::Check);
        StoreError::unavailable(error)
    }
}

/// The store in a file. Dropping it waits for the write at hand and releases the file.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    queue: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the file, or creates it (readable by root alone) if it is not there. Its folder must
    /// exist. Blocks for as long as a repair after a crash takes.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        Self::start(Box::new(move || disk::open_file(&path)))
    }

    /// Opens a store on storage of the caller's making, which tests use to let the disk fail.
    /// `storage` is called again whenever the storage failed and is to be opened anew.
    pub fn open_on<B: StorageBackend>(
        storage: impl Fn() -> std::io::Result<B> + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        Self::start(Box::new(move || {
            let path = Path::new("(storage given by the caller)");
            let backend = storage().map_err(|error| OpenError::io(path, error))?;
            disk::open_backend(backend, path)
        }))
    }

    fn start(opener: Opener) -> Result<Self, OpenError> {
        let file = opener()?;
        let revision = disk::revision(&file)?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            file: RwLock::new(Ok(file)),
            history: History::new(revision),
            nudge: queue.clone(),
        });
        let writer = Writer::new(Arc::clone(&shared), opener, revision);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(jobs))
            .map_err(|error| OpenError::io(Path::new("the writer's thread"), error))?;
        Ok(Self { shared, queue: Some(queue), writer: Some(writer) })
    }

    async fn send(&self, txn: Txn) -> Result<Outcome, StoreError> {
        let closed = || StoreError::unavailable(Down::Closed);
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        let (answer, answered) = oneshot::channel();
        // Up to here nothing has happened; beyond, a silent writer leaves the outcome open.
        let place = tokio::time::timeout(DEADLINE, queue.reserve()).await;
        let place =
            place.map_err(|_| StoreError::unavailable(Down::Slow))?.map_err(|_| closed())?;
        place.send(Job::Txn { txn, answer });
        match tokio::time::timeout(DEADLINE, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(StoreError::Unknown(Arc::new(Down::Closed))),
            Err(_) => Err(StoreError::Unknown(Arc::new(Down::Slow))),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            // The writer ends after what is in line, also if scans still hold the shared state.
            let end = Job::End;
            if let Err(mpsc::error::TrySendError::Full(end)) = queue.try_send(end) {
                // Only here may a drop wait for a place in line: the writer is at work.
                std::thread::scope(|scope| {
                    scope.spawn(|| queue.blocking_send(end));
                });
            }
        }
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the store panicked");
        }
        self.shared.set_file(Err(Down::Closed));
        self.shared.history.close();
    }
}

impl Store for Embedded {
    type Scan = EmbeddedScan;
    type Watch = EmbeddedWatch;

    async fn get(&self, key: Key) -> Result<Option<Entry>, StoreError> {
        read::get(Arc::clone(&self.shared), key).await
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        self.send(txn).await
    }

    fn scan(&self, prefix: Prefix, page: usize) -> EmbeddedScan {
        EmbeddedScan::new(Arc::clone(&self.shared), prefix, page)
    }

    fn watch(&self, prefix: Prefix, after: Revision) -> EmbeddedWatch {
        EmbeddedWatch::new(Arc::clone(&self.shared), prefix, after)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        read::revision(Arc::clone(&self.shared)).await
    }
}
