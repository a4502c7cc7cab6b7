//! Endpoints: plugged in, found and unplugged.
//!
//! An endpoint is a veth pair and a port: first the devices, then the port with all its marks in
//! one transaction. Whatever fails, what was made before is taken back; what a crash leaves is
//! found by the [janitor](crate::janitor).

use std::time::Duration;

use dockline_links::{LinkError, VethSpec};
use dockline_net_core::endpoint::MarksError;
use dockline_net_core::{Endpoint, Network, PortNames};
use dockline_ovsdb::Datapath;
use dockline_ovsdb::switch::{Marks, PortError, PortKind, PortSpec, Until, VlanMode};
use dockline_types::{EndpointId, IfName};
use tokio::time::Instant;

use super::{CALL, Switch};
use crate::failure::Failure;

/// How long taking back may take, besides the call itself.
const UNDO: Duration = Duration::from_secs(5);

impl Switch {
    /// Makes an endpoint's devices and its port. The same again is a success, and mends what is
    /// missing.
    pub(crate) async fn plug(&self, endpoint: &Endpoint, network: &Network) -> Result<(), Failure> {
        let deadline = Instant::now() + CALL;
        let names = endpoint.names()?;
        let _held = self.changes.lock(&names.switch, CALL).await?;
        self.connected(deadline).await?;
        let there = match self.find(&names.switch, &endpoint.id)? {
            Some(there) if there != *endpoint => {
                let (port, endpoint) = (names.switch, endpoint.id.clone());
                return Err(Failure::EndpointConflict { port, endpoint });
            }
            there => there.is_some(),
        };
        let datapath = self.ensure_bridge(deadline).await?;
        let port = self.port(endpoint, network, &names);
        if there && self.links.find(&names.switch).await?.is_some() {
            self.ovs.add_port(port, deadline).await?;
            return Ok(());
        }
        let made = async {
            self.make_devices(endpoint, network, &names, datapath).await?;
            self.ovs.add_port(port, deadline).await?;
            Ok(())
        };
        let made = made.await;
        if made.is_err() {
            self.take_back(&endpoint.id, &names).await;
        }
        made
    }

    async fn make_devices(
        &self,
        endpoint: &Endpoint,
        network: &Network,
        names: &PortNames,
        datapath: Datapath,
    ) -> Result<(), Failure> {
        let pair = VethSpec {
            host: names.switch.clone(),
            container: names.container.clone(),
            mac: Some(endpoint.mac),
            mtu: Some(network.mtu.bytes()),
        };
        match self.links.create_veth(&pair).await {
            // Without a port, a pair of this name is what a crash left of this very endpoint.
            Err(LinkError::Exists(_)) => {
                self.links.delete(&names.switch).await?;
                self.links.create_veth(&pair).await?;
            }
            made => made?,
        }
        if let Datapath::Userspace(_) = datapath {
            self.links.disable_tx_checksum(&names.container)?;
        }
        Ok(())
    }

    fn port(&self, endpoint: &Endpoint, network: &Network, names: &PortNames) -> PortSpec {
        PortSpec {
            bridge: self.bridge.to_string(),
            name: names.switch.clone(),
            kind: PortKind::System,
            vlan: network.vlan.map_or(VlanMode::Untagged, VlanMode::Access),
            mac: None,
            mtu: None,
            marks: marks(endpoint),
        }
    }

    /// Undoes [`Self::plug`], as far as it got. What cannot be undone now is left to the janitor,
    /// and the cause stays what is told.
    async fn take_back(&self, endpoint: &EndpointId, names: &PortNames) {
        let deadline = Instant::now() + UNDO;
        let guard = Marks::new(Endpoint::MARK, endpoint.as_str());
        let port = self.ovs.delete_port(names.switch.as_str(), &guard, Until::Committed, deadline);
        if let Err(error) = port.await {
            tracing::warn!(port = %names.switch, %error, "cannot take the port back yet");
        }
        if let Err(error) = self.links.delete(&names.switch).await {
            tracing::warn!(device = %names.switch, %error, "cannot take the interface back yet");
        }
    }

    /// Removes an endpoint's port and devices. One that is unknown is a success, also where
    /// another endpoint has the port that would have been its own.
    pub(crate) async fn unplug(&self, endpoint: &EndpointId) -> Result<(), Failure> {
        let port = PortNames::of(endpoint)?.switch;
        let _held = self.changes.lock(&port, CALL).await?;
        if let Err(Failure::EndpointConflict { .. }) = self.find(&port, endpoint) {
            return Ok(());
        }
        self.remove(&port, &Marks::new(Endpoint::MARK, endpoint.as_str())).await
    }

    /// Removes devices that have no port.
    pub(crate) async fn remove_devices(&self, port: &IfName) -> Result<(), Failure> {
        let _held = self.changes.lock(port, CALL).await?;
        // The guard names no endpoint: if there is a port by now, this is refused.
        self.remove(port, &Marks::new(Endpoint::MARK, "")).await
    }

    /// Removes a port that bears these marks, and its devices. The devices go also when Open
    /// vSwitch does not answer: the container is gone, and its traffic ends now.
    async fn remove(&self, port: &IfName, guard: &Marks) -> Result<(), Failure> {
        let deadline = Instant::now() + CALL;
        let deleted = self.ovs.delete_port(port.as_str(), guard, Until::Committed, deadline).await;
        if let Err(PortError::Conflict { .. }) = deleted {
            return deleted.map(drop).map_err(Failure::from);
        }
        self.links.delete(port).await?;
        deleted?;
        Ok(())
    }

    /// The endpoint that is on the switch under this id.
    pub(crate) async fn endpoint(&self, id: &EndpointId) -> Result<Option<Endpoint>, Failure> {
        self.connected(Instant::now() + CALL).await?;
        self.find(&PortNames::of(id)?.switch, id)
    }

    fn find(&self, port: &IfName, id: &EndpointId) -> Result<Option<Endpoint>, Failure> {
        let marks = self
            .ovs
            .client()
            .look(|picture| picture.port(port.as_str()).map(|(_, port)| port.external_ids.clone()));
        let Some(marks) = marks else { return Ok(None) };
        match Endpoint::from_marks(&marks) {
            Ok(endpoint) if endpoint.id == *id => Ok(Some(endpoint)),
            Ok(_) | Err(MarksError::NotOurs) => {
                Err(Failure::EndpointConflict { port: port.clone(), endpoint: id.clone() })
            }
            Err(source) => Err(Failure::Marks { port: port.clone(), source }),
        }
    }
}

fn marks(endpoint: &Endpoint) -> Marks {
    let first = Marks::new(Endpoint::MARK, endpoint.id.as_str());
    endpoint.marks().into_iter().fold(first, |marks, (key, value)| marks.with(key, value))
}
