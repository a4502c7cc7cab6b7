//! What the store holds under our keys, as JSON.
//!
//! Fields are only ever added, with a default, so that hosts of two versions can share a store.

use std::collections::BTreeMap;
use std::fmt;

use dockline_types::{EndpointId, MacAddr, NetworkId};
use serde::{Deserialize, Serialize};

use crate::{ContainerName, HostName};

/// What tells one write from every other, so that a write whose outcome is unknown can be
/// recognised when it is read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(String);

impl Nonce {
    /// A nonce of a number that is never used twice: a process's random number, and a count.
    pub fn new(process: u64, count: u64) -> Self {
        Self(format!("{process:016x}-{count:x}"))
    }
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolRecord {
    /// How many networks of each host use it. A pool that nobody uses and that holds no address
    /// is removed.
    pub hosts: BTreeMap<HostName, u32>,
    /// The last write.
    #[serde(default)]
    pub nonce: Option<Nonce>,
}

/// Who holds an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Holder {
    /// It is the gateway of networks, on every host that has one of them.
    Gateway {
        /// How many networks of each host have it as theirs.
        hosts: BTreeMap<HostName, u32>,
    },
    /// It was kept back with `--aux-address`, on every host that has such a network.
    Auxiliary {
        /// How many networks of each host keep it back.
        hosts: BTreeMap<HostName, u32>,
    },
    /// A container has it.
    Endpoint {
        /// The host of the container.
        host: HostName,
        /// The container's MAC address, as the engine told it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<MacAddr>,
        /// The container's name, where the engine tells it (29 and later).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<ContainerName>,
        /// The network, once it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<NetworkId>,
        /// The endpoint, once it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<EndpointId>,
    },
}

/// An address that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRecord {
    /// By whom.
    #[serde(flatten)]
    pub holder: Holder,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// The last write.
    pub nonce: Nonce,
}

/// Adds a reference of a host.
fn add(hosts: &mut BTreeMap<HostName, u32>, host: &HostName) {
    let count = hosts.entry(host.clone()).or_insert(0);
    *count = count.saturating_add(1);
}

/// Takes a reference of a host away; says whether it had one.
fn take(hosts: &mut BTreeMap<HostName, u32>, host: &HostName) -> bool {
    let Some(count) = hosts.get_mut(host) else { return false };
    *count = count.saturating_sub(1);
    if *count == 0 {
        hosts.remove(host);
    }
    true
}

impl PoolRecord {
    /// Adds a network of `host`.
    pub fn add(&mut self, host: &HostName) {
        add(&mut self.hosts, host);
    }

    /// Takes a network of `host` away; says whether there was one.
    pub fn take(&mut self, host: &HostName) -> bool {
        take(&mut self.hosts, host)
    }
}

impl Holder {
    /// The same kind of holder and one more network of `host`, if that is possible: a gateway and
    /// an auxiliary address are shared, a container's is not.
    pub fn shared_with(&self, wanted: &Holder) -> Option<Holder> {
        let (mut hosts, more) = match (self, wanted) {
            (Self::Gateway { hosts }, Self::Gateway { hosts: more })
            | (Self::Auxiliary { hosts }, Self::Auxiliary { hosts: more }) => (hosts.clone(), more),
            _ => return None,
        };
        for host in more.keys() {
            add(&mut hosts, host);
        }
        Some(match self {
            Self::Gateway { .. } => Self::Gateway { hosts },
            Self::Auxiliary { .. } | Self::Endpoint { .. } => Self::Auxiliary { hosts },
        })
    }

    /// Whether this is the same container as `wanted`, which therefore has the address already.
    ///
    /// The engine tells containers apart by nothing but the MAC before version 29, by the name
    /// after it. Without either two containers are never taken for one.
    pub fn is_same_endpoint(&self, wanted: &Holder) -> bool {
        match (self, wanted) {
            (
                Self::Endpoint { host: a, mac: mac_a, container: name_a, .. },
                Self::Endpoint { host: b, mac: mac_b, container: name_b, .. },
            ) => a == b && mac_a == mac_b && name_a == name_b && mac_a.is_some(),
            _ => false,
        }
    }

    /// What remains when `host` lets go of it: `Err` if it is not that host's, `Ok(None)` if
    /// nobody else holds it.
    pub fn without(&self, host: &HostName) -> Result<Option<Holder>, NotHeld> {
        let rest = |hosts: &BTreeMap<HostName, u32>| {
            let mut hosts = hosts.clone();
            if take(&mut hosts, host) { Ok(hosts) } else { Err(NotHeld) }
        };
        match self {
            Self::Gateway { hosts } => {
                let hosts = rest(hosts)?;
                Ok((!hosts.is_empty()).then_some(Self::Gateway { hosts }))
            }
            Self::Auxiliary { hosts } => {
                let hosts = rest(hosts)?;
                Ok((!hosts.is_empty()).then_some(Self::Auxiliary { hosts }))
            }
            Self::Endpoint { host: owner, .. } if owner == host => Ok(None),
            Self::Endpoint { .. } => Err(NotHeld),
        }
    }
}

/// The host does not hold the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this host does not hold the address")]
pub struct NotHeld;

impl fmt::Display for Holder {
    /// Who it is, for an operator: `the container web1 (02:42:0a:64:00:02) on host node7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, hosts: &BTreeMap<HostName, u32>| {
            let mut names = hosts.keys();
            // Hundreds of hosts may share a gateway; a few say enough.
            for (at, host) in names.by_ref().take(3).enumerate() {
                write!(f, "{}{host}", if at == 0 { "" } else { ", " })?;
            }
            match names.count() {
                0 => Ok(()),
                more => write!(f, " and {more} more"),
            }
        };
        match self {
            Self::Gateway { hosts } => {
                f.write_str("the gateway of networks on host ")?;
                list(f, hosts)
            }
            Self::Auxiliary { hosts } => {
                f.write_str("an auxiliary address of networks on host ")?;
                list(f, hosts)
            }
            Self::Endpoint { host, mac, container, .. } => {
                match container {
                    Some(name) => write!(f, "the container {name}")?,
                    None => f.write_str("a container")?,
                }
                mac.map_or(Ok(()), |mac| write!(f, " ({mac})"))?;
                write!(f, " on host {host}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostName {
        name.parse().unwrap()
    }

    fn gateway(names: &[&str]) -> Holder {
        let mut hosts = BTreeMap::new();
        for name in names {
            add(&mut hosts, &host(name));
        }
        Holder::Gateway { hosts }
    }

    fn endpoint(name: &str, mac: Option<&str>, container: Option<&str>) -> Holder {
        Holder::Endpoint {
            host: host(name),
            mac: mac.map(|mac| mac.parse().unwrap()),
            container: container.map(|name| name.parse().unwrap()),
            network: None,
            endpoint: None,
        }
    }

    #[test]
    fn a_gateway_is_shared_and_counted() {
        let one = gateway(&["a"]);
        let two = one.shared_with(&gateway(&["b"])).unwrap();
        let three = two.shared_with(&gateway(&["a"])).unwrap();
        assert_eq!(three, gateway(&["a", "a", "b"]));
        let rest = three.without(&host("b")).unwrap().unwrap();
        assert_eq!(rest.without(&host("b")), Err(NotHeld));
        let rest = rest.without(&host("a")).unwrap().unwrap();
        assert_eq!(rest.without(&host("a")), Ok(None));
        let auxiliary = Holder::Auxiliary { hosts: BTreeMap::from([(host("a"), 1)]) };
        assert_eq!(one.shared_with(&auxiliary), None);
        assert_eq!(one.shared_with(&endpoint("a", None, None)), None);
    }

    #[test]
    fn a_container_is_only_itself() {
        let (mac, other) = (Some("02:42:0a:00:00:01"), Some("02:42:0a:00:00:02"));
        let web = endpoint("a", mac, Some("web"));
        assert!(web.is_same_endpoint(&endpoint("a", mac, Some("web"))));
        for not in [
            endpoint("b", mac, Some("web")),
            endpoint("a", other, Some("web")),
            endpoint("a", mac, Some("db")),
            gateway(&["a"]),
        ] {
            assert!(!web.is_same_endpoint(&not), "{not}");
        }
        // Nothing is known of either: they may be two.
        assert!(!endpoint("a", None, None).is_same_endpoint(&endpoint("a", None, None)));
        assert_eq!(web.without(&host("a")), Ok(None));
        assert_eq!(web.without(&host("b")), Err(NotHeld));
    }

    #[test]
    fn a_holder_is_named_for_people() {
        let web = endpoint("node7", Some("02:42:0A:64:00:02"), Some("web1"));
        assert_eq!(web.to_string(), "the container web1 (02:42:0a:64:00:02) on host node7");
        assert_eq!(endpoint("node7", None, None).to_string(), "a container on host node7");
        let many = gateway(&["a", "b", "c", "d", "e"]);
        assert_eq!(many.to_string(), "the gateway of networks on host a, b, c and 2 more");
    }

    #[test]
    fn records_keep_their_form() {
        // What an earlier version wrote must be read by every later one.
        let stored = [
            r#"{"kind":"gateway","hosts":{"a":2},"since":1700000000,"nonce":"0000000000000001-2"}"#,
            r#"{"kind":"auxiliary","hosts":{"a":1},"since":0,"nonce":"x"}"#,
            r#"{"kind":"endpoint","host":"a","since":5,"nonce":"x"}"#,
            r#"{"kind":"endpoint","host":"a","mac":"02:42:0a:64:00:02","container":"web1","since":5,"nonce":"x"}"#,
        ];
        for text in stored {
            let record: AddressRecord = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), text);
        }
        let later = r#"{"kind":"endpoint","host":"a","since":5,"nonce":"x","later":[1]}"#;
        assert!(serde_json::from_str::<AddressRecord>(later).is_ok());
        let pool: PoolRecord = serde_json::from_str(r#"{"hosts":{"a":1},"later":1}"#).unwrap();
        assert_eq!(pool.hosts, BTreeMap::from([(host("a"), 1)]));
    }
}
