//! Reads, each on a snapshot of the file and on a thread that may wait for the disk.

use std::ops::Bound;
use std::sync::Arc;

use redb::ReadTransaction;

use super::{Down, Shared, disk};
use crate::{Entry, Key, MAX_PAGE, Page, Prefix, Revision, Scan, StoreError};

/// Runs a read where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    // The task is never aborted; it is lost only if the runtime ends or the read panics.
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(StoreError::unavailable(Down::Closed)))
}

pub(super) async fn get(shared: Arc<Shared>, key: Key) -> Result<Option<Entry>, StoreError> {
    blocking(move || {
        let read = shared.begin_read()?;
        let found = || disk::entry(&read.open_table(disk::ENTRIES)?, &key);
        found().map_err(|error| shared.failed_read(error))
    })
    .await
}

pub(super) async fn revision(shared: Arc<Shared>) -> Result<Revision, StoreError> {
    blocking(move || {
        let read = shared.begin_read()?;
        disk::read_revision(&read).map_err(|error| shared.failed_read(error))
    })
    .await
}

/// The file as it was when a scan began.
#[derive(Debug)]
struct Snapshot {
    read: ReadTransaction,
    revision: Revision,
}

/// A scan of the embedded store: a snapshot of the file, and how far it was read.
#[derive(Debug)]
pub struct EmbeddedScan {
    shared: Arc<Shared>,
    prefix: Prefix,
    page: usize,
    snapshot: Option<Arc<Snapshot>>,
    last: Option<Key>,
    done: bool,
}

impl EmbeddedScan {
    pub(super) fn new(shared: Arc<Shared>, prefix: Prefix, page: usize) -> Self {
        let page = page.clamp(1, MAX_PAGE);
        Self { shared, prefix, page, snapshot: None, last: None, done: false }
    }
}

impl Scan for EmbeddedScan {
    async fn next(&mut self) -> Result<Option<Page>, StoreError> {
        if self.done {
            return Ok(None);
        }
        let (shared, prefix, page) = (Arc::clone(&self.shared), self.prefix.clone(), self.page);
        let (snapshot, last) = (self.snapshot.clone(), self.last.clone());
        // What is learnt is kept only at the end, so that a caller may give up waiting and retry.
        let (snapshot, entries) = blocking(move || {
            let snapshot = snapshot.map_or_else(|| begin(&shared), Ok)?;
            let entries = read_page(&snapshot.read, &prefix, last.as_ref(), page);
            Ok((snapshot, entries.map_err(|error| shared.failed_read(error))?))
        })
        .await?;
        self.done = entries.len() < self.page;
        self.last = entries.last().map(|entry| entry.key.clone());
        let revision = snapshot.revision;
        // A finished scan must not keep the file from reusing the pages of its snapshot.
        self.snapshot = (!self.done).then_some(snapshot);
        Ok(Some(Page { revision, entries }))
    }
}

fn begin(shared: &Shared) -> Result<Arc<Snapshot>, StoreError> {
    let read = shared.begin_read()?;
    let revision = disk::read_revision(&read).map_err(|error| shared.failed_read(error))?;
    Ok(Arc::new(Snapshot { read, revision }))
}

fn read_page(
    read: &ReadTransaction,
    prefix: &Prefix,
    last: Option<&Key>,
    page: usize,
) -> Result<Vec<Entry>, redb::Error> {
    let table = read.open_table(disk::ENTRIES)?;
    let end = prefix.end();
    let from = match last {
        Some(last) => Bound::Excluded(last.as_bytes()),
        None => Bound::Included(prefix.as_bytes()),
    };
    let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let mut entries = Vec::new();
    for row in table.range::<&[u8]>((from, to))?.take(page) {
        let (key, row) = row?;
        entries.push(disk::decode(key.value(), row.value())?);
    }
    Ok(entries)
}
