//! What operators can have done: reservations, lists, and clearing up after a host that is gone.

use std::net::IpAddr;
use std::sync::Arc;

use dockline_admin::ipam::{
    AddressList, AddressRow, Addresses, Clear, Cleared, PoolRow, Reserve, Reserved, Unreserve,
};
use dockline_ipam_core::{
    AddressRecord, ContainerName, Holder, HostName, Place, PoolId, PoolKey, PoolRecord,
    Reservation, SpaceName,
};
use dockline_store::{Compare, Entry, Op, Prefix, Scan, Store, Txn};
use dockline_types::MacAddr;

use crate::IpamError;
use crate::addresses::{address_key, now};
use crate::engine::{Engine, Mark, TRIES, Written, pool_key, read_record, write_record};
use crate::view::Record;

/// The most addresses a list may ask for.
const LONGEST_LIST: usize = 100_000;

/// How many entries a page of a list has.
const PAGE: usize = 1000;

/// Why a verb was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerbError {
    /// The driver said no.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] dockline_ipam_core::NameError),
    /// The pool's name is none.
    #[error("{0:?} names no pool: SUBNET or SPACE/SUBNET is expected, as in 10.1.0.0/16")]
    Pool(String),
    /// The MAC is none.
    #[error("{0:?} is not a MAC address")]
    Mac(String),
    /// The container has another reservation.
    #[error("{name} has {address} reserved already: release that first")]
    Otherwise {
        /// The container.
        name: ContainerName,
        /// What it has.
        address: IpAddr,
    },
    /// The host is not gone.
    #[error("{0} is this host, and not gone: what it no longer needs it frees by itself")]
    Own(HostName),
}

/// A pool by the name that an operator gives it.
pub(crate) fn pool_of(text: &str) -> Result<PoolKey, VerbError> {
    let whole = if text.split('/').count() == 2 {
        format!("{}/{text}", SpaceName::LOCAL)
    } else {
        text.to_owned()
    };
    let id: Result<PoolId, _> = whole.parse();
    match id {
        Ok(id) if id.range().is_none() => Ok(id.key().clone()),
        _ => Err(VerbError::Pool(text.chars().take(100).collect())),
    }
}

/// Whether a host has a part in an address.
fn is_of(record: &AddressRecord, host: &HostName) -> bool {
    record.holder.nonce_of(host).is_some()
}

impl<S: Store> Engine<S> {
    /// Keeps an address for a container.
    pub(crate) async fn reserve(self: &Arc<Self>, wish: Reserve) -> Result<Reserved, VerbError> {
        let key = pool_of(&wish.pool)?;
        let name: ContainerName = wish.name.parse()?;
        let mac = wish.mac.as_deref().map(str::parse::<MacAddr>).transpose();
        let mac = mac.map_err(|_| VerbError::Mac(wish.mac.clone().unwrap_or_default()))?;
        if let Some(address) = wish.address {
            key.subnet.check_address(address).map_err(IpamError::from)?;
        }
        self.catch_up().await?;
        let pool = self.existing(&key).await?;
        let _gate = pool.gate.read().await;
        if let Some((address, before)) = self.view.reservation(&key, &name) {
            let same = wish.address.is_none_or(|wanted| wanted == address);
            return if same && (mac.is_none() || mac == before.mac) {
                Ok(Reserved { address, changed: false })
            } else {
                Err(VerbError::Otherwise { name, address })
            };
        }
        let reservation = Reservation { name, mac };
        for _ in 0..TRIES {
            let address = match wish.address {
                Some(address) => address,
                None => pool.state().picture.first_unclaimed().map_err(IpamError::from)?,
            };
            if self.try_reserve(&key, address, &reservation).await? {
                return Ok(Reserved { address, changed: true });
            }
            self.catch_up().await?;
        }
        Err(IpamError::Busy { what: format!("the pool {key}") }.into())
    }

    /// Says whether it worked; if not, others were quicker.
    async fn try_reserve(
        &self,
        pool: &PoolKey,
        address: IpAddr,
        reservation: &Reservation,
    ) -> Result<bool, IpamError> {
        let place = address_key(pool, address)?;
        let present = Compare::Present(pool_key(pool)?);
        let txn = match self.store.get(place.clone()).await? {
            None => {
                let reserved = Some(reservation.clone());
                let record = AddressRecord { holder: Holder::Nobody, since: now(), reserved };
                let compares = vec![Compare::Absent(place.clone()), present];
                Txn::new(compares, vec![Op::Put(place, write_record(&record)?)])?
            }
            Some(entry) => {
                let found: AddressRecord = read_record(&entry)?;
                let unnamed = matches!(&found.holder, Holder::Endpoint { container: None, .. });
                // A container that runs may be given for good what it has.
                if found.reserved.is_some() || !(unnamed || reservation.is_for(&found.holder)) {
                    return Err(IpamError::InUse { address, holder: Box::new(found) });
                }
                let record = AddressRecord { reserved: Some(reservation.clone()), ..found };
                Txn::replace(&entry, write_record(&record)?)
            }
        };
        Ok(matches!(self.write(txn, Mark::Unmarked).await?, Written::Done(_)))
    }

    /// Ends a reservation.
    pub(crate) async fn unreserve(
        self: &Arc<Self>,
        wish: Unreserve,
    ) -> Result<Option<Reserved>, VerbError> {
        let pool = pool_of(&wish.pool)?;
        let name: ContainerName = wish.name.parse()?;
        for _ in 0..TRIES {
            self.catch_up().await?;
            let Some((address, _)) = self.view.reservation(&pool, &name) else { return Ok(None) };
            let place = address_key(&pool, address)?;
            let entry = self.store.get(place).await.map_err(IpamError::from)?;
            let Some(entry) = entry else { continue };
            let found: AddressRecord = read_record(&entry)?;
            let txn = match found.holder {
                Holder::Nobody => Txn::remove(&entry),
                _ => {
                    let record = AddressRecord { reserved: None, ..found };
                    Txn::replace(&entry, write_record(&record)?)
                }
            };
            if let Written::Done(_) = self.write(txn, Mark::Unmarked).await? {
                self.released(&pool).await?;
                return Ok(Some(Reserved { address, changed: true }));
            }
        }
        Err(IpamError::Busy { what: format!("the reservation of {name}") }.into())
    }

    /// Lists the addresses of a pool.
    pub(crate) async fn list(&self, wish: Addresses) -> Result<AddressList, VerbError> {
        let pool = pool_of(&wish.pool)?;
        let host = wish.host.as_deref().map(str::parse::<HostName>).transpose()?;
        let limit = wish.limit.min(LONGEST_LIST);
        let (mut addresses, mut more) = (Vec::new(), false);
        self.each_address(Place::addresses_of(&pool), |_, address, entry| {
            let record = read_record::<AddressRecord>(entry);
            if let (Some(host), Ok(record)) = (&host, &record)
                && !is_of(record, host)
            {
                return;
            }
            if addresses.len() == limit {
                more = true;
                return;
            }
            addresses.push(match record {
                Ok(record) => AddressRow {
                    address,
                    holder: record.holder.to_string(),
                    reserved: record.reserved.map(|reserved| reserved.name.to_string()),
                    since: record.since,
                },
                Err(error) => {
                    AddressRow { address, holder: error.to_string(), reserved: None, since: 0 }
                }
            });
        })
        .await?;
        Ok(AddressList { addresses, more })
    }

    /// Goes through the addresses under a prefix.
    async fn each_address(
        &self,
        prefix: String,
        mut see: impl FnMut(PoolKey, IpAddr, &Entry) + Send,
    ) -> Result<(), IpamError> {
        let mut scan = self.store.scan(Prefix::new(prefix)?, PAGE);
        while let Some(page) = scan.next().await? {
            for entry in &page.entries {
                if let Some(Place::Address(pool, address)) = Place::read(entry.key.as_bytes()) {
                    see(pool, address, entry);
                }
            }
        }
        Ok(())
    }

    /// Lists the pools.
    pub(crate) async fn pool_list(&self) -> Result<Vec<PoolRow>, VerbError> {
        self.catch_up().await?;
        Ok(self.view.pools().iter().map(|pool| self.pool_row(pool)).collect())
    }

    fn pool_row(&self, pool: &crate::view::Pool) -> PoolRow {
        let state = pool.state();
        let record = match &state.record {
            Record::Known(record, _) => record.clone(),
            Record::Absent | Record::Damaged => PoolRecord::default(),
        };
        let (usable, held) = (state.picture.usable(None), state.picture.held());
        let resting = state.picture.resting();
        drop(state);
        PoolRow {
            pool: pool.key.to_string(),
            usable: usable.to_string(),
            held,
            reserved: self.view.reservations(&pool.key),
            resting,
            networks: record.hosts.values().map(|share| u64::from(share.networks)).sum(),
            hosts: u64::try_from(record.hosts.len()).unwrap_or(u64::MAX),
            gateway: record.gateway,
        }
    }

    /// Frees what another host has left.
    pub(crate) async fn clear(self: &Arc<Self>, wish: Clear) -> Result<Cleared, VerbError> {
        let host: HostName = wish.host.parse()?;
        if host == self.settings.host {
            return Err(VerbError::Own(host));
        }
        let (mut cleared, mut entries) = (Cleared::default(), Vec::new());
        self.each_address("ipam/address/".to_owned(), |pool, address, entry| {
            if let Ok(record) = read_record::<AddressRecord>(entry)
                && is_of(&record, &host)
            {
                cleared.addresses.push(format!("{pool} {address}: {record}"));
                entries.push((pool, entry.clone()));
            }
        })
        .await?;
        self.catch_up().await?;
        let pools: Vec<PoolKey> = self.view.pools().iter().map(|pool| pool.key.clone()).collect();
        let used = pools.into_iter().filter(|pool| self.uses(pool, &host)).collect::<Vec<_>>();
        cleared.pools = used.iter().map(ToString::to_string).collect();
        if wish.dry_run {
            return Ok(cleared);
        }
        tracing::warn!(
            %host,
            addresses = cleared.addresses.len(),
            pools = cleared.pools.len(),
            "an operator has a host cleared"
        );
        for (pool, entry) in entries {
            self.clear_address(&host, &pool, entry).await?;
        }
        for pool in used {
            self.clear_pool(&host, &pool).await?;
        }
        Ok(cleared)
    }

    fn uses(&self, pool: &PoolKey, host: &HostName) -> bool {
        match self.view.record(pool) {
            Record::Known(record, _) => record.hosts.contains_key(host),
            Record::Absent | Record::Damaged => false,
        }
    }

    async fn clear_address(
        &self,
        host: &HostName,
        pool: &PoolKey,
        entry: Entry,
    ) -> Result<(), IpamError> {
        let mut found = Some(entry);
        for _ in 0..TRIES {
            let Some(entry) = found else { return Ok(()) };
            let record: AddressRecord = read_record(&entry)?;
            let txn = match record.clear(host) {
                None => return Ok(()),
                Some(Some(rest)) => Txn::replace(&entry, write_record(&rest)?),
                Some(None) => Txn::remove(&entry),
            };
            if let Written::Done(_) = self.write(txn, Mark::Unmarked).await? {
                return self.released(pool).await;
            }
            found = self.store.get(entry.key).await?;
        }
        Err(IpamError::Busy { what: format!("an address of {pool}") })
    }

    async fn clear_pool(&self, host: &HostName, pool: &PoolKey) -> Result<(), IpamError> {
        for _ in 0..TRIES {
            let Record::Known(mut record, revision) = self.view.record(pool) else { return Ok(()) };
            if record.hosts.remove(host).is_none() {
                return Ok(());
            }
            let compare = Compare::Unchanged(pool_key(pool)?, revision);
            let op = Op::Put(pool_key(pool)?, write_record(&record)?);
            let txn = Txn::new(vec![compare], vec![op])?;
            match self.write(txn, Mark::Unmarked).await? {
                Written::Done(_) => return self.remove_if_unused(pool).await,
                Written::Refused { revision, .. } => self.view.wait(revision).await?,
            }
        }
        Err(IpamError::Busy { what: format!("the pool {pool}") })
    }
}
