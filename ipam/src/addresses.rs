//! Requesting and releasing addresses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use dockline_ipam_core::{AddressRecord, Holder, Place, PoolId, PoolKey, PoolRecord};
use dockline_store::{Compare, Entry, Key, Op, Revision, Store, Txn};
use tokio::sync::RwLockReadGuard;

use crate::IpamError;
use crate::engine::{Engine, Mark, TRIES, Written, key, pool_key, read_record, write_record};
use crate::view::{Pool, Record};

/// How long a free address is looked for while others take what was chosen.
const SEARCH: Duration = Duration::from_secs(8);

/// After how many refusals the picture is waited for.
const OFTEN: u32 = 3;

/// A chosen address: free again when dropped, unless the store has answered.
#[derive(Debug)]
struct Claim<'a> {
    pool: &'a Pool,
    address: IpAddr,
    open: bool,
}

impl Claim<'_> {
    /// The store answered at this revision that somebody holds the address.
    fn settle(mut self, revision: Revision) {
        self.pool.state().picture.settle(self.address, revision.0);
        self.open = false;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.open {
            self.pool.state().picture.unclaim(self.address);
        }
    }
}

/// What an attempt to hold an address came to.
enum Held {
    Done(Revision),
    /// Somebody has it.
    Taken(Revision, Box<Entry>),
    /// It was free, and yet something stood in the way; look again.
    Again(Revision),
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    // A clock before 1970 says nothing worth an error.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub(crate) fn address_key(pool: &PoolKey, address: IpAddr) -> Result<Key, IpamError> {
    key(&Place::Address(pool.clone(), address))
}

impl<S: Store> Engine<S> {
    /// Holds an address for `holder`: this one, or else the next that is free in the pool's range.
    pub async fn request_address(
        self: &Arc<Self>,
        id: &PoolId,
        address: Option<IpAddr>,
        holder: Holder,
    ) -> Result<IpAddr, IpamError> {
        let pool = self.existing(id.key()).await?;
        let _gate: RwLockReadGuard<'_, ()> = pool.gate.read().await;
        match (address, &holder) {
            (Some(address), _) => {
                id.key().subnet.check_address(address)?;
                self.hold_named(&pool, address, &holder).await?;
                Ok(address)
            }
            (None, Holder::Gateway { .. }) => self.hold_gateway(&pool, &holder).await,
            (None, _) => match self.view.reserved_for(id.key(), &holder) {
                Some(address) => {
                    self.hold_named(&pool, address, &holder).await?;
                    Ok(address)
                }
                None => self.hold_next(&pool, id, &holder).await,
            },
        }
    }

    /// The pool, if it exists.
    pub(crate) async fn existing(&self, key: &PoolKey) -> Result<Arc<Pool>, IpamError> {
        for caught_up in [false, true] {
            if let Some(pool) = self.view.pool(key)
                && !matches!(pool.state().record, Record::Absent)
            {
                return Ok(pool);
            }
            if !caught_up {
                self.catch_up().await?;
            }
        }
        Err(IpamError::UnknownPool(key.clone()))
    }

    /// Holds the next free address of the range.
    async fn hold_next(
        self: &Arc<Self>,
        pool: &Pool,
        id: &PoolId,
        holder: &Holder,
    ) -> Result<IpAddr, IpamError> {
        let (mut caught_up, mut refused) = (false, 0);
        let started = Instant::now();
        while started.elapsed() < SEARCH {
            let (start, now) = (self.start_in_pool(), self.view.now());
            let chosen = pool.state().picture.choose(id.range(), start, now);
            let address = match chosen {
                Ok(address) => address,
                // What was released a moment ago may not have reached the picture.
                Err(_) if !caught_up => {
                    self.catch_up().await?;
                    caught_up = true;
                    continue;
                }
                Err(exhausted) => return Err(exhausted.into()),
            };
            let claim = Claim { pool, address, open: true };
            match self.try_hold(pool, address, holder).await? {
                Held::Done(revision) => {
                    claim.settle(revision);
                    return Ok(address);
                }
                Held::Taken(revision, _) => {
                    claim.settle(revision);
                    refused += 1;
                    caught_up = false;
                    if self.settings.spread {
                        pool.state().picture.jump(id.range(), self.random());
                    }
                    // The picture is behind: others are at the same pool.
                    if refused % OFTEN == 0 {
                        self.view.wait(revision).await?;
                    }
                }
                Held::Again(revision) => self.view.wait(revision).await?,
            }
        }
        Err(IpamError::Busy { what: format!("the pool {}", pool.key) })
    }

    /// Holds the gateway of the pool that other networks have, or else its first free address.
    async fn hold_gateway(
        self: &Arc<Self>,
        pool: &Pool,
        holder: &Holder,
    ) -> Result<IpAddr, IpamError> {
        self.catch_up().await?;
        for _ in 0..TRIES {
            let gateway = match &pool.state().record {
                Record::Known(record, _) => record.gateway,
                Record::Absent | Record::Damaged => None,
            };
            if let Some(gateway) = gateway {
                match self.hold_named(pool, gateway, holder).await {
                    Ok(()) => return Ok(gateway),
                    // It was given up, and a container has it now.
                    Err(IpamError::InUse { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            // Not claimed: of all who look for one at once, the first to ask the store has it, and
            // the others join.
            let address = pool.state().picture.first_free()?;
            match self.try_hold(pool, address, holder).await? {
                Held::Done(_) => return Ok(address),
                Held::Taken(revision, _) | Held::Again(revision) => {
                    self.view.wait(revision).await?
                }
            }
        }
        Err(IpamError::Busy { what: format!("the pool {}", pool.key) })
    }

    /// Holds this address, sharing it where that is possible.
    async fn hold_named(
        self: &Arc<Self>,
        pool: &Pool,
        address: IpAddr,
        holder: &Holder,
    ) -> Result<(), IpamError> {
        for _ in 0..TRIES {
            let entry = match self.try_hold(pool, address, holder).await? {
                Held::Done(_) => return Ok(()),
                Held::Taken(_, entry) => entry,
                Held::Again(revision) => {
                    self.view.wait(revision).await?;
                    continue;
                }
            };
            let found: AddressRecord = read_record(&entry)?;
            let Some(record) = found.joined_by(holder, now()) else {
                return Err(IpamError::InUse { address, holder: Box::new(found) });
            };
            let txn = Txn::replace(&entry, write_record(&record)?);
            if let Written::Done(_) = self.write_holder(pool, address, holder, txn).await? {
                return Ok(());
            }
        }
        Err(IpamError::Busy { what: format!("the address {address}") })
    }

    /// Tries to create the address's key.
    async fn try_hold(
        self: &Arc<Self>,
        pool: &Pool,
        address: IpAddr,
        holder: &Holder,
    ) -> Result<Held, IpamError> {
        let place = address_key(&pool.key, address)?;
        self.settle(&place).await?;
        let record = AddressRecord { holder: holder.clone(), since: now(), reserved: None };
        let (in_pool, remember) = self.pool_part(pool, address, holder)?;
        let compares = vec![Compare::Absent(place.clone()), in_pool];
        let mut ops = vec![Op::Put(place, write_record(&record)?)];
        ops.extend(remember);
        let txn = Txn::new(compares, ops)?;
        let written = self.write_holder(pool, address, holder, txn).await;
        match written? {
            Written::Done(revision) => Ok(Held::Done(revision)),
            Written::Refused { revision, found } => {
                let mut found = found.into_iter();
                match (found.next().flatten(), found.next().flatten()) {
                    (Some(entry), _) => Ok(Held::Taken(revision, Box::new(entry))),
                    (None, Some(_)) => Ok(Held::Again(revision)),
                    (None, None) => Err(IpamError::UnknownPool(pool.key.clone())),
                }
            }
        }
    }

    /// Writes what makes `holder` hold an address. If it is not known whether it does, it is made
    /// not to: Docker is told that it has failed.
    async fn write_holder(
        self: &Arc<Self>,
        pool: &Pool,
        address: IpAddr,
        holder: &Holder,
        txn: Txn,
    ) -> Result<Written, IpamError> {
        let nonce = holder.nonce_of(&self.settings.host).cloned().unwrap_or_else(|| self.nonce());
        let written = self.write(txn, Mark::Nonce(&nonce)).await;
        if let Err(IpamError::Unknown(_)) = &written {
            self.doubt(&Place::Address(pool.key.clone(), address), nonce).await;
        }
        written
    }

    /// What the transaction for an address has to do with its pool: the pool must exist, and a new
    /// gateway is remembered in its record.
    fn pool_part(
        &self,
        pool: &Pool,
        address: IpAddr,
        holder: &Holder,
    ) -> Result<(Compare, Option<Op>), IpamError> {
        let place = pool_key(&pool.key)?;
        let remembered = match &pool.state().record {
            Record::Known(record, revision) if matches!(holder, Holder::Gateway { .. }) => {
                Some((record.clone(), *revision))
            }
            _ => None,
        };
        match remembered {
            Some((record, revision)) if record.gateway != Some(address) => {
                let record = PoolRecord { gateway: Some(address), ..record };
                let op = Op::Put(place.clone(), write_record(&record)?);
                Ok((Compare::Unchanged(place, revision), Some(op)))
            }
            _ => Ok((Compare::Present(place), None)),
        }
    }

    /// Lets go of an address. One that is not held, or not by this host, is left alone, which is a
    /// success.
    pub async fn release_address(
        self: &Arc<Self>,
        pool: &PoolKey,
        address: IpAddr,
    ) -> Result<(), IpamError> {
        if pool.subnet.check_address(address).is_err() {
            return Ok(());
        }
        let place = address_key(pool, address)?;
        self.settle(&place).await?;
        let host = &self.settings.host;
        for _ in 0..TRIES {
            let Some(entry) = self.store.get(place.clone()).await? else { return Ok(()) };
            let found: AddressRecord = read_record(&entry)?;
            let (before, nonce) = (found.holder.nonce_of(host).cloned(), self.nonce());
            let Ok(rest) = found.without(host, &nonce) else {
                tracing::warn!(%address, %pool, holder = %found, "not ours to release");
                return Ok(());
            };
            let written = match rest {
                Some(record) => {
                    let txn = Txn::replace(&entry, write_record(&record)?);
                    self.write(txn, Mark::Nonce(&nonce)).await
                }
                None => self.write(Txn::remove(&entry), Mark::Gone).await,
            };
            if let (Err(_), Some(before)) = (&written, before) {
                self.doubt(&Place::Address(pool.clone(), address), before).await;
            }
            if let Written::Done(_) = written? {
                return self.released(pool).await;
            }
        }
        Err(IpamError::Busy { what: format!("the address {address}") })
    }

    /// After the release of an address: the pool may have been waiting for it to go.
    pub(crate) async fn released(&self, pool: &PoolKey) -> Result<(), IpamError> {
        match self.view.record(pool) {
            Record::Known(record, _) if record.hosts.is_empty() => {
                self.remove_if_unused(pool).await
            }
            _ => Ok(()),
        }
    }
}
