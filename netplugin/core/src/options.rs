//! The options a user gives a network (`docker network create -o key=value`).
//!
//! An unknown key or a wrong value is an error that names the key, the value and what is allowed.
//! The list of keys in that error comes from the table that the parser itself goes by.

use std::collections::BTreeMap;

use dockline_types::{VlanError, VlanId};
use serde::{Deserialize, Serialize};

use crate::limit_options::{LimitError, LimitOptions};

/// Why a network's options are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option.
    #[error("unknown network option {key}={value:?}: the options are {}", known())]
    Unknown {
        /// The option.
        key: String,
        /// What it was set to.
        value: String,
    },
    /// Not a VLAN.
    #[error("network option vlan")]
    Vlan(#[source] VlanError),
    /// Not an MTU.
    #[error(
        "network option mtu={0:?}: a number of bytes from {least} to {most} is expected",
        least = Mtu::LEAST,
        most = Mtu::MOST
    )]
    Mtu(String),
    /// Not one of the words.
    #[error("network option published-ports={0:?}: refuse or ignore is expected")]
    PublishedPorts(String),
    /// Not one of the words.
    #[error("network option port-security={0:?}: on or off is expected")]
    PortSecurity(String),
    /// A limit is wrong.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// The largest packet of an interface, in bytes, without the Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mtu(u32);

impl Mtu {
    /// What IPv4 requires of every link (RFC 791).
    pub const LEAST: u32 = 68;
    /// The kernel's limit for a veth device.
    pub const MOST: u32 = 65535;

    /// An MTU of so many bytes, if that is one.
    pub fn new(bytes: u32) -> Option<Self> {
        (Self::LEAST..=Self::MOST).contains(&bytes).then_some(Self(bytes))
    }

    /// The number of bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}

/// What becomes of a container's published ports (`docker run -p`): the container is reachable
/// directly, so there is nothing to publish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PublishedPorts {
    /// The container does not start, and the error says why.
    #[default]
    Refuse,
    /// They are passed over, with a warning in the log.
    Ignore,
}

/// Whether a container is held to its own addresses in what it sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortSecurity {
    /// It is: see [`crate::identity`].
    #[default]
    On,
    /// It may send what it likes, as routers and load balancers must.
    Off,
}

/// What a user may say of a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkOptions {
    /// `vlan`: the VLAN its containers are on; untagged without one.
    pub vlan: Option<VlanId>,
    /// `mtu`: of its containers' interfaces.
    pub mtu: Option<Mtu>,
    /// `published-ports`: see [`PublishedPorts`].
    pub published_ports: PublishedPorts,
    /// `port-security`: see [`PortSecurity`].
    pub port_security: PortSecurity,
    /// `rx-rate`, `rx-burst`, `tx-rate`, `tx-burst`: of each of its containers.
    pub limits: LimitOptions,
}

type Setter = fn(&mut NetworkOptions, &str) -> Result<(), OptionError>;

/// Every option and what sets it.
const TABLE: [(&str, Setter); 8] = [
    ("vlan", |options, value| {
        options.vlan = Some(value.parse().map_err(OptionError::Vlan)?);
        Ok(())
    }),
    ("mtu", |options, value| {
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let bytes = if digits { value.parse().ok() } else { None };
        let mtu = bytes.and_then(Mtu::new).ok_or_else(|| OptionError::Mtu(short(value)))?;
        options.mtu = Some(mtu);
        Ok(())
    }),
    ("published-ports", |options, value| {
        options.published_ports = match value {
            "refuse" => PublishedPorts::Refuse,
            "ignore" => PublishedPorts::Ignore,
            _ => return Err(OptionError::PublishedPorts(short(value))),
        };
        Ok(())
    }),
    ("port-security", |options, value| {
        options.port_security = match value {
            "on" => PortSecurity::On,
            "off" => PortSecurity::Off,
            _ => return Err(OptionError::PortSecurity(short(value))),
        };
        Ok(())
    }),
    ("rx-rate", |options, value| Ok(options.limits.set("rx-rate", value)?)),
    ("rx-burst", |options, value| Ok(options.limits.set("rx-burst", value)?)),
    ("tx-rate", |options, value| Ok(options.limits.set("tx-rate", value)?)),
    ("tx-burst", |options, value| Ok(options.limits.set("tx-burst", value)?)),
];

fn known() -> String {
    TABLE.map(|(key, _)| key).join(", ")
}

/// A stranger's text may be of any length; the error need not be.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

impl NetworkOptions {
    /// Parses the options.
    pub fn parse(given: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        let mut options = Self::default();
        for (key, value) in given {
            let Some((_, set)) = TABLE.iter().find(|(known, _)| known == key) else {
                return Err(OptionError::Unknown { key: short(key), value: short(value) });
            };
            set(&mut options, value)?;
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dockline_plugin_specs::route::chain;
    use proptest::prelude::*;

    fn parse(given: &[(&str, &str)]) -> Result<NetworkOptions, OptionError> {
        let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        NetworkOptions::parse(&given.iter().map(owned).collect())
    }

    #[test]
    fn each_option_sets_its_field() {
        let given = [
            ("vlan", "100"),
            ("mtu", "9000"),
            ("published-ports", "ignore"),
            ("port-security", "off"),
        ];
        let expected = NetworkOptions {
            vlan: Some(100.try_into().unwrap()),
            mtu: Mtu::new(9000),
            published_ports: PublishedPorts::Ignore,
            port_security: PortSecurity::Off,
            ..NetworkOptions::default()
        };
        assert_eq!(parse(&given), Ok(expected));
        assert_eq!(parse(&[]), Ok(NetworkOptions::default()));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (key, value, words) in [
            ("vlan", "0", "network option vlan: \"0\" is not a VLAN: a number from 1 to 4094"),
            ("vlan", "4095", "\"4095\" is not a VLAN"),
            ("vlan", "abc", "\"abc\" is not a VLAN"),
            ("mtu", "67", "mtu=\"67\": a number of bytes from 68 to 65535"),
            ("mtu", "+1500", "mtu=\"+1500\""),
            ("published-ports", "yes", "refuse or ignore"),
            ("port-security", "no", "on or off is expected"),
            ("rx-rate", "0mbit", "option rx-rate: \"0mbit\" would cut the container off"),
            ("tx-rate", "99999999999999999999gbit", "option tx-rate: "),
            ("tx-burst", "1", "option tx-burst=1B: 10000B to 1GiB is expected"),
            (
                "vlna",
                "100",
                "unknown network option vlna=\"100\": the options are vlan, mtu, published-ports, \
                 port-security, rx-rate, rx-burst, tx-rate, tx-burst",
            ),
        ] {
            let error = chain(&parse(&[(key, value)]).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(key in "(vlan|mtu|published-ports|\\PC{0,9})", value in "\\PC{0,30}") {
            let _ = parse(&[(&key, &value)]);
        }
    }
}
