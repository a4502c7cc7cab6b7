//! What a store does.

use std::future::Future;

use crate::{Entry, Event, Key, Outcome, Prefix, Revision, StoreError, Txn};

/// One page of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The revision of the whole scan: every page shows the store as it was then.
    pub revision: Revision,
    /// The entries, in the order of their keys. Only the last page may be empty.
    pub entries: Vec<Entry>,
}

/// What a watch has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Every change up to and with this revision has now been told.
    pub revision: Revision,
    /// The changes under the prefix since the batch before, in order; may be empty, which only
    /// says that the watch has got this far. A transaction is never split over two batches.
    pub events: Vec<Event>,
}

/// A consistent read of many keys, page by page. Dropping it ends it.
pub trait Scan: Send {
    /// The next page, or `None` after the last. There is always at least one page.
    ///
    /// Fails with [`StoreError::Compacted`] when the scan took so long that the store no longer
    /// has what it began with.
    fn next(&mut self) -> impl Future<Output = Result<Option<Page>, StoreError>> + Send;
}

/// The changes under a prefix, from a revision on, in order and without a gap.
///
/// A watch reconnects by itself. Dropping it ends it; `next` may be dropped and called again.
pub trait Watch: Send {
    /// Waits for the next batch.
    ///
    /// Whatever revision the store reaches, a batch of at least that revision follows soon, also
    /// when nothing under the prefix changed. Fails with [`StoreError::Compacted`] when changes
    /// were missed and with [`StoreError::Unavailable`] when the store is closed, both for good.
    fn next(&mut self) -> impl Future<Output = Result<Batch, StoreError>> + Send;
}

/// Ordered keys and values with revisions, transactions and watches.
///
/// Every call has a deadline of its own. Reads are linearizable: they see every transaction that
/// was answered before they began.
pub trait Store: Send + Sync + 'static {
    /// See [`Scan`].
    type Scan: Scan + 'static;
    /// See [`Watch`].
    type Watch: Watch + 'static;

    /// One key, `None` if it does not exist.
    fn get(&self, key: Key) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;

    /// Does the operations if every compare holds. Durable when answered.
    ///
    /// A caller that stops waiting must take the outcome as unknown.
    fn txn(&self, txn: Txn) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Reads everything under `prefix` as it is at one moment, `page` entries at a time (1 to
    /// [`MAX_PAGE`](crate::MAX_PAGE); what is beyond is cut to it).
    fn scan(&self, prefix: Prefix, page: usize) -> Self::Scan;

    /// Follows the changes under `prefix` that come after a revision, which is usually that of a
    /// scan.
    fn watch(&self, prefix: Prefix, after: Revision) -> Self::Watch;

    /// The revision of the store now.
    fn revision(&self) -> impl Future<Output = Result<Revision, StoreError>> + Send;
}
