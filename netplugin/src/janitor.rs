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
    /// Devices without a port.
    Devices,
}

/// Removes what a crash left behind.
#[derive(Debug)]
pub(crate) struct Janitor {
    switch: Arc<Switch>,
    every: Duration,
    /// What was dead at the last look.
    suspects: BTreeMap<PortNames, Dead>,
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
        for (names, how) in &dead {
            if self.suspects.get(names) == Some(how) {
                self.remove(names, how).await;
            }
        }
        tracing::debug!(elapsed_ms = started.elapsed().as_millis(), dead = dead.len(), "looked");
        self.suspects = dead;
        self.switch.mend_limits(&links).await
    }

    async fn remove(&self, names: &PortNames, how: &Dead) {
        let removed = match how {
            Dead::Port(endpoint) | Dead::Unused(endpoint) => self.switch.unplug(endpoint).await,
            Dead::Devices => self.switch.remove_devices(names).await,
        };
        let port = &names.switch;
        match removed {
            Ok(()) => tracing::warn!(%port, ?how, "removed what was left behind"),
            Err(error) => tracing::warn!(%port, ?how, %error, "cannot remove what was left behind"),
        }
    }
}

/// Our ports, by their names, with their endpoints.
fn ports(picture: &dockline_ovsdb::Picture) -> BTreeMap<PortNames, EndpointId> {
    let ours = picture.ports().filter_map(|(_, port)| {
        let endpoint = port.external_ids.get(Endpoint::MARK)?.parse().ok()?;
        Some((PortNames::having(&port.name)?, endpoint))
    });
    ours.collect()
}

/// What is dead, given our ports and the host's devices.
fn dead(ports: &BTreeMap<PortNames, EndpointId>, links: &[Link]) -> BTreeMap<PortNames, Dead> {
    let by_name = links.iter().map(|link| (link.name.as_str(), link)).collect();
    let mut dead = BTreeMap::new();
    for (names, endpoint) in ports {
        // When a container's namespace goes, so does its end, and with it the other end.
        let how = match end(&by_name, &names.host, &names.container) {
            End::Gone => Dead::Port(endpoint.clone()),
            End::Here => Dead::Unused(endpoint.clone()),
            End::Elsewhere => continue,
        };
        dead.insert(names.clone(), how);
    }
    for link in links {
        let Some(names) = PortNames::having(&link.name) else { continue };
        if !ports.contains_key(&names) && is_left_behind(&names, &by_name) {
            dead.insert(names, Dead::Devices);
        }
    }
    dead
}

type ByName<'a> = BTreeMap<&'a str, &'a Link>;

/// Where the other end of a pair as only we name them is.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// There is no such pair.
    Gone,
    /// On the host.
    Here,
    /// In a container, or what looks so: it might be in use.
    Elsewhere,
}

fn end(by_name: &ByName, near: &IfName, far: &IfName) -> End {
    let Some(link) = by_name.get(near.as_str()) else { return End::Gone };
    let far = by_name.get(far.as_str()).map(|far| Peer::Here(far.index));
    if link.kind == Kind::Veth && far.is_some() && link.peer == far {
        End::Here
    } else {
        End::Elsewhere
    }
}

/// Whether devices without a port are ours and nobody's: each pair is gone, or whole and here.
fn is_left_behind(names: &PortNames, by_name: &ByName) -> bool {
    let ends =
        [end(by_name, &names.host, &names.container), end(by_name, &names.switch, &names.joint)];
    ends.contains(&End::Here) && !ends.contains(&End::Elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, peer: Option<Peer>) -> Link {
        let kind = if peer.is_some() { Kind::Veth } else { Kind::Plain };
        let name = name.to_owned();
        let counters = Default::default();
        Link { index, name, kind, mac: None, mtu: 1500, up: true, master: None, peer, counters }
    }

    /// A whole wire whose devices have these indices: container, host, joint, switch.
    fn wire(digits: &str, [container, host, joint, switch]: [u32; 4]) -> [Link; 4] {
        let pair = |prefix: &str, index, peer| {
            link(index, &format!("{prefix}-{digits}"), Some(Peer::Here(peer)))
        };
        [
            pair("dc", container, host),
            pair("dh", host, container),
            pair("ds", joint, switch),
            pair("dl", switch, joint),
        ]
    }

    fn ours(digits: &[&str]) -> BTreeMap<PortNames, EndpointId> {
        let endpoint = |digits: &&str| {
            let id: EndpointId = digits.parse().unwrap();
            (PortNames::of(&id).unwrap(), id)
        };
        digits.iter().map(endpoint).collect()
    }

    #[test]
    fn what_a_container_has_and_what_is_not_ours_is_left_alone() {
        let mut used = wire("aaaa", [2, 3, 4, 5]).to_vec();
        used.remove(0);
        used[0].peer = Some(Peer::Elsewhere);
        let mut lost_its_port = used.clone();
        lost_its_port.iter_mut().for_each(|link| link.name = link.name.replace("aaaa", "bbbb"));
        let strangers = [
            link(1, "eth0", None),
            link(20, "dl-cccc", Some(Peer::Here(21))),
            link(21, "veth9", Some(Peer::Here(20))),
            link(22, "dh-dddd", None),
            link(23, "dc-dddd", None),
        ];
        let links = [used, lost_its_port, strangers.to_vec()].concat();
        assert_eq!(dead(&ours(&["aaaa"]), &links), BTreeMap::new());
    }

    #[test]
    fn what_is_dead_is_told_apart() {
        // The container's namespace is gone, and its pair with it.
        let gone = wire("aaaa", [2, 3, 4, 5])[2..].to_vec();
        let unused = wire("bbbb", [6, 7, 8, 9]).to_vec();
        let without_port = wire("cccc", [10, 11, 12, 13]).to_vec();
        let half = wire("dddd", [14, 15, 16, 17])[..2].to_vec();
        let links = [gone, unused, without_port, half].concat();
        let dead = dead(&ours(&["aaaa", "bbbb", "eeee"]), &links);
        let of = |digits: &str| {
            let names = ours(&[digits]).into_keys().next().unwrap();
            dead.get(&names).cloned()
        };
        assert_eq!(of("aaaa"), Some(Dead::Port("aaaa".parse().unwrap())));
        assert_eq!(of("eeee"), Some(Dead::Port("eeee".parse().unwrap())));
        assert_eq!(of("bbbb"), Some(Dead::Unused("bbbb".parse().unwrap())));
        assert_eq!(of("cccc"), Some(Dead::Devices));
        assert_eq!(of("dddd"), Some(Dead::Devices));
        assert_eq!(dead.len(), 5);
    }
}
