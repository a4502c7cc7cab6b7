//! Transactions of many callers that are committed together.

use std::collections::HashSet;

use super::lane::Job;
use crate::{Compare, Key, MAX_TXN_OPS, Op};

/// The most bytes of keys and values: what a failed compare reads back is named once more, and
/// etcd takes 1.5 MiB.
const BYTES: usize = 1 << 20;

/// Jobs that have nothing to do with one another: what one writes, no other looks at or writes. So
/// it makes no difference that etcd evaluates the compares of all before it does any.
#[derive(Debug, Default)]
pub(super) struct Batch {
    jobs: Vec<Job>,
    written: HashSet<Key>,
    /// Most look at the same: the record of their pool.
    looked_at: HashSet<Key>,
    /// The compares that are about a range.
    ranges: Vec<Compare>,
    bytes: usize,
    /// The most compares or operations of one job.
    widest: usize,
}

impl Batch {
    /// Adds a job, or gives it back if it must wait for the next batch.
    pub(super) fn add(&mut self, job: Job) -> Result<(), Box<Job>> {
        let (compares, ops) = (job.txn.compares(), job.txn.ops());
        let widest = self.widest.max(compares.len()).max(ops.len());
        let bytes = self.bytes + 3 * job.txn.bytes().min(BYTES / 3);
        let fits = self.jobs.len() + widest <= MAX_TXN_OPS && bytes <= BYTES;
        let alone = self.jobs.is_empty();
        if !alone && (!fits || !self.is_apart(&job)) {
            return Err(Box::new(job));
        }
        self.written.extend(ops.iter().map(|op| op.key().clone()));
        for compare in compares {
            match compare {
                Compare::NoneUnder(_) => self.ranges.push(compare.clone()),
                _ if self.looked_at.contains(compare.key()) => {}
                _ => drop(self.looked_at.insert(compare.key().clone())),
            }
        }
        (self.bytes, self.widest) = (bytes, widest);
        self.jobs.push(job);
        Ok(())
    }

    fn is_apart(&self, job: &Job) -> bool {
        let mut written = job.txn.ops().iter().map(Op::key);
        let mut compares = job.txn.compares().iter();
        written.all(|key| {
            !self.written.contains(key)
                && !self.looked_at.contains(key)
                && !self.ranges.iter().any(|range| range.is_about(key))
        }) && compares.all(|compare| match compare {
            Compare::NoneUnder(_) => !self.written.iter().any(|key| compare.is_about(key)),
            _ => !self.written.contains(compare.key()),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// Leaves only the jobs that `keep` wants to.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Job) -> bool) {
        self.jobs.retain(keep);
    }

    /// Leaves only the jobs for which somebody still waits.
    pub(super) fn drop_abandoned(&mut self) {
        self.jobs.retain(|job| !job.answer.is_closed());
    }

    pub(super) fn into_jobs(self) -> Vec<Job> {
        self.jobs
    }
}
