//! The bridge, and endpoints as ports on it.
//!
//! An endpoint is a veth pair and a port: first the devices, then the port with all its marks in
//! one transaction. Whatever fails, what was made before is taken back; what a crash leaves is
//! found by the [janitor](crate::janitor). There is no memory of endpoints here: what is on the
//! switch is what there is.

use std::time::Duration;

use dockline_daemon::config::{DatapathChoice, Net};
use dockline_links::{LinkError, Links, VethSpec};
use dockline_locks::{Held, Keyed};
use dockline_net_core::endpoint::MarksError;
use dockline_net_core::{Endpoint, Network, PortNames};
use dockline_ovsdb::switch::{
    BridgeDone, BridgeSpec, FailMode, Marks, PortKind, PortSpec, Until, VlanMode,
};
use dockline_ovsdb::{Client, Config, Datapath, KernelModule, Picture};
use dockline_types::{EndpointId, IfName, MacAddr};
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;

/// How long one call may take; dockerd is told sooner than the server gives up on it (30 s).
const CALL: Duration = Duration::from_secs(20);

/// How long taking back may take, besides.
const UNDO: Duration = Duration::from_secs(5);

/// The mark of the bridge.
const BRIDGE_MARK: (&str, &str) = ("dockline-bridge", "containers");

/// The switch that containers are plugged into.
#[derive(Debug)]
pub(crate) struct Switch {
    ovs: dockline_ovsdb::Switch,
    links: Links,
    bridge: IfName,
    /// The address of the bridge's own device. Without one it would take a port's, and change
    /// when that port goes, whereupon the host is not reachable for a while.
    bridge_mac: MacAddr,
    choice: DatapathChoice,
    /// One change of an endpoint at a time.
    changes: Keyed<EndpointId>,
}

impl Switch {
    /// The switch that the configuration names, which need not be there yet.
    pub(crate) fn new(config: &Net, host: &str) -> Result<Self, LinkError> {
        let client = Client::start(Config::new(&config.ovsdb));
        Ok(Self {
            ovs: dockline_ovsdb::Switch::new(client),
            links: Links::open()?,
            bridge: config.bridge.clone(),
            bridge_mac: mac_of_host(host),
            choice: config.datapath,
            changes: Keyed::default(),
        })
    }

    /// The bridge's name.
    pub(crate) fn bridge(&self) -> &IfName {
        &self.bridge
    }

    /// The network devices of the host.
    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    /// Looks at what is on the switch; nothing as long as Open vSwitch does not answer.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&Picture) -> T) -> Option<T> {
        self.ovs.client().look(|picture| picture.is_connected().then(|| at(picture)))
    }

    /// Takes the lock of an endpoint if nobody has it.
    pub(crate) async fn lock(&self, endpoint: &EndpointId) -> Result<Held<EndpointId>, Failure> {
        Ok(self.changes.lock(endpoint, CALL).await?)
    }

    /// Makes an endpoint's devices and its port. The same again is a success.
    pub(crate) async fn plug(&self, endpoint: &Endpoint, network: &Network) -> Result<(), Failure> {
        let deadline = Instant::now() + CALL;
        let _held = self.lock(&endpoint.id).await?;
        let names = endpoint.names()?;
        self.connected(deadline).await?;
        match self.find(&names.switch, &endpoint.id)? {
            Some(there) if there == *endpoint => return Ok(()),
            Some(_) => {
                let (port, endpoint) = (names.switch, endpoint.id.clone());
                return Err(Failure::EndpointConflict { port, endpoint });
            }
            None => {}
        }
        let datapath = self.ensure_bridge(deadline).await?;
        let made = self.make(endpoint, network, &names, datapath, deadline).await;
        if made.is_err() {
            self.take_back(&endpoint.id, &names).await;
        }
        made
    }

    async fn make(
        &self,
        endpoint: &Endpoint,
        network: &Network,
        names: &PortNames,
        datapath: Datapath,
        deadline: Instant,
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
        let port = PortSpec {
            bridge: self.bridge.to_string(),
            name: names.switch.clone(),
            kind: PortKind::System,
            vlan: network.vlan.map_or(VlanMode::Untagged, VlanMode::Access),
            mac: None,
            mtu: None,
            marks: marks(endpoint),
        };
        self.ovs.add_port(port, deadline).await?;
        Ok(())
    }

    /// Undoes [`Self::make`], as far as it got. What cannot be undone now is left to the janitor,
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

    /// Removes an endpoint's port and devices. One that is unknown is a success.
    pub(crate) async fn unplug(&self, endpoint: &EndpointId) -> Result<(), Failure> {
        let _held = self.lock(endpoint).await?;
        let names = PortNames::of(endpoint)?;
        let guard = Marks::new(Endpoint::MARK, endpoint.as_str());
        self.remove(&names.switch, &guard).await
    }

    /// Removes a port that bears these marks, and its devices. The devices go also when Open
    /// vSwitch does not answer: the container is gone, and its traffic ends now.
    pub(crate) async fn remove(&self, port: &IfName, guard: &Marks) -> Result<(), Failure> {
        let deadline = Instant::now() + CALL;
        let deleted = self.ovs.delete_port(port.as_str(), guard, Until::Committed, deadline).await;
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

    async fn connected(&self, deadline: Instant) -> Result<(), Failure> {
        self.ovs.client().connected(deadline).await.map_err(Failure::SwitchDown)
    }

    /// How packets are switched, once ovs-vswitchd has said what it can do.
    pub(crate) async fn datapath(&self, deadline: Instant) -> Result<Datapath, Failure> {
        let module = KernelModule::from(self.links.has_ovs_module()?);
        let mut picture = self.ovs.client().watch();
        let said = picture.wait_for(|picture| Datapath::choose(picture, module).is_some());
        let best = match timeout_at(deadline, said).await {
            Ok(Ok(picture)) => Datapath::choose(&picture, module),
            Ok(Err(_)) | Err(_) => None,
        };
        let best = best.ok_or(Failure::VswitchdDown)?;
        Ok(match self.choice {
            DatapathChoice::Auto => best,
            DatapathChoice::Kernel => Datapath::Kernel,
            DatapathChoice::Userspace => {
                Datapath::Userspace(dockline_ovsdb::datapath::Reason::Asked)
            }
        })
    }

    /// Makes the bridge, unless it is as it should be.
    async fn ensure_bridge(&self, deadline: Instant) -> Result<Datapath, Failure> {
        let datapath = self.datapath(deadline).await?;
        let bridge = BridgeSpec {
            name: self.bridge.to_string(),
            datapath_type: datapath.datapath_type().to_owned(),
            fail_mode: FailMode::Standalone,
            mac: Some(self.bridge_mac),
            other_config: Default::default(),
            marks: Marks::new(BRIDGE_MARK.0, BRIDGE_MARK.1),
        };
        let done = self.ovs.ensure_bridge(&bridge, deadline).await?;
        if done == BridgeDone::Created {
            tracing::info!(bridge = %self.bridge, %datapath, "made the bridge");
        }
        Ok(datapath)
    }
}

fn marks(endpoint: &Endpoint) -> Marks {
    let first = Marks::new(Endpoint::MARK, endpoint.id.as_str());
    endpoint.marks().into_iter().fold(first, |marks, (key, value)| marks.with(key, value))
}

/// A MAC that stays the same as long as the host's name does (FNV-1a, 64 bits, of the name).
fn mac_of_host(host: &str) -> MacAddr {
    let hash = host.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    MacAddr::local([a, b, c, d, e])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridges_address_follows_from_the_hosts_name() {
        assert_eq!(mac_of_host("host-1"), mac_of_host("host-1"));
        assert_ne!(mac_of_host("host-1"), mac_of_host("host-2"));
    }
}
