//! A store that is shared by several hosts and loses requests and answers when told to.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use dockline_ipam::driver::Driver;
use dockline_ipam::opening::Opening;
use dockline_store::embedded::{Embedded, EmbeddedScan, EmbeddedWatch};
use dockline_store::{
    Entry, Key, Op, Outcome, Prefix, Revision, Scan, Store, StoreError, Txn, Value,
};

use super::{Host, settings};

/// What happens to a transaction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// It is done, and its answer lost.
    AnswerLost,
    /// It never arrives; nobody can tell.
    RequestLost,
    /// It is refused: certainly not done.
    Refused,
}

/// A store that several hosts share, each with faults of its own.
#[derive(Debug, Clone)]
pub(crate) struct Flaky {
    store: Arc<Embedded>,
    plan: Arc<Mutex<VecDeque<Option<Fault>>>>,
    pub(crate) txns: Arc<Mutex<usize>>,
}

#[derive(Debug, thiserror::Error)]
#[error("as planned")]
struct Planned;

impl Flaky {
    pub(crate) fn open(folder: PathBuf) -> Self {
        Self::over(Arc::new(Embedded::open(folder.join("ipam.redb")).unwrap()))
    }

    fn over(store: Arc<Embedded>) -> Self {
        Self { store, plan: Arc::default(), txns: Arc::default() }
    }

    /// A host on this store.
    pub(crate) fn host(&self, name: &str) -> Host<Flaky> {
        let store = self.clone();
        let open = move || {
            let store = store.clone();
            async move { Ok::<_, std::io::Error>(store) }
        };
        Host(Driver::new(Arc::new(Opening::start(settings(name), "test".into(), open))))
    }

    /// The same store without the faults.
    pub(crate) fn sound(&self) -> Self {
        Self::over(Arc::clone(&self.store))
    }

    /// The fault comes after so many transactions, and so many times in a row.
    pub(crate) fn plan(&self, after: usize, fault: Fault, times: usize) {
        let mut plan = self.plan.lock().unwrap();
        plan.clear();
        plan.extend(std::iter::repeat_n(None, after));
        plan.extend(std::iter::repeat_n(Some(fault), times));
    }

    /// Whether all faults have happened.
    pub(crate) fn is_over(&self) -> bool {
        self.plan.lock().unwrap().is_empty()
    }

    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        let mut scan = self.store.scan(Prefix::new(prefix).unwrap(), 100);
        let mut keys = Vec::new();
        while let Some(page) = scan.next().await.unwrap() {
            keys.extend(page.entries.iter().map(|entry| entry.key.to_string()));
        }
        keys
    }

    /// Many changes, of no interest to anyone.
    pub(crate) async fn fill(&self, round: u32) {
        let put = |at: u32| {
            Op::Put(
                Key::new(format!("other/{at}")).unwrap(),
                Value::new(round.to_string()).unwrap(),
            )
        };
        self.store.txn(Txn::new(vec![], (0..100).map(put).collect()).unwrap()).await.unwrap();
    }

    pub(crate) async fn put(&self, key: &str, value: &str) {
        let put = Op::Put(Key::new(key).unwrap(), Value::new(value).unwrap());
        self.store.txn(Txn::new(vec![], vec![put]).unwrap()).await.unwrap();
    }
}

impl Store for Flaky {
    type Scan = EmbeddedScan;
    type Watch = EmbeddedWatch;

    async fn get(&self, key: Key) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        *self.txns.lock().unwrap() += 1;
        let fault = self.plan.lock().unwrap().pop_front().flatten();
        match fault {
            None => self.store.txn(txn).await,
            Some(Fault::AnswerLost) => {
                self.store.txn(txn).await?;
                Err(StoreError::Unknown(Arc::new(Planned)))
            }
            Some(Fault::RequestLost) => Err(StoreError::Unknown(Arc::new(Planned))),
            Some(Fault::Refused) => Err(StoreError::Failed(Arc::new(Planned))),
        }
    }

    fn scan(&self, prefix: Prefix, page: usize) -> EmbeddedScan {
        self.store.scan(prefix, page)
    }

    fn watch(&self, prefix: Prefix, after: Revision) -> EmbeddedWatch {
        self.store.watch(prefix, after)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.store.revision().await
    }
}
