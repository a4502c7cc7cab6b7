//! Bandwidth: limits on the devices in the middle of each wire, written on the port as marks.
//!
//! Nobody but this daemon touches those devices: not Open vSwitch, which resets the queues of its
//! ports whenever it starts, and not the container, whatever its rights. So a limit holds without
//! a gap while everything around it is restarted. The marks say what it is to be; that it is so is
//! looked at again and again.

use std::collections::BTreeMap;

use dockline_links::{Link, Shape, Shaped};
use dockline_net_core::rate::{Limit, Limits};
use dockline_net_core::{Endpoint, PortNames};
use dockline_ovsdb::switch::{Marks, Target};
use dockline_ovsdb::value::Datum;
use dockline_types::EndpointId;
use tokio::time::Instant;

use super::{CALL, Switch};
use crate::failure::Failure;

/// Rates are counted on IP packets, the shaper counts Ethernet frames.
const ETHERNET_HEADER: u64 = 14;

/// The limit in the shaper's terms, for packets of this MTU.
fn shape(limit: &Limit, mtu: u32) -> Shape {
    let mtu = u64::from(mtu.max(1));
    let frame = mtu + ETHERNET_HEADER;
    let bytes = u128::from(limit.rate.bits()) * u128::from(frame) / u128::from(mtu) / 8;
    // A frame that does not fit into the burst would never be sent.
    let least = 2 * frame;
    Shape {
        bytes_per_s: u64::try_from(bytes).unwrap_or(u64::MAX),
        burst: u32::try_from(limit.burst_bytes().max(least)).unwrap_or(u32::MAX),
        queue: u32::try_from(limit.queue_bytes()).unwrap_or(u32::MAX),
    }
}

impl Switch {
    /// Puts an endpoint's limits on its devices.
    pub(super) async fn limit(&self, names: &PortNames, limits: &Limits) -> Result<(), Failure> {
        for (device, limit) in [(&names.host, limits.rx), (&names.joint, limits.tx)] {
            let link = self.links.find(device).await?;
            let link =
                link.ok_or_else(|| dockline_links::LinkError::Missing(device.to_string()))?;
            self.links.shape(link.index, limit.map(|limit| shape(&limit, link.mtu))).await?;
        }
        Ok(())
    }

    /// Changes an endpoint's limits while it is in use.
    pub(crate) async fn set_limits(
        &self,
        id: &EndpointId,
        change: impl FnOnce(Limits) -> Result<Limits, Failure>,
    ) -> Result<Limits, Failure> {
        let deadline = Instant::now() + CALL;
        let names = PortNames::of(id)?;
        let _held = self.changes.lock(&names.switch, CALL).await?;
        self.connected(deadline).await?;
        let unknown = || Failure::UnknownEndpoint(id.clone());
        let endpoint = self.find(&names.switch, id)?.ok_or_else(unknown)?;
        let limits = change(endpoint.limits)?;
        let port = names.switch.as_str();
        let there = |picture: &dockline_ovsdb::Picture| {
            picture.port(port).map(|(_, port)| port.external_ids.clone())
        };
        let marks = self.ovs.client().look(there).ok_or_else(unknown)?;
        // First what it is to be: should this be cut short, the next look brings it about.
        let marks = Endpoint::with_limits(&marks, &limits);
        let guard = Marks::new(Endpoint::MARK, id.as_str());
        let columns = vec![("external_ids", Datum::map(&marks))];
        self.ovs.set_columns(Target::Port, port, &guard, columns, deadline).await?;
        self.limit(&names, &limits).await?;
        Ok(limits)
    }

    /// Brings the limits of these endpoints to what their marks say, and tells what differed.
    pub(crate) async fn mend_limits(&self, links: &[Link]) -> Result<(), Failure> {
        let marked = self.look(|picture| {
            let endpoints = picture
                .ports()
                .filter_map(|(_, port)| Endpoint::from_marks(&port.external_ids).ok());
            endpoints.collect::<Vec<_>>()
        });
        let by_name: BTreeMap<_, _> = links.iter().map(|link| (link.name.as_str(), link)).collect();
        let shaped = self.links.shaped().await?;
        for endpoint in marked.unwrap_or_default() {
            let names = endpoint.names()?;
            let ends = [(&names.host, endpoint.limits.rx), (&names.joint, endpoint.limits.tx)];
            let differs = ends.into_iter().any(|(device, limit)| {
                by_name.get(device.as_str()).is_some_and(|link| {
                    !is_as_asked(shaped.get(&link.index), limit.map(|it| shape(&it, link.mtu)))
                })
            });
            if differs {
                // Under the lock it may be another by now: what is asked then is what is done.
                self.set_limits(&endpoint.id, Ok).await?;
                tracing::warn!(port = %names.switch, "its limits were not in effect; they are now");
            }
        }
        Ok(())
    }
}

fn is_as_asked(found: Option<&Shaped>, asked: Option<Shape>) -> bool {
    match (found, asked) {
        (None, None) => true,
        (Some(found), Some(asked)) => found.is(&asked),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_ip_packets() {
        let limit = Limit { rate: "12mbit".parse().unwrap(), burst: None };
        assert_eq!(shape(&limit, 1500).bytes_per_s, 1_514_000);
        let most = Limit { rate: "1tbit".parse().unwrap(), burst: None };
        assert_eq!(shape(&most, 9000).burst, 1 << 30);
    }

    #[test]
    fn what_differs_is_seen() {
        let limit = Limit { rate: "12mbit".parse().unwrap(), burst: None };
        let asked = shape(&limit, 1500);
        let Shape { bytes_per_s, queue, .. } = asked;
        let found = Shaped { bytes_per_s, queue, dropped: 9 };
        assert!(is_as_asked(None, None) && is_as_asked(Some(&found), Some(asked)));
        assert!(!is_as_asked(None, Some(asked)) && !is_as_asked(Some(&found), None));
        let faster = Shape { bytes_per_s: bytes_per_s + 1, ..asked };
        assert!(!is_as_asked(Some(&found), Some(faster)));
    }
}
