//! Docker's protocol: text to types, and what is refused before the store is asked.

use std::sync::Arc;

use dockline_ipam_core::{Holder, PoolId, PoolOptions, SpaceName, Subnet};
use dockline_plugin_specs::ipam::{
    Address, AddressSpaces, Capabilities, ENDPOINT_MAC, IpamDriver, Pool, ReleaseAddress,
    ReleasePool, RequestAddress, RequestPool,
};
use dockline_store::Store;

use crate::IpamError;
use crate::engine::Engine;
use crate::opening::Opening;
use crate::pools::Wanted;

/// The IPAM driver.
#[derive(Debug)]
pub struct Driver<S> {
    opening: Arc<Opening<S>>,
}

impl<S: Store> Driver<S> {
    /// A driver on this store.
    pub fn new(opening: Arc<Opening<S>>) -> Self {
        Self { opening }
    }

    async fn engine(&self) -> Result<Arc<Engine<S>>, IpamError> {
        self.opening.engine().await
    }
}

fn wanted(request: &RequestPool) -> Result<Wanted, IpamError> {
    match (request.pool, request.sub_pool) {
        (Some(pool), range) => {
            let subnet = Subnet::try_from(pool)?;
            range.map_or(Ok(()), |range| subnet.check_range(range))?;
            Ok(Wanted::Named { subnet, range })
        }
        (None, Some(_)) => Err(IpamError::RangeAlone),
        // Only here is the flag to be believed: with a subnet the family is the subnet's.
        (None, None) => Ok(Wanted::Default { v6: request.v6 }),
    }
}

/// Who an address is for.
///
/// The engine says so for gateways only. With [`Capabilities::requires_mac_address`] it sends a MAC
/// for each container, and what comes without one is an auxiliary address.
fn holder<S: Store>(engine: &Engine<S>, request: &RequestAddress) -> Holder {
    let host = &engine.settings.host;
    if request.is_gateway() {
        return Holder::gateway(host, engine.nonce());
    }
    let container = request.container();
    if request.address.is_some()
        && container.is_none()
        && !request.options.contains_key(ENDPOINT_MAC)
    {
        return Holder::auxiliary(host, engine.nonce());
    }
    Holder::Endpoint {
        host: host.clone(),
        nonce: engine.nonce(),
        mac: request.mac(),
        // A name that is none is only missing from what operators see.
        container: container.and_then(|name| name.parse().ok()),
        network: None,
        endpoint: None,
    }
}

impl<S: Store> IpamDriver for Driver<S> {
    type Failure = IpamError;

    fn capabilities(&self) -> Capabilities {
        // The MAC is what tells a container's address from an auxiliary one; nothing is replayed,
        // since the store keeps everything.
        Capabilities { requires_mac_address: true, requires_request_replay: false }
    }

    fn default_address_spaces(&self) -> AddressSpaces {
        AddressSpaces { local: SpaceName::LOCAL.to_owned(), global: SpaceName::GLOBAL.to_owned() }
    }

    async fn request_pool(&self, request: RequestPool) -> Result<Pool, IpamError> {
        let wanted = wanted(&request)?;
        let space = match PoolOptions::read(&request.options)?.space {
            Some(space) => space,
            None => request.address_space.parse()?,
        };
        let id = self.engine().await?.request_pool(&space, wanted).await?;
        let pool = id.key().subnet.cidr();
        Ok(Pool { pool_id: id.to_string(), pool, data: Default::default() })
    }

    async fn release_pool(&self, request: ReleasePool) -> Result<(), IpamError> {
        // An id that is none of ours names nothing that could be released.
        let Ok(id) = request.pool_id.parse::<PoolId>() else { return Ok(()) };
        self.engine().await?.release_pool(id.key()).await
    }

    async fn request_address(&self, request: RequestAddress) -> Result<Address, IpamError> {
        let id: PoolId = request.pool_id.parse()?;
        let subnet = id.key().subnet;
        request.address.map_or(Ok(()), |address| subnet.check_address(address))?;
        let engine = self.engine().await?;
        let holder = holder(&engine, &request);
        let address = engine.request_address(&id, request.address, holder).await?;
        Ok(Address { address: subnet.with_prefix(address), data: Default::default() })
    }

    async fn release_address(&self, request: ReleaseAddress) -> Result<(), IpamError> {
        let Ok(id) = request.pool_id.parse::<PoolId>() else { return Ok(()) };
        self.engine().await?.release_address(id.key(), request.address).await
    }
}
