//! The store's contents as this process sees them: fed by one scan and the watch that follows it,
//! in the store's order, and by nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use dockline_ipam_core::{
    AddressRecord, ContainerName, Holder, LAYOUT, Picture, Place, PoolKey, PoolRecord, Reservation,
    SpaceName,
};
use dockline_store::{Entry, Event, Revision};
use dockline_types::PoolCidr;
use tokio::sync::watch;

use crate::IpamError;
use crate::engine::read_record;

/// How long a change may take from the store to the picture.
const BEHIND: Duration = Duration::from_secs(5);

/// A pool's record as it was last seen.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    /// There is none.
    Absent,
    /// This one, last changed at that revision.
    Known(PoolRecord, Revision),
    /// One that cannot be read.
    Damaged,
}

/// A pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) key: PoolKey,
    state: Mutex<PoolState>,
    /// Held for reading while an address is requested, and for writing while the pool is removed,
    /// so that none is given out of a pool that goes away.
    pub(crate) gate: tokio::sync::RwLock<()>,
}

#[derive(Debug)]
pub(crate) struct PoolState {
    pub(crate) record: Record,
    pub(crate) picture: Picture,
}

impl Pool {
    fn new(key: PoolKey) -> Self {
        let picture = Picture::new(key.subnet);
        let state = Mutex::new(PoolState { record: Record::Absent, picture });
        Self { key, state, gate: tokio::sync::RwLock::new(()) }
    }

    /// The pool's state. Never held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Contents {
    pools: BTreeMap<PoolKey, Arc<Pool>>,
    /// When the pools of each space last changed.
    guards: BTreeMap<SpaceName, Revision>,
    foreign: BTreeSet<String>,
    /// The addresses that are kept for somebody.
    reserved: BTreeMap<PoolKey, BTreeMap<IpAddr, Reservation>>,
    /// The number of the layout, as it is written.
    layout: Option<String>,
}

/// What a record with a reservation has in it.
const RESERVED: &[u8] = b"\"reserved\"";

/// Foreign keys that are remembered by name, so that each is reported once.
const FOREIGN: usize = 100;

impl Contents {
    fn pool(&mut self, key: PoolKey) -> &Arc<Pool> {
        let pool = || Arc::new(Pool::new(key.clone()));
        self.pools.entry(key.clone()).or_insert_with(pool)
    }

    fn put(&mut self, entry: &Entry) {
        match Place::read(entry.key.as_bytes()) {
            Some(Place::Layout) => self.layout = Some(entry.value.to_string()),
            Some(Place::Space(space)) => {
                self.guards.insert(space, entry.mod_revision);
            }
            Some(Place::Pool(key)) => {
                let record = match read_record(entry) {
                    Ok(record) => Record::Known(record, entry.mod_revision),
                    Err(error) => {
                        tracing::error!(pool = %key, %error, "cannot read the pool's record");
                        Record::Damaged
                    }
                };
                self.pool(key).state().record = record;
            }
            Some(Place::Address(key, address)) => {
                self.pool(key.clone()).state().picture.hold(address);
                self.reserve(&key, address, entry);
            }
            None => self.report(entry.key.to_string()),
        }
    }

    /// Remembers for whom an address is kept, if it is.
    fn reserve(&mut self, pool: &PoolKey, address: IpAddr, entry: &Entry) {
        // Hardly any is, and reading a million records to learn so takes seconds.
        let bytes = entry.value.as_bytes();
        let mentioned = bytes.windows(RESERVED.len()).any(|window| window == RESERVED);
        let record = mentioned.then(|| read_record::<AddressRecord>(entry).ok()).flatten();
        match record.and_then(|record| record.reserved) {
            Some(reservation) => {
                let pool = self.reserved.entry(pool.clone()).or_default();
                pool.insert(address, reservation);
            }
            None => self.forget_reservation(pool, address),
        }
    }

    fn forget_reservation(&mut self, pool: &PoolKey, address: IpAddr) {
        if let Some(reserved) = self.reserved.get_mut(pool) {
            reserved.remove(&address);
            if reserved.is_empty() {
                self.reserved.remove(pool);
            }
        }
    }

    fn report(&mut self, key: String) {
        if self.foreign.len() < FOREIGN && !self.foreign.contains(&key) {
            tracing::warn!(key, "a key in the store is not ours; it is left alone");
            self.foreign.insert(key);
        }
    }

    fn delete(&mut self, key: &[u8], rest_until: Option<u64>) {
        match Place::read(key) {
            Some(Place::Space(space)) => {
                self.guards.remove(&space);
            }
            Some(Place::Pool(key)) => self.pool(key).state().record = Record::Absent,
            Some(Place::Address(key, address)) => {
                self.forget_reservation(&key, address);
                self.pool(key).state().picture.release(address, rest_until);
            }
            Some(Place::Layout) | None => {}
        }
    }

    /// All has been told up to this revision.
    fn told(&mut self, revision: Revision) {
        self.pools.retain(|_, pool| {
            let mut state = pool.state();
            state.picture.told_up_to(revision.0);
            let empty = state.picture.held() == 0 && !state.picture.is_claiming();
            !(empty && matches!(state.record, Record::Absent))
        });
    }
}

/// The store's contents as this process sees them.
#[derive(Debug)]
pub(crate) struct View {
    contents: RwLock<Contents>,
    told: watch::Sender<Revision>,
    /// How long a released address rests.
    rest: Duration,
    started: Instant,
}

/// What a scan has found so far.
#[derive(Debug, Default)]
pub(crate) struct Found(Contents);

impl Found {
    /// Takes in a page. Only what it means is kept, so that a million entries need little room.
    pub(crate) fn add(&mut self, entries: &[Entry]) {
        entries.iter().for_each(|entry| self.0.put(entry));
    }
}

/// The pools of a space, for the decision about a new one.
#[derive(Debug)]
pub(crate) struct Space {
    /// The revision of the space's guard; `None` if the space has none yet.
    pub(crate) guard: Option<Revision>,
    /// The subnets of its pools.
    pub(crate) pools: Vec<PoolCidr>,
}

impl View {
    pub(crate) fn new(rest: Duration) -> Self {
        let (contents, told) = (RwLock::default(), watch::Sender::default());
        Self { contents, told, rest, started: Instant::now() }
    }

    /// The clock of the pictures, in seconds.
    pub(crate) fn now(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    fn read<T>(&self, look: impl FnOnce(&Contents) -> T) -> T {
        look(&self.contents.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut Contents)) {
        change(&mut self.contents.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes over all that a scan found at `revision`.
    pub(crate) fn replace(&self, fresh: Found, revision: Revision) {
        let mut fresh = fresh.0;
        self.write(|contents| {
            contents.guards = fresh.guards;
            contents.layout = fresh.layout;
            contents.reserved = fresh.reserved;
            contents.foreign.append(&mut fresh.foreign);
            for (key, pool) in &contents.pools {
                let (record, picture) = match fresh.pools.remove(key) {
                    Some(found) => {
                        let mut found = found.state();
                        let picture =
                            std::mem::replace(&mut found.picture, Picture::new(key.subnet));
                        (found.record.clone(), picture)
                    }
                    None => (Record::Absent, Picture::new(key.subnet)),
                };
                let mut state = pool.state();
                state.record = record;
                state.picture.replace_held(picture);
            }
            contents.pools.append(&mut fresh.pools);
            contents.told(revision);
        });
        self.told.send_replace(revision);
    }

    /// Takes over what a watch told.
    pub(crate) fn apply(&self, events: &[Event], revision: Revision) {
        let rest = self.rest.as_secs();
        let rest_until = (rest > 0).then(|| self.now() + rest);
        self.write(|contents| {
            for event in events {
                match event {
                    Event::Put(entry) => contents.put(entry),
                    Event::Delete { key, .. } => contents.delete(key.as_bytes(), rest_until),
                }
            }
            contents.told(revision);
        });
        self.told.send_replace(revision);
    }

    /// Waits until all changes up to `revision` are in here.
    pub(crate) async fn wait(&self, revision: Revision) -> Result<(), IpamError> {
        let mut told = self.told.subscribe();
        match tokio::time::timeout(BEHIND, told.wait_for(|told| *told >= revision)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(IpamError::Behind),
        }
    }

    /// A pool that has a record, a claim or an address.
    pub(crate) fn pool(&self, key: &PoolKey) -> Option<Arc<Pool>> {
        self.read(|contents| contents.pools.get(key).cloned())
    }

    /// The record of a pool.
    pub(crate) fn record(&self, key: &PoolKey) -> Record {
        self.pool(key).map_or(Record::Absent, |pool| pool.state().record.clone())
    }

    /// The address of a pool that is kept for a container.
    pub(crate) fn reserved_for(&self, pool: &PoolKey, holder: &Holder) -> Option<IpAddr> {
        self.read(|contents| {
            let mut reserved = contents.reserved.get(pool)?.iter();
            reserved.find(|(_, reservation)| reservation.is_for(holder)).map(|(ip, _)| *ip)
        })
    }

    /// How many addresses of a pool are kept for somebody.
    pub(crate) fn reservations(&self, pool: &PoolKey) -> u64 {
        let count = |kept: &BTreeMap<_, _>| u64::try_from(kept.len()).unwrap_or(u64::MAX);
        self.read(|contents| contents.reserved.get(pool).map_or(0, count))
    }

    /// The pools that have a record, a claim or an address.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        self.read(|contents| contents.pools.values().cloned().collect())
    }

    /// The reservation of this name in a pool.
    pub(crate) fn reservation(
        &self,
        pool: &PoolKey,
        name: &ContainerName,
    ) -> Option<(IpAddr, Reservation)> {
        self.read(|contents| {
            let mut reserved = contents.reserved.get(pool)?.iter();
            let found = reserved.find(|(_, reservation)| reservation.name == *name)?;
            Some((*found.0, found.1.clone()))
        })
    }

    /// The pools of a space.
    pub(crate) fn space(&self, space: &SpaceName) -> Space {
        self.read(|contents| Space {
            guard: contents.guards.get(space).copied(),
            pools: existing(contents).filter(|key| key.space == *space).map(cidr).collect(),
        })
    }

    /// The subnets of all pools of all spaces.
    pub(crate) fn all_pools(&self) -> Vec<PoolCidr> {
        self.read(|contents| existing(contents).map(cidr).collect())
    }

    /// How many addresses are held in each pool.
    pub(crate) fn held(&self) -> Vec<(PoolKey, u64)> {
        self.read(|contents| {
            let count = |pool: &Arc<Pool>| pool.state().picture.held();
            contents.pools.iter().map(|(key, pool)| (key.clone(), count(pool))).collect()
        })
    }

    /// The layout of a newer version, if one has taken over the store meanwhile.
    pub(crate) fn newer_layout(&self) -> Option<String> {
        self.read(|contents| {
            let newer = |text: &String| !text.parse().is_ok_and(|layout: u32| layout <= LAYOUT);
            contents.layout.as_ref().filter(|text| newer(text)).cloned()
        })
    }

    /// How many keys were found that are not ours.
    pub(crate) fn foreign(&self) -> usize {
        self.read(|contents| contents.foreign.len())
    }
}

fn cidr(key: &PoolKey) -> PoolCidr {
    key.subnet.cidr()
}

/// The pools that have a record, readable or not.
fn existing(contents: &Contents) -> impl Iterator<Item = &PoolKey> {
    let exists = |pool: &Pool| !matches!(pool.state().record, Record::Absent);
    contents.pools.iter().filter(move |(_, pool)| exists(pool)).map(|(key, _)| key)
}
