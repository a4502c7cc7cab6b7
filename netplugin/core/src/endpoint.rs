//! An endpoint: one container's port on a network.
//!
//! What is known of it stands in the [marks](crate::marks) of its port in OVSDB and nowhere else,
//! so that it is there exactly as long as the port is.

use std::net::IpAddr;

use dockline_plugin_specs::network::{
    CreateEndpoint, EndpointInterface, InterfaceName, Joined, PORT_MAP,
};
use dockline_types::{EndpointId, IfNameError, MacAddr, NetworkId};
use ipnet::IpNet;
use serde_json::Value;

use crate::endpoint_options::{EndpointOptionError, EndpointOptions};
use crate::identity::Identity;
use crate::names::PortNames;
use crate::network::Network;
use crate::options::PublishedPorts;
use crate::rate::Limits;
use crate::vlans::Vlans;

/// What Docker calls a container's interfaces, with a number after it.
const IN_CONTAINER: &str = "eth";

/// Why an endpoint cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// `-p` on a network that refuses it.
    #[error(
        "ports cannot be published on this network: its containers are reachable directly, by \
         their own addresses. Leave out -p, or make the network with -o published-ports=ignore"
    )]
    PublishedPorts,
    /// An option is wrong.
    #[error(transparent)]
    Option(#[from] EndpointOptionError),
    /// The id does not make a device name.
    #[error("the endpoint's id does not make a name for its interface")]
    Name(#[from] IfNameError),
}

/// One container's port on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Docker's id of it.
    pub id: EndpointId,
    /// Docker's id of its network.
    pub network: NetworkId,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its IPv4 address.
    pub ipv4: Option<IpNet>,
    /// Its IPv6 address.
    pub ipv6: Option<IpNet>,
    /// The VLANs that it gets tagged, besides its network's untagged.
    pub trunk: Option<Vlans>,
    /// What it may receive and send; the one thing that may change while it is there.
    pub limits: Limits,
}

impl Endpoint {
    /// The endpoint that a request asks for.
    pub fn from_request(
        request: &CreateEndpoint,
        network: &Network,
    ) -> Result<Self, EndpointError> {
        if network.published_ports == PublishedPorts::Refuse && publishes(request) {
            return Err(EndpointError::PublishedPorts);
        }
        let options = EndpointOptions::parse(&request.options, network.vlan)?;
        let limits = options.limits.over(network.limits).map_err(EndpointOptionError::from)?;
        let EndpointInterface { address, address_ipv6, mac_address } = request.interface;
        let endpoint = Self {
            id: request.endpoint_id.clone(),
            network: request.network_id.clone(),
            mac: mac_address.unwrap_or_else(|| mac_for(&request.endpoint_id, address)),
            ipv4: address,
            ipv6: address_ipv6,
            trunk: options.trunk,
            limits,
        };
        endpoint.names()?;
        Ok(endpoint)
    }

    /// Whether the other is this endpoint, whatever its limits are by now.
    pub fn is_same(&self, other: &Self) -> bool {
        *other == Self { limits: other.limits, ..self.clone() }
    }

    /// Who its container is.
    pub fn identity(&self) -> Identity {
        let (mut ipv4, mut ipv6) = (None, None);
        for address in [self.ipv4, self.ipv6].into_iter().flatten() {
            match address.addr() {
                IpAddr::V4(address) => ipv4 = Some(address),
                IpAddr::V6(address) => ipv6 = Some(address),
            }
        }
        Identity { mac: self.mac, ipv4, ipv6, trunk: self.trunk.is_some() }
    }

    /// The names of its devices.
    pub fn names(&self) -> Result<PortNames, IfNameError> {
        PortNames::of(&self.id)
    }

    /// What the engine is answered: only what its request left open.
    pub fn answer(&self, request: &EndpointInterface) -> EndpointInterface {
        EndpointInterface {
            address: None,
            address_ipv6: None,
            mac_address: request.mac_address.is_none().then_some(self.mac),
        }
    }

    /// What a container that joins is told.
    pub fn joined(&self, network: &Network) -> Result<Joined, IfNameError> {
        let gateway = |address: Option<IpNet>| network.gateway_for(address?.addr());
        Ok(Joined {
            interface_name: Some(InterfaceName {
                src_name: self.names()?.container,
                dst_prefix: IN_CONTAINER.to_owned(),
            }),
            gateway: gateway(self.ipv4),
            gateway_ipv6: gateway(self.ipv6),
            static_routes: Vec::new(),
            // Without it the engine adds an interface on its own bridge wherever there is no
            // gateway: a way out that the network was made not to have.
            disable_gateway_service: true,
        })
    }
}

/// Whether the container publishes ports (`-p`).
pub fn publishes(request: &CreateEndpoint) -> bool {
    let published = request.options.get(PORT_MAP).and_then(Value::as_array);
    published.is_some_and(|ports| !ports.is_empty())
}

/// The MAC that follows from the address, so that a container that keeps its address keeps its
/// MAC; without an IPv4 address, one that follows from the endpoint's id.
fn mac_for(endpoint: &EndpointId, address: Option<IpNet>) -> MacAddr {
    if let Some(IpNet::V4(address)) = address {
        return MacAddr::from_ipv4(address.addr());
    }
    let mut unique = [0; 5];
    for (byte, pair) in unique.iter_mut().zip(endpoint.as_str().as_bytes().chunks(2)) {
        let digit = |at: usize| pair.get(at).map_or(0, |&d| (d as char).to_digit(16).unwrap_or(0));
        *byte = (digit(0) << 4 | digit(1)).to_le_bytes()[0];
    }
    MacAddr::local(unique)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn network(options: Value) -> Network {
        let request = json!({
            "NetworkID": "abc",
            "Options": options,
            "IPv4Data": [{"Pool": "10.100.0.0/24", "Gateway": "10.100.0.1/24"}],
            "IPv6Data": [{"Pool": "2001:db8::/64", "Gateway": "2001:db8::1/64"}],
        });
        let request = serde_json::from_value(request).unwrap();
        Network::from_request(&request, crate::options::Mtu::new(1500).unwrap()).unwrap()
    }

    fn request(interface: Value, options: Value) -> CreateEndpoint {
        let request = json!({
            "NetworkID": "abc", "EndpointID": "0123456789abcdef0123",
            "Interface": interface, "Options": options,
        });
        serde_json::from_value(request).unwrap()
    }

    fn endpoint(interface: Value) -> Endpoint {
        Endpoint::from_request(&request(interface, json!({})), &network(json!({}))).unwrap()
    }

    #[test]
    fn the_mac_follows_from_the_address_unless_it_is_given() {
        let chosen = endpoint(json!({"Address": "10.100.0.2/24", "MacAddress": ""}));
        assert_eq!(chosen.mac.to_string(), "02:42:0a:64:00:02");
        let given =
            endpoint(json!({"Address": "10.100.0.2/24", "MacAddress": "02:00:00:00:00:09"}));
        assert_eq!(given.mac.to_string(), "02:00:00:00:00:09");
        let ipv6_only = endpoint(json!({"AddressIPv6": "2001:db8::2/64"}));
        assert_eq!(ipv6_only.mac.to_string(), "02:01:23:45:67:89");
    }

    #[test]
    fn only_what_the_request_left_open_is_answered() {
        let open = EndpointInterface::default();
        let made = endpoint(json!({"Address": "10.100.0.2/24"}));
        assert_eq!(made.answer(&open).mac_address, Some(made.mac));
        let given = EndpointInterface { mac_address: Some(made.mac), ..open };
        assert_eq!(made.answer(&given), EndpointInterface::default());
    }

    #[test]
    fn published_ports_are_refused_or_passed_over() {
        let published = request(json!({}), json!({PORT_MAP: [{"Proto": 6, "Port": 80}]}));
        let refused = Endpoint::from_request(&published, &network(json!({})));
        assert_eq!(refused, Err(EndpointError::PublishedPorts));
        let ignores = network(json!({"com.docker.network.generic": {"published-ports": "ignore"}}));
        assert!(Endpoint::from_request(&published, &ignores).is_ok());
        let none = request(json!({}), json!({PORT_MAP: []}));
        assert!(Endpoint::from_request(&none, &network(json!({}))).is_ok());
    }

    #[test]
    fn options_are_the_endpoints_own_or_else_the_networks() {
        let limited = network(json!({"com.docker.network.generic": {"rx-rate": "10mbit"}}));
        let asked = request(json!({}), json!({"trunk": "7,8", "tx-rate": "5mbit"}));
        let made = Endpoint::from_request(&asked, &limited).unwrap();
        assert_eq!(made.trunk.as_ref().map(ToString::to_string), Some("7-8".to_owned()));
        assert_eq!(made.limits.rx, limited.limits.rx);
        assert_eq!(made.limits.tx.unwrap().rate.to_string(), "5mbit");
        let live = Endpoint { limits: Limits::default(), ..made.clone() };
        assert!(made.is_same(&live));
        assert!(!made.is_same(&Endpoint { trunk: None, ..live }));
        let unknown = Endpoint::from_request(&request(json!({}), json!({"speed": "1"})), &limited);
        assert!(matches!(unknown, Err(EndpointError::Option(_))), "{unknown:?}");
    }

    #[test]
    fn a_container_that_joins_gets_its_subnets_routers_and_never_dockers_bridge() {
        let made = endpoint(json!({"Address": "10.100.0.2/24", "AddressIPv6": "2001:db8::2/64"}));
        let joined = made.joined(&network(json!({}))).unwrap();
        assert_eq!(joined.gateway, Some("10.100.0.1".parse().unwrap()));
        assert_eq!(joined.gateway_ipv6, Some("2001:db8::1".parse().unwrap()));
        assert!(joined.disable_gateway_service);
        assert_eq!(joined.interface_name.unwrap().src_name.as_str(), "dc-0123456789ab");
        let internal = network(json!({"com.docker.network.internal": true}));
        assert_eq!(made.joined(&internal).unwrap().gateway, None);
    }
}
