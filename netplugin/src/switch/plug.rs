//! Endpoints: plugged in, found and unplugged.
//!
//! An endpoint is a wire (four devices, see [`dockline_net_core::names`]) and a port: first the
//! devices with their limits, then the port with all its marks in one transaction. Whatever fails, what was made before is taken back; what a crash leaves is
//! found by the [janitor](crate::janitor).

use std::time::Duration;

use dockline_links::{LinkError, WireSpec};
use dockline_net_core::marks::MarksError;
use dockline_net_core::options::PortSecurity;
use dockline_net_core::rate::Limits;
use dockline_net_core::{Endpoint, Network, PortNames};
use dockline_ovsdb::Datapath;
use dockline_ovsdb::switch::{Marks, Native, PortError, PortKind, PortSpec, Until, VlanMode};
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
            Some(there) if !there.is_same(endpoint) => {
                let (port, endpoint) = (names.switch, endpoint.id.clone());
                return Err(Failure::EndpointConflict { port, endpoint });
            }
            there => there.is_some(),
        };
        let datapath = self.ensure_bridge(deadline).await?;
        let mut port = self.port(endpoint, network, &names);
        if there {
            let guard = Marks::new(Endpoint::MARK, endpoint.id.as_str());
            if self.has_devices(&names).await? {
                // Its limits may have been changed since, and stay as they are.
                port.marks = guard;
                self.ovs.add_port(port, deadline).await?;
                return Ok(());
            }
            self.remove(&names, &guard).await?;
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

    async fn has_devices(&self, names: &PortNames) -> Result<bool, Failure> {
        let (host, switch) = (self.links.find(&names.host), self.links.find(&names.switch));
        Ok(host.await?.is_some() && switch.await?.is_some())
    }

    async fn make_devices(
        &self,
        endpoint: &Endpoint,
        network: &Network,
        names: &PortNames,
        datapath: Datapath,
    ) -> Result<(), Failure> {
        let wire = WireSpec {
            container: names.container.clone(),
            host: names.host.clone(),
            joint: names.joint.clone(),
            switch: names.switch.clone(),
            mac: endpoint.mac,
            mtu: network.mtu.bytes(),
        };
        match self.links.create_wire(&wire).await {
            // Without a port, devices of these names are what a crash left of this very endpoint.
            Err(LinkError::Exists(_)) => {
                self.links.delete_wire(&names.host, &names.switch).await?;
                self.links.create_wire(&wire).await?;
            }
            made => made?,
        }
        if network.port_security == PortSecurity::On {
            let program = endpoint.identity().program();
            let program: Vec<_> = program.iter().map(|it| (it.code, it.yes, it.no, it.k)).collect();
            self.links.guard(self.links.index(&names.host).await?, &program).await?;
        }
        // New devices have no limits that would have to be lifted.
        if endpoint.limits != Limits::default() {
            self.limit(names, &endpoint.limits).await?;
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
            vlan: vlan_mode(endpoint, network),
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
        if let Err(error) = self.links.delete_wire(&names.host, &names.switch).await {
            tracing::warn!(device = %names.switch, %error, "cannot take the interface back yet");
        }
    }

    /// Removes an endpoint's port and devices. One that is unknown is a success, also where
    /// another endpoint has the port that would have been its own.
    pub(crate) async fn unplug(&self, endpoint: &EndpointId) -> Result<(), Failure> {
        let names = PortNames::of(endpoint)?;
        let _held = self.changes.lock(&names.switch, CALL).await?;
        if let Err(Failure::EndpointConflict { .. }) = self.find(&names.switch, endpoint) {
            return Ok(());
        }
        self.remove(&names, &Marks::new(Endpoint::MARK, endpoint.as_str())).await
    }

    /// Removes devices that have no port.
    pub(crate) async fn remove_devices(&self, names: &PortNames) -> Result<(), Failure> {
        let _held = self.changes.lock(&names.switch, CALL).await?;
        // The guard names no endpoint: if there is a port by now, this is refused.
        self.remove(names, &Marks::new(Endpoint::MARK, "")).await
    }

    /// Removes a port that bears these marks, and its devices. The devices go also when Open
    /// vSwitch does not answer: the container is gone, and its traffic ends now.
    async fn remove(&self, names: &PortNames, guard: &Marks) -> Result<(), Failure> {
        let deadline = Instant::now() + CALL;
        let port = names.switch.as_str();
        let deleted = self.ovs.delete_port(port, guard, Until::Committed, deadline).await;
        if let Err(PortError::Conflict { .. }) = deleted {
            return deleted.map(drop).map_err(Failure::from);
        }
        self.links.delete_wire(&names.host, &names.switch).await?;
        deleted?;
        Ok(())
    }

    /// The endpoint that is on the switch under this id.
    pub(crate) async fn endpoint(&self, id: &EndpointId) -> Result<Option<Endpoint>, Failure> {
        self.connected(Instant::now() + CALL).await?;
        self.find(&PortNames::of(id)?.switch, id)
    }

    pub(super) fn find(&self, port: &IfName, id: &EndpointId) -> Result<Option<Endpoint>, Failure> {
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

fn vlan_mode(endpoint: &Endpoint, network: &Network) -> VlanMode {
    match (&endpoint.trunk, network.vlan) {
        (None, None) => VlanMode::Untagged,
        (None, Some(vlan)) => VlanMode::Access(vlan),
        (Some(trunk), native) => VlanMode::Trunk {
            vlans: trunk.ids().clone(),
            native: native.map_or(Native::Untagged, Native::Vlan),
        },
    }
}

/// The marks of an endpoint's port.
pub(super) fn marks(endpoint: &Endpoint) -> Marks {
    let first = Marks::new(Endpoint::MARK, endpoint.id.as_str());
    endpoint.marks().into_iter().fold(first, |marks, (key, value)| marks.with(key, value))
}
