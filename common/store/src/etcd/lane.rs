//! The one task that writes: group commit, and what follows when an answer is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use etcd_client::{Compare, GetOptions, Txn as EtcdTxn, TxnOp, TxnOpResponse, TxnResponse};
use tokio::sync::{mpsc, oneshot};

use super::batch::Batch;
use super::error::{Failure, OpenError, Verdict};
use super::fence::{Advance, Fence};
use super::link::{Link, pause};
use super::wire;
use crate::{Outcome, Revision, StoreError, Txn};

/// How often the lane looks whether more callers have come before it commits: those who were
/// answered together ask again at about the same time, but not in the same instant.
const GATHER: usize = 16;

/// How often a batch is sent again after another process took the fence.
const TAKEN: usize = 3;

/// How many attempts to take the fence are made before the cluster counts as unusable.
const START: usize = 8;

/// Where a transaction is: whether its caller may still say that nothing was done.
#[derive(Debug, Default)]
pub(super) struct Ticket(AtomicU8);

const WAITING: u8 = 0;
const SENT: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Ticket {
    fn step(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The caller gives up; says whether the transaction is not under way and never will be.
    pub(super) fn withdraw(&self) -> bool {
        self.step(WAITING, WITHDRAWN)
    }

    fn send(&self) -> bool {
        self.step(WAITING, SENT)
    }

    /// It is certain that it was not done.
    fn take_back(&self) {
        self.step(SENT, WAITING);
    }
}

type Answer = Result<Outcome, StoreError>;

/// A transaction, and whom to tell.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) txn: Txn,
    pub(super) ticket: Arc<Ticket>,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// What an attempt to commit a batch came to.
enum Attempt {
    Done(Vec<Answer>),
    /// The fence was moved by another process, and nothing was done.
    Fenced,
}

/// The lane's state.
#[derive(Debug)]
pub(super) struct Lane {
    link: Arc<Link>,
    fence: Fence,
}

impl Lane {
    /// Takes the fence.
    pub(super) async fn start(link: Arc<Link>) -> Result<Self, OpenError> {
        let mut fence = Fence::new(&link);
        let mut last = Failure::Nonsense;
        for _ in 0..START {
            match fence.advance(&link, None).await {
                Ok(Advance::Moved | Advance::Done(_)) => return Ok(Self { link, fence }),
                // Now it is known where it is.
                Ok(Advance::Taken) => {
                    last = Failure::Fenced { writer: link.options().writer.clone() };
                }
                Err(failure) => {
                    last = failure;
                    pause().await;
                }
            }
        }
        Err(OpenError::Unreachable(last))
    }

    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut left = None;
        loop {
            let first = match left.take() {
                Some(job) => job,
                None => match jobs.recv().await {
                    Some(job) => job,
                    None => return,
                },
            };
            gather(&jobs).await;
            let mut batch = Batch::default();
            let mut next = Some(first);
            while let Some(job) = next {
                // Nobody waits for it any more, and nothing has been done yet.
                if !job.answer.is_closed()
                    && let Err(job) = batch.add(job)
                {
                    left = Some(*job);
                    break;
                }
                next = jobs.try_recv().ok();
            }
            self.commit(batch).await;
        }
    }

    /// Commits a batch and answers its callers, however long it takes.
    async fn commit(&mut self, mut batch: Batch) {
        let mut taken = 0;
        loop {
            // Until there is a connection, callers may go.
            while !batch.is_empty() && self.link.connected().await.is_err() {
                pause().await;
                batch.drop_abandoned();
            }
            batch.retain(|job| job.ticket.send());
            if batch.is_empty() {
                return;
            }
            let mark = self.fence.mark();
            match self.attempt(&batch, &mark).await {
                Ok(Attempt::Done(answers)) => return answer(batch, answers),
                Ok(Attempt::Fenced) => {
                    let writer = self.link.options().writer.clone();
                    let fenced = Failure::Fenced { writer };
                    tracing::error!(error = %fenced, "this host's fence in etcd was moved");
                    taken += 1;
                    if taken > TAKEN {
                        return answer_all(batch, &StoreError::Failed(Arc::new(fenced)));
                    }
                }
                Err((Verdict::Refused, failure)) => {
                    return self.refused(batch, &mark, failure).await;
                }
                Err((Verdict::Open, failure)) => {
                    tracing::warn!(error = %failure, "no answer from etcd; asking what was done");
                    match self.resolve(&mark).await {
                        Advance::Moved => {}
                        Advance::Done(at) => return self.reconstruct(batch, at).await,
                        Advance::Taken => {
                            return answer_all(batch, &StoreError::Unknown(Arc::new(failure)));
                        }
                    }
                }
            }
            for job in batch.jobs() {
                job.ticket.take_back();
            }
            batch.drop_abandoned();
        }
    }

    /// Sends a batch: flat if it can be, which succeeds as a whole or not at all and is what costs a
    /// server the least; if anything of it is not as hoped for, nested.
    async fn attempt(&mut self, batch: &Batch, mark: &str) -> Result<Attempt, (Verdict, Failure)> {
        let namespace = &self.link.options().namespace;
        if let Some(flat) = wire::flat(namespace, batch.jobs().iter().map(|job| &job.txn)) {
            let (mut compares, mut ops) = flat;
            compares.push(self.fence.unmoved());
            ops.push(self.fence.put(mark));
            let before = self.fence.at();
            let answer = self.send(compares, ops).await?;
            if answer.succeeded() {
                let at = head(&answer)?;
                self.fence.moved(at);
                let done = Outcome::Committed { revision: wire::revision(at) };
                return Ok(Attempt::Done(vec![Ok(done); batch.jobs().len()]));
            }
            self.fence.found(&answer).map_err(|failure| (Verdict::Open, failure))?;
            if self.fence.at() != before {
                return Ok(Attempt::Fenced);
            }
        }
        self.attempt_nested(batch, mark).await
    }

    async fn attempt_nested(
        &mut self,
        batch: &Batch,
        mark: &str,
    ) -> Result<Attempt, (Verdict, Failure)> {
        let namespace = &self.link.options().namespace;
        let real = |job: &&Job| !is_nothing(&job.txn);
        let nested = batch.jobs().iter().filter(real).map(|job| wire::nested(namespace, &job.txn));
        let ops: Vec<TxnOp> = std::iter::once(self.fence.put(mark)).chain(nested).collect();
        let answer = self.send(vec![self.fence.unmoved()], ops).await?;
        let nonsense = |failure| (Verdict::Open, failure);
        if !answer.succeeded() {
            self.fence.found(&answer).map_err(nonsense)?;
            return Ok(Attempt::Fenced);
        }
        let at = head(&answer)?;
        let mut parts = answer.op_responses().into_iter().skip(1);
        let revision = wire::revision(at);
        let namespace = &self.link.options().namespace;
        let outcomes = batch.jobs().iter().map(|job| {
            if is_nothing(&job.txn) {
                return Ok(Ok(Outcome::Committed { revision }));
            }
            match parts.next() {
                Some(TxnOpResponse::Txn(part)) => wire::outcome(namespace, &part, revision).map(Ok),
                _ => Err(Failure::Nonsense),
            }
        });
        let outcomes = outcomes.collect::<Result<Vec<Answer>, _>>().map_err(nonsense)?;
        self.fence.moved(at);
        Ok(Attempt::Done(outcomes))
    }

    /// One transaction of etcd, which tells where the fence is if it fails.
    async fn send(
        &self,
        compares: Vec<Compare>,
        ops: Vec<TxnOp>,
    ) -> Result<TxnResponse, (Verdict, Failure)> {
        let txn = EtcdTxn::new().when(compares).and_then(ops).or_else([self.fence.get()]);
        let sent = self.link.once(|mut kv| async move { kv.txn(txn).await }).await;
        sent.map_err(|(verdict, failure, _)| (verdict, failure))
    }

    /// After a refusal. A member that runs out of space refuses what it has done, once (etcd's
    /// `quotaApplierV3`); so it is looked up.
    async fn refused(&mut self, batch: Batch, mark: &str, failure: Failure) {
        match self.fence.bears(&self.link, mark).await {
            Ok(Some(at)) => self.reconstruct(batch, at).await,
            Ok(None) => {
                tracing::error!(error = %failure, "etcd refused a transaction");
                answer_all(batch, &StoreError::Failed(Arc::new(failure)));
            }
            Err(_) => answer_all(batch, &StoreError::Unknown(Arc::new(failure))),
        }
    }

    /// Finds out what became of the transaction with this mark, however long it takes: nothing else
    /// may be written before.
    async fn resolve(&mut self, mark: &str) -> Advance {
        loop {
            match self.fence.advance(&self.link, Some(mark)).await {
                Ok(advance) => return advance,
                Err(failure) => {
                    tracing::debug!(error = %failure, "cannot move the fence yet");
                    pause().await;
                }
            }
        }
    }

    /// Answers a batch that was done at `at`, of which the answer was lost: what its compares saw
    /// is what there was one revision before.
    async fn reconstruct(&self, batch: Batch, at: i64) {
        for job in batch.into_jobs() {
            let outcome = self.outcome_at(&job.txn, at).await;
            let outcome = outcome.map_err(|failure| StoreError::Unknown(Arc::new(failure)));
            // A caller that no longer waits has taken the outcome as unknown.
            let _ = job.answer.send(outcome);
        }
    }

    async fn outcome_at(&self, txn: &Txn, at: i64) -> Result<Outcome, Failure> {
        let namespace = &self.link.options().namespace;
        let revision: Revision = wire::revision(at);
        let mut found = Vec::new();
        let mut holds = true;
        for compare in txn.compares() {
            let (key, options): (_, GetOptions) = wire::look(namespace, compare);
            let read = self.link.get(&key, &options.with_revision(at - 1)).await;
            let read = read.map_err(|(failure, _)| failure)?;
            let entry = read.kvs().first().and_then(|kv| wire::entry(namespace, kv));
            holds &= compare.holds(entry.as_ref());
            found.push(entry);
        }
        Ok(if holds {
            Outcome::Committed { revision }
        } else {
            Outcome::Failed { revision, found }
        })
    }
}

/// The revision at which something was done.
fn head(answer: &TxnResponse) -> Result<i64, (Verdict, Failure)> {
    let head = answer.header().ok_or((Verdict::Open, Failure::Nonsense))?;
    Ok(head.revision())
}

fn is_nothing(txn: &Txn) -> bool {
    txn.ops().is_empty() && txn.compares().is_empty()
}

/// Lets those who are about to ask do so, as long as more and more come.
async fn gather(jobs: &mpsc::Receiver<Job>) {
    let mut waiting = jobs.len();
    for _ in 0..GATHER {
        tokio::task::yield_now().await;
        let now = jobs.len();
        if now == waiting {
            return;
        }
        waiting = now;
    }
}

fn answer(batch: Batch, answers: Vec<Answer>) {
    for (job, answer) in batch.into_jobs().into_iter().zip(answers) {
        // A caller that no longer waits has taken the outcome as unknown.
        let _ = job.answer.send(answer);
    }
}

fn answer_all(batch: Batch, error: &StoreError) {
    for job in batch.into_jobs() {
        // See `answer`.
        let _ = job.answer.send(Err(error.clone()));
    }
}
