//! What the store holds under our keys, as JSON.
//!
//! Fields are only ever added, with a default, so that hosts of two versions can share a store.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// How many networks of each host use it. A pool that nobody uses and that holds no address
    /// is removed.
    pub hosts: BTreeMap<HostName, u32>,
    /// What a network that names no gateway gets as one: every host's gets the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The last write.
    pub nonce: Nonce,
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

impl Holder {
    /// The gateway of one network of `host`.
    pub fn gateway(host: &HostName) -> Self {
        Self::Gateway { hosts: BTreeMap::from([(host.clone(), 1)]) }
    }

    /// An address that one network of `host` keeps back.
    pub fn auxiliary(host: &HostName) -> Self {
        Self::Auxiliary { hosts: BTreeMap::from([(host.clone(), 1)]) }
    }
}

impl PoolRecord {
    /// A pool that nobody uses yet.
    pub fn new(nonce: Nonce) -> Self {
        Self { hosts: BTreeMap::new(), gateway: None, nonce }
    }

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
    /// Who holds the address once `wanted` has it too; `None` if that cannot be.
    ///
    /// A gateway and an auxiliary address are shared with other networks. A container's address is
    /// its own; but a container of the same name on the same host is the same container, whose
    /// last request was not released (an engine or a daemon that was killed). The MAC says less:
    /// users copy it from one container to the next.
    pub fn joined_by(&self, wanted: &Holder) -> Option<Holder> {
        let both = |hosts: &BTreeMap<HostName, u32>, more: &BTreeMap<HostName, u32>| {
            let mut hosts = hosts.clone();
            for host in more.keys() {
                add(&mut hosts, host);
            }
            hosts
        };
        match (self, wanted) {
            (Self::Gateway { hosts }, Self::Gateway { hosts: more }) => {
                Some(Self::Gateway { hosts: both(hosts, more) })
            }
            (Self::Auxiliary { hosts }, Self::Auxiliary { hosts: more }) => {
                Some(Self::Auxiliary { hosts: both(hosts, more) })
            }
            (
                Self::Endpoint { host, container: Some(container), .. },
                Self::Endpoint { host: theirs, container: Some(name), .. },
            ) if host == theirs && container == name => Some(wanted.clone()),
            _ => None,
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
        let two = one.joined_by(&gateway(&["b"])).unwrap();
        let three = two.joined_by(&gateway(&["a"])).unwrap();
        assert_eq!(three, gateway(&["a", "a", "b"]));
        let rest = three.without(&host("b")).unwrap().unwrap();
        assert_eq!(rest.without(&host("b")), Err(NotHeld));
        let rest = rest.without(&host("a")).unwrap().unwrap();
        assert_eq!(rest.without(&host("a")), Ok(None));
        let auxiliary = Holder::Auxiliary { hosts: BTreeMap::from([(host("a"), 1)]) };
        assert_eq!(one.joined_by(&auxiliary), None);
        assert_eq!(one.joined_by(&endpoint("a", None, None)), None);
    }

    #[test]
    fn a_container_is_only_itself() {
        let (mac, other) = (Some("02:42:0a:00:00:01"), Some("02:42:0a:00:00:02"));
        let web = endpoint("a", mac, Some("web"));
        // Its MAC is another after each restart.
        let again = endpoint("a", other, Some("web"));
        assert_eq!(web.joined_by(&again), Some(again.clone()));
        for not in [
            endpoint("b", mac, Some("web")),
            endpoint("a", mac, Some("db")),
            endpoint("a", mac, None),
            gateway(&["a"]),
        ] {
            assert_eq!(web.joined_by(&not), None, "{not}");
        }
        let nameless = endpoint("a", mac, None);
        assert_eq!(nameless.joined_by(&nameless), None, "they may be two");
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
        let pool: PoolRecord =
            serde_json::from_str(r#"{"hosts":{"a":1},"nonce":"x","later":1}"#).unwrap();
        assert_eq!(pool.hosts, BTreeMap::from([(host("a"), 1)]));
    }
}
