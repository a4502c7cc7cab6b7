//! The store on an etcd cluster, for suites of many hosts.
//!
//! All transactions of a process go through one task, the [`lane`], which puts what many callers
//! ask for at once into one transaction of etcd (group commit) and has only one of those under way
//! at a time. Each also compares and rewrites a key of this writer alone, its fence. So a
//! transaction whose answer was lost is never guessed about: the fence says whether it was done,
//! and once the fence has moved on it cannot be done any more, not even by a server that held it
//! back, nor on behalf of a process that was killed.
//!
//! | etcd's key | what it is |
//! |---|---|
//! | `<namespace>.keyspace` | the number of this arrangement of keys |
//! | `<namespace>.fence/<writer>` | the fence of each writer |
//! | `<namespace>/<key>` | the entries |
//!
//! A watch follows the fences too: every revision that this store hands out changed one, so that
//! watches get there without asking etcd for its progress, which 3.4 before 3.4.25 and 3.5 before
//! 3.5.8 may tell ahead of the events (etcd issue 15220).

mod batch;
mod error;
mod fence;
mod lane;
mod link;
mod options;
mod reads;
mod watch;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, Txn as EtcdTxn, TxnOp, TxnOpResponse};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

pub use error::{Failure, OpenError};
pub use options::{EtcdOptions, Namespace, NamespaceError, Tls, User};
pub use reads::EtcdScan;
pub use watch::EtcdWatch;

use lane::{Job, Lane, Ticket};
use link::Link;

use crate::{Entry, Key, Outcome, Prefix, Revision, Store, StoreError, Txn};

/// The number of this arrangement of keys. A keyspace with a higher one belongs to a newer version.
pub const KEYSPACE: u32 = 1;

/// How long a caller waits. A cluster elects a new leader within two or three seconds.
const DEADLINE: Duration = Duration::from_secs(6);

/// How long a caller waits while the cluster has been out of reach for a while already.
const SHORT: Duration = Duration::from_secs(1);

/// How many transactions may wait for the lane; further callers wait to get in line.
const QUEUE: usize = 4096;

/// The store on an etcd cluster. Dropping it ends its connections.
#[derive(Debug)]
pub struct Etcd {
    link: Arc<Link>,
    queue: mpsc::Sender<Job>,
    lane: AbortHandle,
}

impl Etcd {
    /// Connects to the cluster, checks that the keyspace is one that this version knows, and takes
    /// this writer's fence: from then on nothing that an earlier process of the same name sent can
    /// be done.
    pub async fn open(options: EtcdOptions) -> Result<Self, OpenError> {
        let link = Arc::new(Link::new(options));
        check_keyspace(&link).await?;
        let lane = Lane::start(Arc::clone(&link)).await?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let lane = tokio::spawn(lane.run(jobs)).abort_handle();
        Ok(Self { link, queue, lane })
    }

    async fn send(&self, txn: Txn) -> Result<Outcome, StoreError> {
        let patience = if self.link.is_in_trouble() { SHORT } else { DEADLINE };
        let (answer, answered) = oneshot::channel();
        let ticket = Arc::new(Ticket::default());
        let place = tokio::time::timeout(patience, self.queue.reserve()).await;
        let place = place.map_err(|_| self.link.unavailable())?;
        let place = place.map_err(|_| StoreError::unavailable(Failure::Closed))?;
        place.send(Job { txn, ticket: Arc::clone(&ticket), answer });
        let answer = tokio::time::timeout(patience, answered).await;
        match answer {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) if ticket.withdraw() => Err(self.link.unavailable()),
            Ok(Err(_)) | Err(_) => Err(StoreError::Unknown(self.link.cause())),
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.lane.abort();
        self.link.close();
    }
}

/// Refuses a keyspace of a newer version, and marks a new one as ours.
async fn check_keyspace(link: &Link) -> Result<(), OpenError> {
    let key = link.options().namespace.keyspace();
    let absent = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
    let put = TxnOp::put(key.clone(), KEYSPACE.to_string(), None);
    let get = TxnOp::get(key.clone(), None);
    let txn = EtcdTxn::new().when([absent]).and_then([put]).or_else([get]);
    let answer = link.txn(txn).await.map_err(OpenError::Unreachable)?;
    if answer.succeeded() {
        return Ok(());
    }
    let found = answer.op_responses().into_iter().next();
    let found = match &found {
        Some(TxnOpResponse::Get(get)) => get.kvs().first().map(|kv| kv.value().to_vec()),
        _ => None,
    };
    let found = String::from_utf8_lossy(&found.unwrap_or_default()).into_owned();
    match found.parse::<u32>() {
        Ok(number) if number <= KEYSPACE => Ok(()),
        Ok(_) | Err(_) => {
            Err(OpenError::Newer { key: String::from_utf8_lossy(&key).into_owned(), found })
        }
    }
}

impl Store for Etcd {
    type Scan = EtcdScan;
    type Watch = EtcdWatch;

    async fn get(&self, key: Key) -> Result<Option<Entry>, StoreError> {
        reads::get(&self.link, &key).await
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        self.send(txn).await
    }

    fn scan(&self, prefix: Prefix, page: usize) -> EtcdScan {
        EtcdScan::new(Arc::clone(&self.link), prefix, page)
    }

    fn watch(&self, prefix: Prefix, after: Revision) -> EtcdWatch {
        EtcdWatch::new(Arc::clone(&self.link), prefix, after)
    }

    /// A revision of this writer's fence: one that every watch is told of.
    async fn revision(&self) -> Result<Revision, StoreError> {
        match self.send(Txn::nothing()).await? {
            Outcome::Committed { revision } | Outcome::Failed { revision, .. } => Ok(revision),
        }
    }
}
