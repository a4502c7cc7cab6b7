//! The one thread that writes: group commit, and what follows when the disk fails.

use std::sync::Arc;

use redb::{Database, Durability, Table};
use tokio::sync::{mpsc, oneshot};

use super::disk::{self, Opener};
use super::{Down, Shared};
use crate::{Compare, Entry, Event, Op, Outcome, Revision, StoreError, Txn};

/// How many transactions share a commit at most: enough for any number of containers that start
/// at once, few enough that the first of them does not wait for long.
const GROUP: usize = 512;

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    /// A transaction, and whom to tell.
    Txn { txn: Txn, answer: oneshot::Sender<Result<Outcome, StoreError>> },
    /// See whether the file is still usable.
    Check,
    /// Finish what is in line and end.
    End,
}

type Answer = oneshot::Sender<Result<Outcome, StoreError>>;

/// The changes of one transaction.
type Change = (Revision, Vec<Event>);

/// A group as applied to a transaction of the file, before the commit.
#[derive(Debug, Default)]
struct Applied {
    outcomes: Vec<Outcome>,
    changes: Vec<Change>,
}

/// Why a group was not committed.
enum GroupError {
    /// Before the commit: nothing can have been written.
    Undone(Box<redb::Error>),
    /// In the commit: it may be durable or not.
    Open(Box<redb::Error>, Applied),
}

/// The writer's state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    opener: Opener,
    /// The last revision that is known to be durable.
    revision: Revision,
    /// The changes of a commit that failed, until the file can be asked what became of it.
    in_doubt: Vec<Change>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, opener: Opener, revision: Revision) -> Self {
        Self { shared, opener, revision, in_doubt: Vec::new() }
    }

    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut ending = false;
        while !ending && let Some(first) = jobs.blocking_recv() {
            let mut group = Vec::new();
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    // Nobody waits for the answer any more, and nothing has been done yet.
                    Job::Txn { answer, .. } if answer.is_closed() => {}
                    Job::Txn { txn, answer } => group.push((txn, answer)),
                    Job::Check => self.check(),
                    Job::End => ending = true,
                }
                next = if group.len() < GROUP && !ending { jobs.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.commit(group);
            }
        }
    }

    /// Applies the transactions in order, makes them durable together, and answers them all.
    fn commit(&mut self, group: Vec<(Txn, Answer)>) {
        let (txns, answers): (Vec<Txn>, Vec<Answer>) = group.into_iter().unzip();
        if let Err(error) = self.ensure_open() {
            return answer_all(answers, &error);
        }
        let written = match &*self.shared.file() {
            Ok(file) => write_group(file, self.revision, &txns),
            Err(down) => return answer_all(answers, &StoreError::unavailable(down.clone())),
        };
        match written {
            Ok(applied) => self.done(applied, answers),
            Err(GroupError::Undone(error)) => {
                tracing::error!(%error, "cannot write to the store file");
                // A file that failed once refuses to be used until it is opened again.
                self.reopen();
                answer_all(answers, &StoreError::Failed(Arc::new(*error)));
            }
            Err(GroupError::Open(error, applied)) => self.settle(error, applied, answers),
        }
    }

    /// Tells the watches, then the callers.
    fn done(&mut self, applied: Applied, answers: Vec<Answer>) {
        self.publish(applied.changes);
        for (answer, outcome) in answers.into_iter().zip(applied.outcomes) {
            // A caller that no longer waits has taken the outcome as unknown.
            let _ = answer.send(Ok(outcome));
        }
    }

    fn publish(&mut self, changes: Vec<Change>) {
        if let Some((last, _)) = changes.last() {
            self.revision = *last;
            self.shared.history.append(changes);
        }
    }

    /// After a commit that failed: the file itself says whether it was done.
    fn settle(&mut self, error: Box<redb::Error>, applied: Applied, answers: Vec<Answer>) {
        tracing::error!(%error, "a commit to the store file failed; reading back what it did");
        let before = self.revision;
        self.in_doubt = applied.changes;
        let error = Arc::new(*error);
        if !self.reopen() {
            return answer_all(answers, &StoreError::Unknown(error));
        }
        if self.revision == before {
            return answer_all(answers, &StoreError::Failed(error));
        }
        self.done(Applied { outcomes: applied.outcomes, changes: Vec::new() }, answers);
    }

    fn check(&mut self) {
        let usable = match &*self.shared.file() {
            Ok(file) => disk::revision(file).is_ok(),
            Err(_) => false,
        };
        if !usable {
            self.reopen();
        }
    }

    fn ensure_open(&mut self) -> Result<(), StoreError> {
        if self.shared.file().is_ok() || self.reopen() {
            return Ok(());
        }
        match &*self.shared.file() {
            Ok(_) => Ok(()),
            Err(down) => Err(StoreError::unavailable(down.clone())),
        }
    }

    /// Closes the file, opens it again, and finds out what became of a commit in doubt. Says
    /// whether it worked.
    fn reopen(&mut self) -> bool {
        // The lock on the file must be gone before it can be opened again.
        self.shared.set_file(Err(Down::Recovering));
        let opened = (self.opener)().and_then(|file| Ok((disk::revision(&file)?, file)));
        match opened {
            Ok((found, file)) => {
                tracing::info!(revision = %found, "the store file is open again");
                self.shared.set_file(Ok(file));
                let in_doubt = std::mem::take(&mut self.in_doubt);
                // A group is durable as a whole or not at all.
                if in_doubt.last().is_some_and(|(revision, _)| *revision == found) {
                    self.publish(in_doubt);
                }
                true
            }
            Err(error) => {
                tracing::error!(%error, "cannot open the store file again");
                self.shared.set_file(Err(Down::Broken(Arc::new(error))));
                false
            }
        }
    }
}

fn answer_all(answers: Vec<Answer>, error: &StoreError) {
    for answer in answers {
        // See `done`.
        let _ = answer.send(Err(error.clone()));
    }
}

fn write_group(file: &Database, since: Revision, txns: &[Txn]) -> Result<Applied, GroupError> {
    let undone = |error: redb::Error| GroupError::Undone(Box::new(error));
    let mut write = file.begin_write().map_err(|error| undone(error.into()))?;
    write.set_durability(Durability::Immediate).map_err(|error| undone(error.into()))?;
    write.set_two_phase_commit(true);
    let apply = || -> Result<Applied, redb::Error> {
        let mut applied = Applied::default();
        let mut entries = write.open_table(disk::ENTRIES)?;
        let mut revision = since;
        for txn in txns {
            let outcome = apply_txn(&mut entries, &mut revision, txn, &mut applied.changes)?;
            applied.outcomes.push(outcome);
        }
        if revision != since {
            write.open_table(disk::META)?.insert(disk::REVISION_ROW, revision.0)?;
        }
        Ok(applied)
    };
    let applied = apply().map_err(undone)?;
    if applied.changes.is_empty() {
        // Nothing to make durable: what the compares saw was durable before.
        write.abort().map_err(|error| undone(error.into()))?;
        return Ok(applied);
    }
    match write.commit() {
        Ok(()) => Ok(applied),
        Err(error) => Err(GroupError::Open(Box::new(error.into()), applied)),
    }
}

/// Applies one transaction to the open table, if its compares hold.
fn apply_txn(
    entries: &mut Table<'_, &'static [u8], &'static [u8]>,
    last: &mut Revision,
    txn: &Txn,
    changes: &mut Vec<Change>,
) -> Result<Outcome, redb::Error> {
    let mut found = Vec::with_capacity(txn.compares().len());
    let mut holds = true;
    for compare in txn.compares() {
        let entry = match compare {
            Compare::NoneUnder(prefix) => disk::first_under(entries, prefix)?,
            other => disk::entry(entries, other.key())?,
        };
        holds &= compare.holds(entry.as_ref());
        found.push(entry);
    }
    if !holds {
        return Ok(Outcome::Failed { revision: *last, found });
    }
    let revision = Revision(last.0 + 1);
    let mut events = Vec::with_capacity(txn.ops().len());
    for op in txn.ops() {
        events.extend(apply_op(entries, revision, op)?);
    }
    if !events.is_empty() {
        *last = revision;
        changes.push((revision, events));
    }
    Ok(Outcome::Committed { revision: *last })
}

fn apply_op(
    entries: &mut Table<'_, &'static [u8], &'static [u8]>,
    revision: Revision,
    op: &Op,
) -> Result<Option<Event>, redb::Error> {
    let event = match op {
        Op::Put(key, value) => {
            let before = disk::entry(entries, key)?;
            let entry = Entry {
                key: key.clone(),
                value: value.clone(),
                create_revision: before.map_or(revision, |before| before.create_revision),
                mod_revision: revision,
            };
            entries.insert(key.as_bytes(), disk::encode(&entry).as_slice())?;
            Some(Event::Put(entry))
        }
        Op::Delete(key) => {
            let removed = entries.remove(key.as_bytes())?.is_some();
            removed.then(|| Event::Delete { key: key.clone(), revision })
        }
    };
    Ok(event)
}
