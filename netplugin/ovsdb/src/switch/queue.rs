//! Group commit: changes of ports, taken from a queue and written together.
//!
//! One task takes whatever waits, writes it in one transaction, and holds the next back until
//! ovs-vswitchd has put this one into effect (or [`limits::HOLD`] has passed), so that all that
//! arrives meanwhile shares the next reconfiguration. A change that spoils a shared transaction is
//! found by trying each alone; the others do not notice.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::PortError;
use super::plan::{self, Piece, Plan, Work};
use super::spec::Until;
use crate::client::Client;
use crate::limits;
use crate::transaction::{RefusalKind, TransactError, Transaction};

/// What a change came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) changed: bool,
    /// The OpenFlow number of a port that was added.
    pub(crate) ofport: Option<u16>,
}

type Result<T> = std::result::Result<T, PortError>;

/// How far a change has come: what a caller who runs out of time needs to know.
#[derive(Debug, Clone)]
struct Stage(Arc<AtomicU8>);

impl Stage {
    const WAITING: u8 = 0;
    const WITHDRAWN: u8 = 1;
    const TAKEN: u8 = 2;
    const COMMITTED: u8 = 3;

    /// Leaves the waiting stage, once: either the caller withdraws it or the queue takes it.
    fn leave_waiting(&self, to: u8) -> bool {
        let order = Ordering::SeqCst;
        self.0.compare_exchange(Self::WAITING, to, order, order).is_ok()
    }
}

/// A change in the queue.
#[derive(Debug)]
pub(crate) struct Entry {
    work: Work,
    deadline: Instant,
    stage: Stage,
    answer: oneshot::Sender<Result<Done>>,
}

/// The caller's end of an entry; dropping it withdraws the change if it still waits.
#[derive(Debug)]
pub(crate) struct Ticket {
    stage: Stage,
    answer: oneshot::Receiver<Result<Done>>,
}

impl Entry {
    pub(crate) fn new(work: Work, deadline: Instant) -> (Self, Ticket) {
        let stage = Stage(Arc::new(AtomicU8::new(Stage::WAITING)));
        let (sender, answer) = oneshot::channel();
        let entry = Self { work, deadline, stage: stage.clone(), answer: sender };
        (entry, Ticket { stage, answer })
    }

    fn answer(self, result: Result<Done>) {
        // The caller may have gone; the change stands as it is.
        let _ = self.answer.send(result);
    }
}

impl Ticket {
    pub(crate) async fn wait(mut self, name: String, deadline: Instant) -> Result<Done> {
        match tokio::time::timeout_at(deadline, &mut self.answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(match self.stage.leave_waiting(Stage::WITHDRAWN) {
                true => PortError::NotStarted(name),
                false if self.stage.0.load(Ordering::SeqCst) == Stage::COMMITTED => {
                    PortError::NotApplied(name)
                }
                false => PortError::Unknown(name),
            }),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.stage.leave_waiting(Stage::WITHDRAWN);
    }
}

/// The task that writes the changes.
#[derive(Debug)]
pub(crate) struct Queue {
    client: Client,
    incoming: mpsc::Receiver<Entry>,
    waiting: VecDeque<Entry>,
    /// How many changes the last transaction had, and how long ovs-vswitchd took.
    last: (usize, Duration),
}

impl Queue {
    pub(crate) fn new(client: Client, incoming: mpsc::Receiver<Entry>) -> Self {
        Self { client, incoming, waiting: VecDeque::new(), last: (0, Duration::ZERO) }
    }

    pub(crate) async fn run(mut self) {
        loop {
            if self.waiting.is_empty() {
                match self.incoming.recv().await {
                    Some(entry) => self.waiting.push_back(entry),
                    None => return,
                }
            }
            // Callers withdraw at their own deadlines, so waiting here needs none.
            if self.client.reconnected().await.is_err() {
                return;
            }
            self.gather().await;
            let batch = self.take_batch();
            if batch.is_empty() {
                continue;
            }
            let (size, started) = (batch.len(), Instant::now());
            let committed = commit(&self.client, batch).await;
            let settling = tokio::spawn(settle(self.client.clone(), committed));
            let _ = tokio::time::timeout(limits::HOLD, settling).await;
            self.last = (size, started.elapsed());
        }
    }

    /// Gives callers who were answered together a moment to come back together; a caller who is
    /// alone never waits here.
    async fn gather(&mut self) {
        let (size, took) = self.last;
        self.fill();
        let end = Instant::now() + (took / 16).min(limits::GATHER);
        while self.waiting.len() < size.min(limits::BATCH) {
            match tokio::time::timeout_at(end, self.incoming.recv()).await {
                Ok(Some(entry)) => self.waiting.push_back(entry),
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn fill(&mut self) {
        while self.waiting.len() < limits::BATCH
            && let Ok(entry) = self.incoming.try_recv()
        {
            self.waiting.push_back(entry);
        }
    }

    /// The changes that can be written together: those withdrawn are dropped, a second change of
    /// the same port waits for the first.
    fn take_batch(&mut self) -> Vec<Entry> {
        let mut names = HashSet::new();
        let mut batch = Vec::new();
        for entry in std::mem::take(&mut self.waiting) {
            if batch.len() == limits::BATCH || !names.insert(entry.work.name().to_owned()) {
                self.waiting.push_back(entry);
            } else if entry.stage.leave_waiting(Stage::TAKEN) {
                batch.push(entry);
            }
        }
        batch
    }
}

/// A change that is in the database.
struct Written {
    entry: Entry,
    changed: bool,
}

/// Changes that are in the database, and the `next_cfg` that covers them.
struct Committed {
    written: Vec<Written>,
    next_cfg: Option<i64>,
}

impl Committed {
    fn add(&mut self, entry: Entry, changed: bool, next_cfg: Option<i64>) {
        entry.stage.0.store(Stage::COMMITTED, Ordering::SeqCst);
        self.next_cfg = self.next_cfg.max(next_cfg);
        if entry.work.ends_at_commit() {
            entry.answer(Ok(Done { changed, ofport: None }));
        } else {
            self.written.push(Written { entry, changed });
        }
    }
}

/// Writes the changes: together, and each alone when that was refused.
async fn commit(client: &Client, batch: Vec<Entry>) -> Committed {
    let mut committed = Committed { written: Vec::new(), next_cfg: None };
    let mut left: Vec<(Entry, Tried)> =
        batch.into_iter().map(|entry| (entry, Tried::default())).collect();
    let mut together = true;
    for attempt in 1..=limits::ATTEMPTS {
        let pieces = look(client, left, &mut committed);
        if pieces.is_empty() {
            break;
        }
        let last = attempt == limits::ATTEMPTS;
        let groups: Vec<Vec<_>> = match together {
            true => vec![pieces],
            false => pieces.into_iter().map(|piece| vec![piece]).collect(),
        };
        let results =
            futures_util::future::join_all(groups.into_iter().map(|group| write(client, group)));
        left = Vec::new();
        for (group, result) in results.await {
            match result {
                Ok(next_cfg) => {
                    group.into_iter().for_each(|(entry, ..)| committed.add(entry, true, next_cfg));
                }
                Err(error) => {
                    let alone = group.len() == 1;
                    together = error.is_unknown() || matches!(error, TransactError::NotSent);
                    left.extend(refused(group, error, alone, last));
                }
            }
        }
    }
    committed
}

/// What earlier attempts at one change have come to.
#[derive(Debug, Clone, Copy, Default)]
struct Tried {
    /// An attempt was sent whose outcome is not known: if the change is there now, it may be ours.
    unknown: bool,
}

type Pieces = Vec<(Entry, Tried, Piece)>;

/// Answers what needs no write and gives the rest with the rows it touches.
fn look(client: &Client, left: Vec<(Entry, Tried)>, committed: &mut Committed) -> Pieces {
    let mut pieces = Vec::new();
    for (entry, tried) in left {
        let (plan, next_cfg) = client.look(|picture| {
            let next_cfg = picture.root().map(|root| root.next_cfg);
            (plan::plan(&entry.work, picture), next_cfg)
        });
        match plan {
            Err(error) => entry.answer(Err(error)),
            Ok(Plan::Write(piece)) => pieces.push((entry, tried, piece)),
            // Done already: by an earlier call, or by an attempt whose answer was lost.
            Ok(Plan::Nothing) => committed.add(entry, tried.unknown, None),
            Ok(Plan::Wait) => committed.add(entry, tried.unknown, next_cfg),
        }
    }
    pieces
}

async fn write(
    client: &Client,
    group: Pieces,
) -> (Pieces, std::result::Result<Option<i64>, TransactError>) {
    let transaction =
        plan::transaction(group.iter().map(|(entry, _, piece)| (&entry.work, *piece)));
    let deadline = group.iter().map(|(entry, ..)| entry.deadline).max();
    let deadline = deadline.unwrap_or_else(Instant::now);
    let result = client.transact(&transaction, deadline).await;
    (group, result.map(|committed| committed.next_cfg))
}

/// Sorts the changes of a failed transaction into those worth another look and those answered.
fn refused(group: Pieces, error: TransactError, alone: bool, last: bool) -> Vec<(Entry, Tried)> {
    let unknown = error.is_unknown();
    let raced = error.refusal().is_some_and(|refusal| {
        matches!(refusal.kind, RefusalKind::Guard | RefusalKind::Constraint)
    });
    let mut again = Vec::new();
    for (entry, mut tried, _) in group {
        tried.unknown |= unknown;
        let late = Instant::now() >= entry.deadline;
        if !last && !late && (unknown || raced || !alone) {
            again.push((entry, tried));
            continue;
        }
        let name = entry.work.name().to_owned();
        let answer = match &error {
            _ if tried.unknown => PortError::Unknown(name),
            TransactError::NotSent => PortError::NotStarted(name),
            source => PortError::Refused { name, source: source.clone() },
        };
        entry.answer(Err(answer));
    }
    again
}

/// Waits until ovs-vswitchd has the changes and tells the callers.
async fn settle(client: Client, committed: Committed) {
    let Committed { written, next_cfg } = committed;
    let Some(deadline) = written.iter().map(|written| written.entry.deadline).max() else { return };
    if let Some(next_cfg) = next_cfg
        && client.applied(next_cfg, deadline).await.is_err()
    {
        for Written { entry, .. } in written {
            let name = entry.work.name().to_owned();
            entry.answer(Err(PortError::NotApplied(name)));
        }
        return;
    }
    let mut failed = Vec::new();
    for Written { entry, changed } in written {
        let Work::Add(spec) = &entry.work else {
            entry.answer(Ok(Done { changed, ofport: None }));
            continue;
        };
        match client.look(|picture| plan::forwards(spec.name.as_str(), picture)) {
            Ok(ofport) => entry.answer(Ok(Done { changed, ofport: Some(ofport) })),
            Err(error @ PortError::Device { .. }) if changed => failed.push((entry, error)),
            Err(error) => entry.answer(Err(error)),
        }
    }
    take_back(&client, failed).await;
}

/// Takes out the ports whose devices cannot be used, then tells the callers why.
async fn take_back(client: &Client, failed: Vec<(Entry, PortError)>) {
    for (entry, error) in failed {
        if let Work::Add(spec) = &entry.work {
            let name = spec.name.to_string();
            let work = Work::Delete { name, guard: spec.marks.clone(), until: Until::Committed };
            let planned = client.look(|picture| plan::plan(&work, picture));
            if let Ok(Plan::Write(piece)) = planned {
                let undo: Transaction = plan::transaction(std::iter::once((&work, piece)));
                if let Err(undo_error) = client.transact(&undo, Instant::now() + limits::UNDO).await
                {
                    tracing::warn!(port = work.name(), %undo_error, "a failed port stays behind");
                }
            }
        }
        entry.answer(Err(error));
    }
}
