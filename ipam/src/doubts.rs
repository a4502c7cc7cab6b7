//! Writes whose outcome is unknown and that Docker was told have failed, until it is known and made
//! good.
//!
//! Docker neither gives back what it was told it did not get, nor repeats a release that failed.
//! So whatever still bears the nonce of such a write is released: by whoever next touches the key
//! on this host, before anything else is done with it, or else by a task that keeps looking.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dockline_ipam_core::{AddressRecord, Nonce, Place, PoolKey, PoolRecord};
use dockline_store::{Compare, Entry, Key, Outcome, Store, Txn};
use tokio::sync::Mutex;

use crate::IpamError;
use crate::engine::{Engine, TRIES, key, nonce_in, read_record, write_record};

/// How long to wait between two looks, and how many there are: ten minutes.
const LOOK: Duration = Duration::from_secs(1);
const LOOKS: usize = 600;

/// The keys in doubt, each with the nonce that is to be released.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// How many there are, so that nobody waits for the lock while there are none.
    count: AtomicUsize,
    nonces: Mutex<BTreeMap<Key, Nonce>>,
}

impl<S: Store> Engine<S> {
    /// What bears this nonce under this key is to be released.
    pub(crate) async fn doubt(self: &Arc<Self>, place: &Place, nonce: Nonce) {
        let Ok(in_doubt) = key(place) else { return };
        let mut nonces = self.doubts.nonces.lock().await;
        nonces.insert(in_doubt.clone(), nonce);
        self.doubts.count.store(nonces.len(), Ordering::Release);
        drop(nonces);
        let pool = match place {
            Place::Pool(pool) | Place::Address(pool, _) => Some(pool.clone()),
            Place::Layout | Place::Space(_) => None,
        };
        tokio::spawn(Arc::clone(self).keep_looking(in_doubt, pool));
    }

    async fn keep_looking(self: Arc<Self>, in_doubt: Key, pool: Option<PoolKey>) {
        let mut tick = tokio::time::interval(LOOK);
        for _ in 0..LOOKS {
            tick.tick().await;
            if self.settle(&in_doubt).await.is_err() {
                continue;
            }
            let Some(pool) = &pool else { return };
            // It may have been the last that kept its pool.
            if self.remove_if_unused(pool).await.is_ok() {
                return;
            }
        }
        tracing::error!(key = %in_doubt, "could not find out whether a write was done");
    }

    /// Makes good what is in doubt about a key; an error if that is not possible yet.
    pub(crate) async fn settle(&self, place: &Key) -> Result<(), IpamError> {
        if self.doubts.count.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let mut nonces = self.doubts.nonces.lock().await;
        let Some(nonce) = nonces.get(place) else { return Ok(()) };
        let mut settled = false;
        for _ in 0..TRIES {
            settled = self.release_marked(place, nonce).await?;
            if settled {
                break;
            }
        }
        if !settled {
            return Err(IpamError::Busy { what: format!("the key {place}") });
        }
        nonces.remove(place);
        self.doubts.count.store(nonces.len(), Ordering::Release);
        Ok(())
    }

    /// Releases what bears the nonce, if it is there; says whether that is settled.
    async fn release_marked(&self, place: &Key, nonce: &Nonce) -> Result<bool, IpamError> {
        // A transaction and not a read: it waits in line behind the write in doubt.
        let look = Txn::new(vec![Compare::Absent(place.clone())], vec![])?;
        let Outcome::Failed { found, .. } = self.store.txn(look).await? else { return Ok(true) };
        let Some(entry) = found.into_iter().next().flatten() else { return Ok(false) };
        if nonce_in(&entry, &self.settings.host).is_none_or(|found| found != *nonce) {
            return Ok(true);
        }
        let Some(release) = self.release_of(&entry)? else { return Ok(true) };
        let done = matches!(self.store.txn(release).await?, Outcome::Committed { .. });
        if done {
            tracing::info!(key = %place, "released what a failed request had left");
        }
        Ok(done)
    }

    fn release_of(&self, entry: &Entry) -> Result<Option<Txn>, IpamError> {
        let (host, nonce) = (&self.settings.host, self.nonce());
        Ok(match Place::read(entry.key.as_bytes()) {
            Some(Place::Pool(_)) => {
                let mut record: PoolRecord = read_record(entry)?;
                record.take(host, &nonce);
                Some(Txn::replace(entry, write_record(&record)?))
            }
            Some(Place::Address(..)) => {
                let found: AddressRecord = read_record(entry)?;
                match found.without(host, &nonce) {
                    Ok(None) => Some(Txn::remove(entry)),
                    Ok(Some(record)) => Some(Txn::replace(entry, write_record(&record)?)),
                    Err(_) => None,
                }
            }
            Some(Place::Layout | Place::Space(_)) | None => None,
        })
    }
}
