//! Docker's calls: which parts carry them out.

use std::sync::Arc;

use dockline_net_core::endpoint::publishes;
use dockline_net_core::options::Mtu;
use dockline_net_core::{Endpoint, Network};
use dockline_plugin_specs::network::{
    Capabilities, CreateEndpoint, CreateNetwork, CreatedEndpoint, DeleteEndpoint, DeleteNetwork,
    EndpointOperInfo, Join, Joined, Leave, NetworkDriver, OperInfo, Scope,
};
use serde_json::{Map, json};

use crate::failure::Failure;
use crate::networks::Networks;
use crate::switch::Switch;

/// The network driver.
#[derive(Debug)]
pub(crate) struct Driver {
    networks: Arc<Networks>,
    switch: Arc<Switch>,
    default_mtu: Mtu,
}

impl Driver {
    /// A driver of these networks on this switch.
    pub(crate) fn new(networks: Arc<Networks>, switch: Arc<Switch>, default_mtu: Mtu) -> Self {
        Self { networks, switch, default_mtu }
    }
}

impl NetworkDriver for Driver {
    type Failure = Failure;

    /// Each host knows of its networks by itself, though their containers reach other hosts: a
    /// global scope would need Swarm's own store (moby#33570).
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            scope: Scope::Local,
            connectivity_scope: Scope::Global,
            gw_alloc_checker: false,
        }
    }

    async fn create_network(&self, request: CreateNetwork) -> Result<(), Failure> {
        let network = Network::from_request(&request, self.default_mtu)?;
        self.networks.add(network).await
    }

    async fn delete_network(&self, request: DeleteNetwork) -> Result<(), Failure> {
        self.networks.remove(&request.network_id).await
    }

    async fn create_endpoint(&self, request: CreateEndpoint) -> Result<CreatedEndpoint, Failure> {
        let network = self.networks.get(&request.network_id).await?;
        let endpoint = Endpoint::from_request(&request, &network)?;
        if publishes(&request) {
            tracing::warn!("published ports passed over, as the network says");
        }
        self.switch.plug(&endpoint, &network).await?;
        Ok(CreatedEndpoint { interface: Some(endpoint.answer(&request.interface)) })
    }

    async fn delete_endpoint(&self, request: DeleteEndpoint) -> Result<(), Failure> {
        self.switch.unplug(&request.endpoint_id).await
    }

    async fn endpoint_oper_info(&self, request: EndpointOperInfo) -> Result<OperInfo, Failure> {
        let Some(endpoint) = self.switch.endpoint(&request.endpoint_id).await? else {
            return Ok(OperInfo::default());
        };
        let mut value = Map::new();
        value.insert("port".to_owned(), json!(endpoint.names()?.switch));
        value.insert("mac".to_owned(), json!(endpoint.mac));
        Ok(OperInfo { value })
    }

    async fn join(&self, request: Join) -> Result<Joined, Failure> {
        let network = self.networks.get(&request.network_id).await?;
        let endpoint = self.switch.endpoint(&request.endpoint_id).await?;
        let endpoint = endpoint.ok_or(Failure::UnknownEndpoint(request.endpoint_id))?;
        Ok(endpoint.joined(&network)?)
    }

    /// The interface is still inside the container; it goes when the endpoint is deleted, which
    /// Docker asks for next, or else the janitor does.
    async fn leave(&self, _: Leave) -> Result<(), Failure> {
        Ok(())
    }
}
