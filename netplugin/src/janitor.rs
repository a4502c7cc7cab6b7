//! What a crash left behind: ports without a device, devices without a port, and endpoints that no
//! container ever got or that were left.
//!
//! After a crash of dockerd or of the host, Docker often does not ask for an endpoint's removal
//! (moby, `cleanupLocalEndpoints`). Only what bears our marks is touched, only after it was seen
//! dead twice with a while between, and each removal is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dockline_links::{Kind, Link, Peer};
use dockline_net_core::{Endpoint, PortNames};
use dockline_types::{EndpointId, IfName};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::switch::Switch;

/// Something that is dead, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Dead {
    /// A port whose device is gone.
    Port(EndpointId),
    /// A port whose container's end is on the host: no container has it.
    Unused(EndpointId),
    /// A pair of devices without a port.
    Devices,
}

/// Removes what a crash left behind.
#[derive(Debug)]
pub(crate) struct Janitor {
    switch: Arc<Switch>,
    every: Duration,
    /// What was dead at the last look, by the name of the switch's end.
    suspects: BTreeMap<IfName, Dead>,
}

impl Janitor {
    /// A janitor of this switch that looks so often. Between making an endpoint and giving it to
    /// its container Docker takes milliseconds, so what is the same at two looks is nobody's.
    pub(crate) fn new(switch: Arc<Switch>, every: Duration) -> Self {
        Self { switch, every, suspects: BTreeMap::new() }
    }

    /// Looks again and again until told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "cannot look for what a crash left behind");
            }
        }
    }

    async fn look(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let links = self.switch.links().list().await?;
        // Without Open vSwitch nothing can be told dead; what was suspect is looked at anew.
        let Some(ports) = self.switch.look(ports) else {
            self.suspects.clear();
            return Ok(());
        };
        let dead = dead(&ports, &links);
        for (port, how) in &dead {
            if self.suspects.get(port) == Some(how) {
                self.remove(port, how).await;
            }
        }
        tracing::debug!(elapsed_ms = started.elapsed().as_millis(), dead = dead.len(), "looked");
        self.suspects = dead;
        Ok(())
    }

    async fn remove(&self, port: &IfName, how: &Dead) {
        let removed = match how {
            Dead::Port(endpoint) | Dead::Unused(endpoint) => self.switch.unplug(endpoint).await,
            Dead::Devices => self.switch.remove_devices(port).await,
        };
        match removed {
            Ok(()) => tracing::warn!(%port, ?how, "removed what was left behind"),
            Err(error) => tracing::warn!(%port, ?how, %error, "cannot remove what was left behind"),
        }
    }
}

/// Our ports, by name, with their endpoints.
fn ports(picture: &dockline_ovsdb::Picture) -> BTreeMap<IfName, EndpointId> {
    let ours = picture.ports().filter_map(|(_, port)| {
        let endpoint = port.external_ids.get(Endpoint::MARK)?.parse().ok()?;
        Some((port.name.parse().ok()?, endpoint))
    });
    ours.collect()
}

/// What is dead, given our ports and the host's devices.
fn dead(ports: &BTreeMap<IfName, EndpointId>, links: &[Link]) -> BTreeMap<IfName, Dead> {
    let by_name: BTreeMap<&str, &Link> =
        links.iter().map(|link| (link.name.as_str(), link)).collect();
    let mut dead = BTreeMap::new();
    for (port, endpoint) in ports {
        match by_name.get(port.as_str()) {
            None => {
                dead.insert(port.clone(), Dead::Port(endpoint.clone()));
            }
            Some(link) if matches!(link.peer, Some(Peer::Here(_))) => {
                dead.insert(port.clone(), Dead::Unused(endpoint.clone()));
            }
            Some(_) => {}
        }
    }
    for link in links {
        let Ok(name) = link.name.parse::<IfName>() else { continue };
        if !ports.contains_key(&name) && is_our_pair(link, &name, &by_name) {
            dead.insert(name, Dead::Devices);
        }
    }
    dead
}

/// Whether a device is the switch's end of a pair as only we name them. With its other end in a
/// container it might still be in use, so it is left alone.
fn is_our_pair(link: &Link, name: &IfName, by_name: &BTreeMap<&str, &Link>) -> bool {
    let Some(container_end) = PortNames::container_end_of(name) else { return false };
    let Some(other) = by_name.get(container_end.as_str()) else { return false };
    link.kind == Kind::Veth && link.peer == Some(Peer::Here(other.index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, peer: Option<Peer>) -> Link {
        let kind = if peer.is_some() { Kind::Veth } else { Kind::Plain };
        let name = name.to_owned();
        Link { index, name, kind, mac: None, mtu: 1500, up: true, master: None, peer }
    }

    fn ours(names: &[&str]) -> BTreeMap<IfName, EndpointId> {
        let endpoint = |name: &&str| (name.parse().unwrap(), name[3..].parse().unwrap());
        names.iter().map(endpoint).collect()
    }

    #[test]
    fn what_a_container_has_and_what_is_not_ours_is_left_alone() {
        let links = [
            link(1, "eth0", None),
            link(2, "dl-aaaa", Some(Peer::Elsewhere)),
            link(3, "dl-bbbb", Some(Peer::Elsewhere)),
            link(4, "dl-cccc", Some(Peer::Here(5))),
            link(5, "veth9", Some(Peer::Here(4))),
            link(6, "dc-dddd", None),
            link(7, "dl-dddd", None),
        ];
        assert_eq!(dead(&ours(&["dl-aaaa"]), &links), BTreeMap::new());
    }

    #[test]
    fn what_is_dead_is_told_apart() {
        let links = [
            link(2, "dl-bbbb", Some(Peer::Here(3))),
            link(3, "dc-bbbb", Some(Peer::Here(2))),
            link(4, "dl-cccc", Some(Peer::Here(5))),
            link(5, "dc-cccc", Some(Peer::Here(4))),
        ];
        let dead = dead(&ours(&["dl-aaaa", "dl-bbbb"]), &links);
        let of = |name: &str| dead.get(&name.parse::<IfName>().unwrap()).cloned();
        assert_eq!(of("dl-aaaa"), Some(Dead::Port("aaaa".parse().unwrap())));
        assert_eq!(of("dl-bbbb"), Some(Dead::Unused("bbbb".parse().unwrap())));
        assert_eq!(of("dl-cccc"), Some(Dead::Devices));
        assert_eq!(dead.len(), 3);
    }
}
