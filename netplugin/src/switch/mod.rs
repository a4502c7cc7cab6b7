//! The bridge, and endpoints as ports on it ([`plug`]) with their bandwidth ([`limits`]). There is no memory of endpoints here: what
//! is on the switch is what there is.

mod limits;
mod plug;

use std::time::Duration;

use dockline_daemon::config::{DatapathChoice, Net};
use dockline_links::{LinkError, Links};
use dockline_locks::Keyed;
use dockline_ovsdb::switch::{BridgeDone, BridgeSpec, FailMode, Marks};
use dockline_ovsdb::{Client, Config, Datapath, KernelModule, Picture};
use dockline_types::{IfName, MacAddr};
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;

/// How long one call may take; dockerd is told sooner than the server gives up on it (30 s).
const CALL: Duration = Duration::from_secs(20);

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
    /// One change of a port at a time. By the port's name, which two endpoints could share.
    changes: Keyed<IfName>,
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

    async fn connected(&self, deadline: Instant) -> Result<(), Failure> {
        self.ovs.client().connected(deadline).await.map_err(Failure::SwitchDown)
    }

    /// How packets are switched, once ovs-vswitchd has said what it can do.
    pub(crate) async fn datapath(&self, deadline: Instant) -> Result<Datapath, Failure> {
        self.ovs.initialise(deadline).await.map_err(Failure::SwitchDown)?;
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
