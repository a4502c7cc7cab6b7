//! A network: what Docker and the user said of it, and the record that is kept.

use std::net::IpAddr;

use dockline_plugin_specs::network::{CreateNetwork, IpamData};
use dockline_types::{NetworkId, PoolCidr, VlanId};
use serde::{Deserialize, Serialize};

use crate::options::{Mtu, NetworkOptions, OptionError, PortSecurity, PublishedPorts};
use crate::rate::Limits;

/// The smallest MTU of a link that carries IPv6 (RFC 8200).
const IPV6_LEAST_MTU: u32 = 1280;

/// Why a network cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// An option is wrong.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// IPv6 does not fit.
    #[error("network option mtu={0}: IPv6 needs at least {IPV6_LEAST_MTU} bytes")]
    MtuTooSmallForIpv6(u32),
}

/// One subnet of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its addresses.
    pub pool: PoolCidr,
    /// The router of its containers.
    pub gateway: Option<IpAddr>,
}

/// A network. It is also the record kept in the store, as JSON; fields are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Docker's id of it.
    pub id: NetworkId,
    /// The VLAN its containers are on; untagged without one.
    pub vlan: Option<VlanId>,
    /// The MTU of its containers' interfaces.
    pub mtu: Mtu,
    /// `--internal`: its containers get no default route.
    pub internal: bool,
    /// What becomes of published ports.
    pub published_ports: PublishedPorts,
    /// Its IPv4 and IPv6 subnets.
    pub subnets: Vec<Subnet>,
    /// Whether its containers are held to their own addresses.
    #[serde(default)]
    pub port_security: PortSecurity,
    /// What each of its containers may receive and send.
    #[serde(default)]
    pub limits: Limits,
}

impl Network {
    /// The network that a request asks for.
    pub fn from_request(request: &CreateNetwork, default_mtu: Mtu) -> Result<Self, NetworkError> {
        let options = NetworkOptions::parse(&request.options.generic)?;
        let mtu = options.mtu.unwrap_or(default_mtu);
        let subnets = request.ipv4_data.iter().chain(&request.ipv6_data).filter_map(subnet);
        let subnets: Vec<_> = subnets.collect();
        let ipv6 = subnets.iter().any(|subnet| subnet.pool.net().addr().is_ipv6());
        if ipv6 && mtu.bytes() < IPV6_LEAST_MTU {
            return Err(NetworkError::MtuTooSmallForIpv6(mtu.bytes()));
        }
        Ok(Self {
            id: request.network_id.clone(),
            vlan: options.vlan,
            mtu,
            internal: request.options.internal.unwrap_or(false),
            published_ports: options.published_ports,
            subnets,
            port_security: options.port_security,
            limits: options.limits.over(Limits::default()).map_err(OptionError::from)?,
        })
    }

    /// The router towards which a container with this address sends what is not on its subnet.
    pub fn gateway_for(&self, address: IpAddr) -> Option<IpAddr> {
        if self.internal {
            return None;
        }
        let subnet = self.subnets.iter().find(|subnet| subnet.pool.contains(address))?;
        subnet.gateway
    }
}

/// A subnet as the engine tells it; without a pool (`--ipam-driver null`) there is none.
fn subnet(data: &IpamData) -> Option<Subnet> {
    // The unspecified address is how some IPAM drivers say that there is no gateway.
    let gateway = data.gateway.map(|gateway| gateway.addr()).filter(|ip| !ip.is_unspecified());
    data.pool.map(|pool| Subnet { pool, gateway })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(options: serde_json::Value, ipv6: bool) -> CreateNetwork {
        let ipv6_data = if ipv6 { json!([{"Pool": "2001:db8::/64"}]) } else { json!(null) };
        serde_json::from_value(json!({
            "NetworkID": "abc",
            "Options": options,
            "IPv4Data": [{
                "AddressSpace": "x", "Pool": "10.100.0.0/24", "Gateway": "10.100.0.1/24",
                "AuxAddresses": {"router": "10.100.0.9/24"},
            }],
            "IPv6Data": ipv6_data,
        }))
        .unwrap()
    }

    fn network(options: serde_json::Value, ipv6: bool) -> Result<Network, NetworkError> {
        Network::from_request(&request(options, ipv6), Mtu::new(1500).unwrap())
    }

    #[test]
    fn the_engines_own_options_are_passed_over_and_the_users_are_not() {
        let engine = json!({
            "com.docker.network.enable_ipv4": true, "com.docker.network.enable_ipv6": false,
            "com.docker.network.something.new": {"any": 1},
            "com.docker.network.generic": {"vlan": "100"},
        });
        let made = network(engine, false).unwrap();
        assert_eq!(made.vlan.map(VlanId::get), Some(100));
        assert_eq!(made.mtu.bytes(), 1500);
        let wrong = json!({"com.docker.network.generic": {"vlan": "4095"}});
        assert!(matches!(network(wrong, false), Err(NetworkError::Option(OptionError::Vlan(_)))));
    }

    #[test]
    fn the_gateway_is_the_subnets_own_and_an_internal_network_has_none() {
        let inside = "10.100.0.7".parse().unwrap();
        let outside = "10.101.0.7".parse().unwrap();
        let made = network(json!({}), false).unwrap();
        assert_eq!(made.gateway_for(inside), Some("10.100.0.1".parse().unwrap()));
        assert_eq!(made.gateway_for(outside), None);
        let internal = network(json!({"com.docker.network.internal": true}), false).unwrap();
        assert_eq!(internal.gateway_for(inside), None);
    }

    #[test]
    fn an_mtu_too_small_for_ipv6_is_refused_where_there_is_ipv6() {
        let small = json!({"com.docker.network.generic": {"mtu": "1279"}});
        assert!(network(small.clone(), false).is_ok());
        assert_eq!(network(small, true), Err(NetworkError::MtuTooSmallForIpv6(1279)));
    }

    #[test]
    fn the_record_reads_back_the_same() {
        let options = json!({"vlan": "7", "rx-rate": "10mbit", "tx-rate": "1gbit"});
        let made = network(json!({"com.docker.network.generic": options}), true).unwrap();
        let record = serde_json::to_vec(&made).unwrap();
        assert_eq!(serde_json::from_slice::<Network>(&record).unwrap(), made);
        // As it was written before networks had limits.
        let mut older: serde_json::Value = serde_json::from_slice(&record).unwrap();
        older.as_object_mut().unwrap().remove("limits");
        older.as_object_mut().unwrap().remove("port_security");
        let read: Network = serde_json::from_value(older).unwrap();
        assert_eq!(read, Network { limits: Limits::default(), ..made });
    }
}
