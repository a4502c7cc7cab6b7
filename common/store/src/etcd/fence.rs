//! A writer's fence: a key that each of its transactions compares and rewrites.

use std::hash::{BuildHasher, RandomState};

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse, TxnResponse};

use super::error::Failure;
use super::link::Link;

/// What became of a transaction that was in doubt, and of the fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advance {
    /// The fence has moved on: what was in doubt was not done, and never will be.
    Moved,
    /// It was done, at this revision.
    Done(i64),
    /// Another process has moved the fence since. What was in doubt will not be done any more, but
    /// may have been.
    Taken,
}

/// The fence as last seen.
#[derive(Debug)]
pub(super) struct Fence {
    key: Vec<u8>,
    /// What this process's marks begin with.
    process: String,
    marks: u64,
    /// When it was last written; 0 if it is not there.
    at: i64,
}

impl Fence {
    pub(super) fn new(link: &Link) -> Self {
        let random = RandomState::new().hash_one(std::process::id());
        let options = link.options();
        let key = options.namespace.fence(&options.writer);
        Self { key, process: format!("{random:016x}-"), marks: 0, at: 0 }
    }

    /// A mark that was never used.
    pub(super) fn mark(&mut self) -> String {
        self.marks += 1;
        format!("{}{}", self.process, self.marks)
    }

    /// The condition that nobody has moved it.
    pub(super) fn unmoved(&self) -> Compare {
        Compare::mod_revision(self.key.clone(), CompareOp::Equal, self.at)
    }

    pub(super) fn put(&self, mark: &str) -> TxnOp {
        TxnOp::put(self.key.clone(), mark, None)
    }

    pub(super) fn get(&self) -> TxnOp {
        TxnOp::get(self.key.clone(), None)
    }

    /// When it was last written.
    pub(super) fn at(&self) -> i64 {
        self.at
    }

    /// It was written at this revision.
    pub(super) fn moved(&mut self, at: i64) {
        self.at = at;
    }

    /// Takes over what a [`Self::get`] found; the mark that is on it.
    pub(super) fn found(&mut self, answer: &TxnResponse) -> Result<String, Failure> {
        match answer.op_responses().first() {
            Some(TxnOpResponse::Get(get)) => Ok(self.seen(get.kvs().first())),
            _ => Err(Failure::Nonsense),
        }
    }

    fn seen(&mut self, kv: Option<&etcd_client::KeyValue>) -> String {
        self.at = kv.map_or(0, etcd_client::KeyValue::mod_revision);
        kv.map_or_else(String::new, |kv| String::from_utf8_lossy(kv.value()).into_owned())
    }

    /// Moves the fence on, which decides about a transaction in doubt with this mark. On failure
    /// nothing is known; call it again.
    pub(super) async fn advance(
        &mut self,
        link: &Link,
        in_doubt: Option<&str>,
    ) -> Result<Advance, Failure> {
        let mark = self.mark();
        let txn = Txn::new().when([self.unmoved()]).and_then([self.put(&mark)]);
        let txn = txn.or_else([self.get()]);
        let answer = link.once(|mut kv| async move { kv.txn(txn).await }).await;
        let answer = answer.map_err(|(_, failure, _)| failure)?;
        if answer.succeeded() {
            self.at = answer.header().ok_or(Failure::Nonsense)?.revision();
            return Ok(Advance::Moved);
        }
        let found = self.found(&answer)?;
        Ok(if in_doubt == Some(found.as_str()) {
            Advance::Done(self.at)
        } else if found.starts_with(&self.process) {
            // An earlier attempt to move it, of which nothing was heard.
            Advance::Moved
        } else {
            Advance::Taken
        })
    }

    /// Whether the mark is on the fence, and since which revision.
    pub(super) async fn bears(&mut self, link: &Link, mark: &str) -> Result<Option<i64>, Failure> {
        let options = etcd_client::GetOptions::new();
        let answer = link.get(&self.key, &options).await.map_err(|(failure, _)| failure)?;
        let found = self.seen(answer.kvs().first());
        Ok((found == mark).then_some(self.at))
    }
}
