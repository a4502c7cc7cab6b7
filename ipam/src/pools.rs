//! Requesting and releasing pools.

use std::sync::Arc;

use dockline_ipam_core::{Place, PoolId, PoolKey, PoolRecord, SpaceName, Subnet};
use dockline_ipam_core::{check_overlap, next_default};
use dockline_store::{Compare, Key, Op, Revision, Store, Txn, Value};
use dockline_types::PoolCidr;

use crate::IpamError;
use crate::engine::{Engine, Mark, TRIES, Written, key, pool_key, read_record, write_record};
use crate::view::Record;

/// Which pool is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// This one, and this range of it.
    Named {
        /// `--subnet`.
        subnet: Subnet,
        /// `--ip-range`.
        range: Option<PoolCidr>,
    },
    /// Any that is free, of this family.
    Default {
        /// IPv6.
        v6: bool,
    },
}

impl<S: Store> Engine<S> {
    /// Adds a reference of this host to a pool, which is made if need be.
    pub async fn request_pool(
        self: &Arc<Self>,
        space: &SpaceName,
        wanted: Wanted,
    ) -> Result<PoolId, IpamError> {
        self.catch_up().await?;
        for _ in 0..TRIES {
            let (subnet, range) = self.decide(wanted)?;
            let id = PoolId::new(PoolKey { space: space.clone(), subnet }, range)?;
            match self.add_reference(id.key()).await? {
                Written::Done(_) => return Ok(id),
                Written::Refused { revision, .. } => self.view.wait(revision).await?,
            }
        }
        Err(IpamError::Busy { what: format!("the address space {space}") })
    }

    fn decide(&self, wanted: Wanted) -> Result<(Subnet, Option<PoolCidr>), IpamError> {
        match wanted {
            Wanted::Named { subnet, range } => Ok((subnet, range)),
            Wanted::Default { v6 } => {
                // A default pool overlaps no pool of any space: it is chosen not to be in the way.
                let taken = self.view.all_pools();
                let free = next_default(&self.settings.defaults, v6, &taken);
                Ok((free.ok_or(IpamError::NoDefaultPool { v6 })?, None))
            }
        }
    }

    async fn add_reference(self: &Arc<Self>, pool: &PoolKey) -> Result<Written, IpamError> {
        let place = pool_key(pool)?;
        self.settle(&place).await?;
        let nonce = self.nonce();
        let (mut record, compares, mut ops) = match self.view.record(pool) {
            Record::Known(record, revision) => {
                (record, vec![Compare::Unchanged(place.clone(), revision)], vec![])
            }
            Record::Absent => {
                let space = self.view.space(&pool.space);
                check_overlap(&pool.space, pool.subnet, space.pools)?;
                let (unchanged, touch) = guard(&pool.space, space.guard)?;
                let compares = vec![Compare::Absent(place.clone()), unchanged];
                (PoolRecord::default(), compares, vec![touch])
            }
            Record::Damaged => {
                let entry = self.store.get(place).await?;
                let entry = entry.ok_or_else(|| IpamError::UnknownPool(pool.clone()))?;
                // If it has been mended meanwhile, the picture follows.
                read_record::<PoolRecord>(&entry)?;
                return Ok(Written::Refused { revision: entry.mod_revision, found: Vec::new() });
            }
        };
        record.add(&self.settings.host, &nonce);
        ops.push(Op::Put(place, write_record(&record)?));
        let written = self.write(Txn::new(compares, ops)?, Mark::Nonce(&nonce)).await;
        if let Err(IpamError::Unknown(_)) = &written {
            self.doubt(&Place::Pool(pool.clone()), nonce).await;
        }
        written
    }

    /// Takes a reference of this host away. The pool goes with the last, unless an address of it
    /// is held. A pool that this host has no reference to is left alone, which is a success.
    pub async fn release_pool(self: &Arc<Self>, pool: &PoolKey) -> Result<(), IpamError> {
        self.settle(&pool_key(pool)?).await?;
        self.catch_up().await?;
        for _ in 0..TRIES {
            let Some(seen) = self.view.pool(pool) else { return Ok(()) };
            let _gate = seen.gate.write().await;
            let (record, held) = {
                let state = seen.state();
                (state.record.clone(), state.picture.held() > 0 || state.picture.is_claiming())
            };
            let Record::Known(mut record, revision) = record else { return Ok(()) };
            let (before, nonce) = (record.nonce_of(&self.settings.host).cloned(), self.nonce());
            let taken = record.take(&self.settings.host, &nonce);
            if !taken && (held || !record.hosts.is_empty()) {
                return Ok(());
            }
            let written = if record.hosts.is_empty() && !held {
                self.remove(pool, revision).await
            } else {
                let compare = Compare::Unchanged(pool_key(pool)?, revision);
                let op = Op::Put(pool_key(pool)?, write_record(&record)?);
                self.write(Txn::new(vec![compare], vec![op])?, Mark::Nonce(&nonce)).await
            };
            if let (Err(_), Some(before)) = (&written, before) {
                self.doubt(&Place::Pool(pool.clone()), before).await;
            }
            match written? {
                Written::Done(_) => return Ok(()),
                Written::Refused { revision, .. } => self.view.wait(revision).await?,
            }
        }
        Err(IpamError::Busy { what: format!("the pool {pool}") })
    }

    /// Removes a pool if no network uses it and none of its addresses is held.
    pub(crate) async fn remove_if_unused(&self, pool: &PoolKey) -> Result<(), IpamError> {
        self.catch_up().await?;
        let Some(seen) = self.view.pool(pool) else { return Ok(()) };
        let _gate = seen.gate.write().await;
        let unused = {
            let state = seen.state();
            let held = state.picture.held() > 0 || state.picture.is_claiming();
            match &state.record {
                Record::Known(record, revision) if record.hosts.is_empty() && !held => {
                    Some(*revision)
                }
                _ => None,
            }
        };
        if let Some(revision) = unused {
            // Refused means that somebody uses it again, or has removed it.
            self.remove(pool, revision).await?;
        }
        Ok(())
    }

    /// Removes the pools that nobody uses and of which nothing is held: a daemon that was killed
    /// between the release of a pool's last address and the removal of the pool leaves one.
    pub(crate) async fn sweep(&self) {
        for (pool, held) in self.view.held() {
            let unused = match self.view.record(&pool) {
                Record::Known(record, _) => record.hosts.is_empty() && held == 0,
                Record::Absent | Record::Damaged => false,
            };
            if unused && let Err(error) = self.remove_if_unused(&pool).await {
                tracing::warn!(%pool, %error, "cannot remove a pool that nobody uses");
            }
        }
    }

    async fn remove(&self, pool: &PoolKey, revision: Revision) -> Result<Written, IpamError> {
        let space = self.view.space(&pool.space);
        let (guard, touch) = guard(&pool.space, space.guard)?;
        // Another host may have taken an address a moment ago.
        let empty = Compare::NoneUnder(Key::new(Place::addresses_of(pool))?);
        let compares = vec![Compare::Unchanged(pool_key(pool)?, revision), guard, empty];
        let ops = vec![Op::Delete(pool_key(pool)?), touch];
        self.write(Txn::new(compares, ops)?, Mark::Gone).await
    }
}

/// The condition that the pools of a space are those that were seen, and the write that tells
/// others that they no longer are.
fn guard(space: &SpaceName, seen: Option<Revision>) -> Result<(Compare, Op), IpamError> {
    let place = key(&Place::Space(space.clone()))?;
    let compare = match seen {
        Some(revision) => Compare::Unchanged(place.clone(), revision),
        None => Compare::Absent(place.clone()),
    };
    Ok((compare, Op::Put(place, Value::new("")?)))
}
