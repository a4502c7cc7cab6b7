//! Pools and addresses on a store.
//!
//! Every change is one guarded transaction. What to write is decided on the view; whether it still
//! holds is decided by the store, and a refused transaction is decided anew.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dockline_ipam_core::{
    AddressRecord, DefaultPool, HostName, LAYOUT, Nonce, Place, PoolKey, PoolRecord,
};
use dockline_store::{Compare, Entry, Key, Op, Outcome, Revision, Store, StoreError, Txn, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::AbortHandle;

use crate::doubts::Doubts;
use crate::view::View;
use crate::{IpamError, follow};

/// How often a decision is made anew because others changed what it was made on.
pub(crate) const TRIES: usize = 64;

/// How often a write of unknown outcome is repeated to find out.
const PROBES: usize = 2;

/// What the engine is told about its host.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The host whose containers get the addresses.
    pub host: HostName,
    /// Where pools come from if a network names none.
    pub defaults: Vec<DefaultPool>,
    /// Whether other hosts share the store: each then begins elsewhere in a pool.
    pub spread: bool,
    /// How long an address that was released rests, unless no other is free.
    pub rest: Duration,
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It did not answer.
    #[error("the store does not answer")]
    Store(#[from] StoreError),
    /// A newer version wrote it.
    #[error(
        "the store has layout {found}, and this version knows none above {LAYOUT}: it is used by a \
         newer Dockline; run that version here too"
    )]
    Newer {
        /// The layout found.
        found: String,
    },
    /// A constant is beyond the store's limits.
    #[error("the store's limits are too low")]
    Limit(#[from] dockline_store::LimitError),
}

/// Pools and addresses on a store, for one host.
#[derive(Debug)]
pub struct Engine<S> {
    pub(crate) store: Arc<S>,
    pub(crate) view: Arc<View>,
    pub(crate) settings: Settings,
    /// A random number of this process, and how many writes it has made.
    process: u64,
    writes: AtomicU64,
    pub(crate) doubts: Doubts,
    follower: AbortHandle,
}

impl<S> Drop for Engine<S> {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// What became of a guarded write.
#[derive(Debug)]
pub(crate) enum Written {
    /// It is done.
    Done(Revision),
    /// Something was not as expected: what there is instead, for each compare.
    Refused { revision: Revision, found: Vec<Option<Entry>> },
}

/// How a write that may have been done earlier is recognised by what is under the key of its first
/// compare.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark<'a> {
    /// By this host's nonce there.
    Nonce(&'a Nonce),
    /// By nothing: what was done before looks like what another did.
    Unmarked,
    /// The key is gone. That it was another who removed it makes no difference.
    Gone,
}

/// The last write of a host that is in an entry.
pub(crate) fn nonce_in(entry: &Entry, host: &HostName) -> Option<Nonce> {
    match Place::read(entry.key.as_bytes())? {
        Place::Pool(_) => read_record::<PoolRecord>(entry).ok()?.nonce_of(host).cloned(),
        Place::Address(..) => {
            read_record::<AddressRecord>(entry).ok()?.holder.nonce_of(host).cloned()
        }
        Place::Layout | Place::Space(_) => None,
    }
}

impl Mark<'_> {
    fn is_on(self, found: &[Option<Entry>], host: &HostName) -> bool {
        match (self, found.first()) {
            (Self::Gone, Some(None)) => true,
            (Self::Nonce(nonce), Some(Some(entry))) => {
                nonce_in(entry, host).is_some_and(|found| found == *nonce)
            }
            _ => false,
        }
    }
}

/// Reads the record of an entry.
pub(crate) fn read_record<T: DeserializeOwned>(entry: &Entry) -> Result<T, IpamError> {
    serde_json::from_slice(entry.value.as_bytes())
        .map_err(|source| IpamError::Damaged { key: entry.key.to_string(), source })
}

pub(crate) fn write_record(record: &impl Serialize) -> Result<Value, IpamError> {
    Ok(Value::new(serde_json::to_vec(record).map_err(IpamError::Encode)?)?)
}

pub(crate) fn key(place: &Place) -> Result<Key, IpamError> {
    Ok(Key::new(place.to_string())?)
}

pub(crate) fn pool_key(pool: &PoolKey) -> Result<Key, IpamError> {
    key(&Place::Pool(pool.clone()))
}

impl<S: Store> Engine<S> {
    /// Reads the store and follows it from then on.
    pub async fn start(store: S, settings: Settings) -> Result<Self, StartError> {
        let store = Arc::new(store);
        check_layout(&*store).await?;
        let view = Arc::new(View::new(settings.rest));
        let revision = follow::load(&*store, &view).await?;
        let follower =
            tokio::spawn(follow::follow(Arc::clone(&store), Arc::clone(&view), revision));
        let process = RandomState::new().hash_one(std::process::id());
        let follower = follower.abort_handle();
        let (writes, doubts) = (AtomicU64::new(0), Doubts::default());
        Ok(Self { store, view, settings, process, writes, doubts, follower })
    }

    /// Brings the view up to what the store has now.
    pub(crate) async fn catch_up(&self) -> Result<(), IpamError> {
        let revision = self.store.revision().await?;
        self.view.wait(revision).await
    }

    /// Where this host begins to choose in a pool.
    pub(crate) fn start_in_pool(&self) -> u64 {
        // The same for a host each time, so that a restart does not begin elsewhere.
        let spread = self.settings.spread.then(|| self.settings.host.as_str().bytes());
        spread.map_or(0, |bytes| {
            bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
        })
    }

    /// A number that differs each time and from host to host.
    pub(crate) fn random(&self) -> u64 {
        RandomState::new().hash_one(self.writes.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn nonce(&self) -> Nonce {
        Nonce::new(self.process, self.writes.fetch_add(1, Ordering::Relaxed))
    }

    /// Does a guarded write. One whose outcome is unknown is done again: either it is done now, or
    /// the mark tells that it was done before.
    pub(crate) async fn write(&self, txn: Txn, mark: Mark<'_>) -> Result<Written, IpamError> {
        if let Some(found) = self.view.newer_layout() {
            return Err(IpamError::Newer(StartError::Newer { found }));
        }
        let mut unknown = None;
        for _ in 0..=PROBES {
            match self.store.txn(txn.clone()).await {
                Ok(Outcome::Committed { revision }) => return Ok(Written::Done(revision)),
                Ok(Outcome::Failed { revision, found }) => {
                    let done = unknown.is_some() && mark.is_on(&found, &self.settings.host);
                    return Ok(if done {
                        tracing::info!("a write of unknown outcome had been done");
                        Written::Done(revision)
                    } else {
                        Written::Refused { revision, found }
                    });
                }
                Err(error @ StoreError::Unknown(_)) => {
                    tracing::warn!(%error, "a write has no known outcome; asking again");
                    unknown = Some(error);
                }
                // That the second try failed says nothing about the first.
                Err(error) => return Err(unknown.unwrap_or(error).into()),
            }
        }
        Err(unknown.map_or(IpamError::Behind, IpamError::from))
    }
}

/// Refuses a store of a newer version, and marks a new one as ours.
async fn check_layout<S: Store>(store: &S) -> Result<(), StartError> {
    let place = Key::new(Place::Layout.to_string())?;
    let ours = Value::new(LAYOUT.to_string())?;
    let absent = Compare::Absent(place.clone());
    let txn = Txn::new(vec![absent], vec![Op::Put(place, ours)])?;
    let Outcome::Failed { found, .. } = store.txn(txn).await? else { return Ok(()) };
    let entry = found.into_iter().next().flatten();
    let found = entry.map(|entry| entry.value.to_string()).unwrap_or_default();
    match found.parse::<u32>() {
        Ok(layout) if layout <= LAYOUT => Ok(()),
        Ok(_) | Err(_) => Err(StartError::Newer { found }),
    }
}
