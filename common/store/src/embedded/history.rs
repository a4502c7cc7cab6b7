//! The changes of late, kept in memory for the watches.
//!
//! A watch holds no queue of its own, only how far it has read: one that falls too far behind is
//! told so, and costs nothing. The history begins when the file is opened.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{Down, Shared};
use crate::{Batch, Event, Prefix, Revision, StoreError, Watch};

/// How many events are kept: a minute's worth at ten thousand changes a second would be more, but
/// whoever is that far behind is quicker to scan again.
const KEPT: usize = 65_536;

/// How many events a batch holds, unless one transaction alone has more.
const BATCH: usize = 1024;

#[derive(Debug)]
struct Commit {
    revision: Revision,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Ring {
    /// Everything after this revision is in `commits`.
    since: Revision,
    last: Revision,
    commits: VecDeque<Commit>,
    events: usize,
}

/// The changes since the file was opened, or the latest [`KEPT`] of them.
#[derive(Debug)]
pub(super) struct History {
    ring: Mutex<Ring>,
    /// The last revision; `None` once the store is closed.
    latest: watch::Sender<Option<Revision>>,
}

impl History {
    pub(super) fn new(revision: Revision) -> Self {
        let ring = Ring { since: revision, last: revision, commits: VecDeque::new(), events: 0 };
        Self { ring: Mutex::new(ring), latest: watch::Sender::new(Some(revision)) }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what has become durable: the changes of one transaction each, in order.
    pub(super) fn append(&self, commits: impl IntoIterator<Item = (Revision, Vec<Event>)>) {
        let mut ring = self.ring();
        for (revision, events) in commits {
            ring.events += events.len();
            ring.last = revision;
            ring.commits.push_back(Commit { revision, events });
        }
        while ring.events > KEPT
            && let Some(oldest) = ring.commits.pop_front()
        {
            ring.events -= oldest.events.len();
            ring.since = oldest.revision;
        }
        let last = ring.last;
        drop(ring);
        self.latest.send_replace(Some(last));
    }

    pub(super) fn close(&self) {
        self.latest.send_replace(None);
    }

    /// What came after a revision; `None` if nothing did.
    fn after(&self, prefix: &Prefix, after: Revision) -> Result<Option<Batch>, StoreError> {
        let ring = self.ring();
        if after < ring.since {
            return Err(StoreError::Compacted { after });
        }
        if after >= ring.last {
            return Ok(None);
        }
        let mut batch = Batch { revision: ring.last, events: Vec::new() };
        let from = ring.commits.partition_point(|commit| commit.revision <= after);
        for commit in ring.commits.range(from..) {
            let ours = commit.events.iter().filter(|event| prefix.holds(event.key().as_bytes()));
            batch.events.extend(ours.cloned());
            if batch.events.len() >= BATCH {
                batch.revision = commit.revision;
                break;
            }
        }
        Ok(Some(batch))
    }
}

/// A watch on the embedded store.
#[derive(Debug)]
pub struct EmbeddedWatch {
    shared: Arc<Shared>,
    prefix: Prefix,
    after: Revision,
    latest: watch::Receiver<Option<Revision>>,
}

impl EmbeddedWatch {
    pub(super) fn new(shared: Arc<Shared>, prefix: Prefix, after: Revision) -> Self {
        let latest = shared.history.latest.subscribe();
        Self { shared, prefix, after, latest }
    }
}

impl Watch for EmbeddedWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        loop {
            let closed = self.latest.borrow_and_update().is_none();
            if let Some(batch) = self.shared.history.after(&self.prefix, self.after)? {
                self.after = batch.revision;
                return Ok(batch);
            }
            // The sender lives in what this watch shares, so that it cannot be gone.
            if closed || self.latest.changed().await.is_err() {
                return Err(StoreError::unavailable(Down::Closed));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    fn event(revision: u64) -> Event {
        let key = Key::new(format!("a/{revision}")).unwrap();
        Event::Delete { key, revision: Revision(revision) }
    }

    fn history(commits: u64, events: usize) -> History {
        let history = History::new(Revision(10));
        let commit = |at| (Revision(10 + at), vec![event(10 + at); events]);
        history.append((1..=commits).map(commit));
        history
    }

    #[test]
    fn what_is_older_than_the_file_was_opened_is_compacted() {
        let history = history(3, 1);
        let all = Prefix::default();
        let compacted = history.after(&all, Revision(9));
        assert!(matches!(compacted, Err(StoreError::Compacted { after: Revision(9) })));
        let batch = history.after(&all, Revision(10)).unwrap().unwrap();
        assert_eq!(batch.events, [event(11), event(12), event(13)]);
        assert_eq!(history.after(&all, Revision(13)).unwrap(), None);
        // A scan may see a commit before the history does.
        assert_eq!(history.after(&all, Revision(14)).unwrap(), None);
        let none = history.after(&Prefix::new("b").unwrap(), Revision(12)).unwrap().unwrap();
        assert_eq!((none.revision, none.events.len()), (Revision(13), 0));
    }

    #[test]
    fn only_the_latest_are_kept_and_who_is_behind_them_is_told() {
        let history = history(KEPT as u64 / 100 + 10, 100);
        assert!(history.ring().events <= KEPT);
        let since = history.ring().since;
        assert!(since > Revision(10));
        let all = Prefix::default();
        let behind = Revision(since.0 - 1);
        assert!(matches!(history.after(&all, behind), Err(StoreError::Compacted { .. })));
        let batch = history.after(&all, since).unwrap().unwrap();
        assert_eq!(batch.events[0].revision(), Revision(since.0 + 1));
    }

    #[test]
    fn batches_end_between_two_transactions() {
        let history = history(100, 100);
        let (all, mut told, mut events) = (Prefix::default(), Revision(10), 0);
        while let Some(batch) = history.after(&all, told).unwrap() {
            assert!(batch.events.len() < BATCH + 100);
            assert!(batch.events.len().is_multiple_of(100));
            assert_eq!(batch.events.last().unwrap().revision(), batch.revision);
            events += batch.events.len();
            told = batch.revision;
        }
        assert_eq!((told, events), (Revision(110), 10_000));
    }
}
