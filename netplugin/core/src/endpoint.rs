//! An endpoint: one container's port on a network.
//!
//! What is known of it stands in the marks (`external_ids`) of its port in OVSDB and nowhere else,
//! so that it is there exactly as long as the port is.

use std::collections::BTreeMap;

use dockline_plugin_specs::network::{
    CreateEndpoint, EndpointInterface, InterfaceName, Joined, PORT_MAP,
};
use dockline_types::{EndpointId, IfName, IfNameError, MacAddr, NetworkId};
use ipnet::IpNet;
use serde_json::Value;

use crate::network::Network;
use crate::options::PublishedPorts;

/// What Docker calls a container's interfaces, with a number after it.
const IN_CONTAINER: &str = "eth";

/// How much of an endpoint's id its devices' names hold: the prefix takes three of the kernel's
/// fifteen bytes. Ids are random, so that among a thousand endpoints of one host two are alike
/// with a chance of one in 10^8; that is then refused, not mixed up.
const ID_SHOWN: usize = 12;

/// Why an endpoint cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// `-p` on a network that refuses it.
    #[error(
        "ports cannot be published on this network: its containers are reachable directly, by \
         their own addresses. Leave out -p, or make the network with -o published-ports=ignore"
    )]
    PublishedPorts,
    /// An option of the endpoint that is not known.
    #[error("unknown endpoint option {key}={value}: this driver has none")]
    UnknownOption {
        /// The option.
        key: String,
        /// What it was set to, as JSON.
        value: String,
    },
    /// The id does not make a device name.
    #[error("the endpoint's id does not make a name for its interface")]
    Name(#[from] IfNameError),
}

/// Why a port's marks do not make an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarksError {
    /// It is not a port of ours.
    #[error("the port bears no mark of Dockline")]
    NotOurs,
    /// It is, and a mark is damaged.
    #[error("the port's mark {key}={value:?} is missing or damaged")]
    Damaged {
        /// The mark.
        key: &'static str,
        /// What it says.
        value: String,
    },
}

/// The names of an endpoint's two devices: a pair of which one end is on the switch and the other
/// in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortNames {
    /// The end on the switch, which is also the port's name.
    pub switch: IfName,
    /// The end that goes into the container, as long as it is on the host.
    pub container: IfName,
}

impl PortNames {
    /// The names that follow from an endpoint's id.
    pub fn of(endpoint: &EndpointId) -> Result<Self, IfNameError> {
        let id = endpoint.as_str();
        let id = &id[..id.len().min(ID_SHOWN)];
        let named = |prefix| format!("{prefix}{id}").parse();
        Ok(Self { switch: named("dl-")?, container: named("dc-")? })
    }

    /// The other end's name, if `switch` is the name of an end on the switch.
    pub fn container_end_of(switch: &IfName) -> Option<IfName> {
        format!("dc-{}", switch.as_str().strip_prefix("dl-")?).parse().ok()
    }
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
}

/// The marks of our ports; all begin alike, so that a person sees whose they are.
mod mark {
    pub(super) const NETWORK: &str = "dockline-network";
    pub(super) const ENDPOINT: &str = "dockline-endpoint";
    pub(super) const MAC: &str = "dockline-mac";
    pub(super) const IPV4: &str = "dockline-ipv4";
    pub(super) const IPV6: &str = "dockline-ipv6";
}

impl Endpoint {
    /// The mark that every port of ours bears.
    pub const MARK: &'static str = mark::ENDPOINT;

    /// The endpoint that a request asks for.
    pub fn from_request(
        request: &CreateEndpoint,
        network: &Network,
    ) -> Result<Self, EndpointError> {
        check_options(request, network)?;
        let EndpointInterface { address, address_ipv6, mac_address } = request.interface;
        let endpoint = Self {
            id: request.endpoint_id.clone(),
            network: request.network_id.clone(),
            mac: mac_address.unwrap_or_else(|| mac_for(&request.endpoint_id, address)),
            ipv4: address,
            ipv6: address_ipv6,
        };
        endpoint.names()?;
        Ok(endpoint)
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

    /// The marks of its port.
    pub fn marks(&self) -> BTreeMap<String, String> {
        let mut marks = BTreeMap::new();
        let mut mark = |key: &str, value: String| marks.insert(key.to_owned(), value);
        mark(mark::NETWORK, self.network.to_string());
        mark(mark::ENDPOINT, self.id.to_string());
        mark(mark::MAC, self.mac.to_string());
        if let Some(address) = self.ipv4 {
            mark(mark::IPV4, address.to_string());
        }
        if let Some(address) = self.ipv6 {
            mark(mark::IPV6, address.to_string());
        }
        marks
    }

    /// The endpoint that a port's marks tell of.
    pub fn from_marks(marks: &BTreeMap<String, String>) -> Result<Self, MarksError> {
        if !marks.contains_key(Self::MARK) {
            return Err(MarksError::NotOurs);
        }
        Ok(Self {
            id: needed(marks, mark::ENDPOINT)?,
            network: needed(marks, mark::NETWORK)?,
            mac: needed(marks, mark::MAC)?,
            ipv4: optional(marks, mark::IPV4)?,
            ipv6: optional(marks, mark::IPV6)?,
        })
    }
}

fn optional<T: std::str::FromStr>(
    marks: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Option<T>, MarksError> {
    let Some(value) = marks.get(key) else { return Ok(None) };
    let damaged = |_| MarksError::Damaged { key, value: value.clone() };
    value.parse().map(Some).map_err(damaged)
}

fn needed<T: std::str::FromStr>(
    marks: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<T, MarksError> {
    optional(marks, key)?.ok_or(MarksError::Damaged { key, value: String::new() })
}

/// The options of an endpoint are the user's `--driver-opt`s, of which there are none yet, and the
/// engine's own, which all begin alike.
fn check_options(request: &CreateEndpoint, network: &Network) -> Result<(), EndpointError> {
    let ours = request.options.iter().find(|(key, _)| !key.starts_with("com.docker.network."));
    if let Some((key, value)) = ours {
        let short = |text: &str| text.chars().take(64).collect();
        return Err(EndpointError::UnknownOption {
            key: short(key),
            value: short(&value.to_string()),
        });
    }
    let published = request.options.get(PORT_MAP).and_then(Value::as_array);
    let publishes = published.is_some_and(|ports| !ports.is_empty());
    match network.published_ports {
        PublishedPorts::Refuse if publishes => Err(EndpointError::PublishedPorts),
        _ => Ok(()),
    }
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
    fn an_unknown_endpoint_option_is_named() {
        let unknown = request(json!({}), json!({"speed": "fast"}));
        let refused = Endpoint::from_request(&unknown, &network(json!({}))).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "unknown endpoint option speed=\"fast\": this driver has none"
        );
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

    #[test]
    fn the_marks_read_back_the_same_and_a_damaged_one_is_named() {
        let made = endpoint(json!({"Address": "10.100.0.2/24", "AddressIPv6": "2001:db8::2/64"}));
        let marks = made.marks();
        assert_eq!(Endpoint::from_marks(&marks), Ok(made));
        assert_eq!(Endpoint::from_marks(&BTreeMap::new()), Err(MarksError::NotOurs));
        for key in [mark::MAC, mark::IPV4, mark::NETWORK] {
            let mut damaged = marks.clone();
            damaged.insert(key.to_owned(), "!".to_owned());
            let value = "!".to_owned();
            assert_eq!(Endpoint::from_marks(&damaged), Err(MarksError::Damaged { key, value }));
        }
    }

    #[test]
    fn the_two_ends_know_each_other() {
        let names = PortNames::of(&"0123456789abcdef".parse().unwrap()).unwrap();
        assert_eq!(names.switch.as_str(), "dl-0123456789ab");
        assert_eq!(PortNames::container_end_of(&names.switch), Some(names.container));
        assert_eq!(PortNames::container_end_of(&"eth0".parse().unwrap()), None);
    }
}
