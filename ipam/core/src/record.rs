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

/// What one host has of something that hosts share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// How many of the host's networks have it.
    pub networks: u32,
    /// The host's last write. Each host has its own, which no other host's write hides.
    pub nonce: Nonce,
}

/// The hosts that share something.
pub type Shares = BTreeMap<HostName, Share>;

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolRecord {
    /// The hosts with networks that use it. A pool that nobody uses and that holds no address is
    /// removed.
    pub hosts: Shares,
    /// What a network that names no gateway gets as one: every host's gets the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// For whom an address is kept, also while that container does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The container's name.
    pub name: ContainerName,
    /// The MAC address that it is started with (`--mac-address`), if it is known by that too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
}

impl Reservation {
    /// Whether a container that asks for any address is the one that this is kept for.
    pub fn is_for(&self, holder: &Holder) -> bool {
        let Holder::Endpoint { mac, container, .. } = holder else { return false };
        match container {
            Some(name) => *name == self.name,
            None => mac.is_some() && *mac == self.mac,
        }
    }

    /// Whether a container that asks for this very address may have it. An engine before 29 tells
    /// no name: then the MAC decides, and without one whoever wrote `--ip` knew what for.
    pub fn admits(&self, holder: &Holder) -> bool {
        let Holder::Endpoint { container, .. } = holder else { return false };
        self.is_for(holder) || (container.is_none() && self.mac.is_none())
    }
}

/// Who holds an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Holder {
    /// Nobody: it is only reserved.
    Nobody,
    /// It is the gateway of networks, on every host that has one of them.
    Gateway {
        /// The hosts with networks that have it as theirs.
        hosts: Shares,
    },
    /// It was kept back with `--aux-address`, on every host that has such a network.
    Auxiliary {
        /// The hosts with networks that keep it back.
        hosts: Shares,
    },
    /// A container has it.
    Endpoint {
        /// The host of the container.
        host: HostName,
        /// The write that made it so.
        nonce: Nonce,
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
    /// For whom it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Reservation>,
}

impl AddressRecord {
    /// What the record becomes when `wanted` has the address too; `None` if that cannot be. See
    /// [`Holder::joined_by`].
    pub fn joined_by(&self, wanted: &Holder, since: u64) -> Option<Self> {
        if self.reserved.as_ref().is_some_and(|reserved| !reserved.admits(wanted)) {
            return None;
        }
        let (holder, since) = match &self.holder {
            Holder::Nobody => (wanted.clone(), since),
            holder => (holder.joined_by(wanted)?, self.since),
        };
        Some(Self { holder, since, reserved: self.reserved.clone() })
    }

    /// What remains when `host` lets go of the address: `Ok(None)` if nothing does. See
    /// [`Holder::without`].
    pub fn without(&self, host: &HostName, nonce: &Nonce) -> Result<Option<Self>, NotHeld> {
        let holder = match (self.holder.without(host, nonce)?, &self.reserved) {
            (Some(holder), _) => holder,
            (None, Some(_)) => Holder::Nobody,
            (None, None) => return Ok(None),
        };
        Ok(Some(Self { holder, ..self.clone() }))
    }

    /// What remains when a host that is gone loses all that it has of the address: `None` if it has
    /// nothing of it, `Some(None)` if nothing remains.
    pub fn clear(&self, host: &HostName) -> Option<Option<Self>> {
        let nonce = self.holder.nonce_of(host)?.clone();
        let mut rest = self.clone();
        loop {
            // Each of its networks counts once.
            match rest.without(host, &nonce) {
                Ok(Some(less)) => rest = less,
                Ok(None) => return Some(None),
                Err(NotHeld) => return Some(Some(rest)),
            }
        }
    }
}

impl fmt::Display for AddressRecord {
    /// Who has it, and for whom it is kept.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.holder, &self.reserved) {
            (Holder::Nobody, Some(reserved)) => write!(f, "reserved for {}", reserved.name),
            (holder, Some(reserved)) => write!(f, "{holder}, reserved for {}", reserved.name),
            (holder, None) => holder.fmt(f),
        }
    }
}

/// Adds a network of a host.
fn add(hosts: &mut Shares, host: &HostName, nonce: &Nonce) {
    let share = Share { networks: 0, nonce: nonce.clone() };
    let share = hosts.entry(host.clone()).or_insert(share);
    share.networks = share.networks.saturating_add(1);
    share.nonce = nonce.clone();
}

/// Takes a network of a host away; says whether it had one.
fn take(hosts: &mut Shares, host: &HostName, nonce: &Nonce) -> bool {
    let Some(share) = hosts.get_mut(host) else { return false };
    share.networks = share.networks.saturating_sub(1);
    share.nonce = nonce.clone();
    if share.networks == 0 {
        hosts.remove(host);
    }
    true
}

impl PoolRecord {
    /// Adds a network of `host`.
    pub fn add(&mut self, host: &HostName, nonce: &Nonce) {
        add(&mut self.hosts, host, nonce);
    }

    /// Takes a network of `host` away; says whether there was one.
    pub fn take(&mut self, host: &HostName, nonce: &Nonce) -> bool {
        take(&mut self.hosts, host, nonce)
    }

    /// The last write of `host` that is in here.
    pub fn nonce_of(&self, host: &HostName) -> Option<&Nonce> {
        self.hosts.get(host).map(|share| &share.nonce)
    }
}

impl Holder {
    /// The gateway of one network of `host`.
    pub fn gateway(host: &HostName, nonce: Nonce) -> Self {
        Self::Gateway { hosts: BTreeMap::from([(host.clone(), Share { networks: 1, nonce })]) }
    }

    /// An address that one network of `host` keeps back.
    pub fn auxiliary(host: &HostName, nonce: Nonce) -> Self {
        Self::Auxiliary { hosts: BTreeMap::from([(host.clone(), Share { networks: 1, nonce })]) }
    }

    /// The last write of `host` that is in here.
    pub fn nonce_of(&self, host: &HostName) -> Option<&Nonce> {
        match self {
            Self::Gateway { hosts } | Self::Auxiliary { hosts } => {
                hosts.get(host).map(|share| &share.nonce)
            }
            Self::Endpoint { host: owner, nonce, .. } => (owner == host).then_some(nonce),
            Self::Nobody => None,
        }
    }

    /// Who holds the address once `wanted` has it too; `None` if that cannot be.
    ///
    /// A gateway and an auxiliary address are shared with other networks. A container's address is
    /// its own; but a container of the same name on the same host is the same container, whose
    /// last request was not released (an engine or a daemon that was killed). The MAC says less:
    /// users copy it from one container to the next.
    pub fn joined_by(&self, wanted: &Holder) -> Option<Holder> {
        let both = |hosts: &Shares, more: &Shares| {
            let mut hosts = hosts.clone();
            for (host, share) in more {
                add(&mut hosts, host, &share.nonce);
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
    /// nobody else holds it. The nonce is that of the write which makes it so.
    pub fn without(&self, host: &HostName, nonce: &Nonce) -> Result<Option<Holder>, NotHeld> {
        let rest = |hosts: &Shares| {
            let mut hosts = hosts.clone();
            if take(&mut hosts, host, nonce) { Ok(hosts) } else { Err(NotHeld) }
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
            Self::Endpoint { .. } | Self::Nobody => Err(NotHeld),
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
        let list = |f: &mut fmt::Formatter<'_>, hosts: &Shares| {
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
            Self::Nobody => f.write_str("nobody"),
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

    fn nonce(count: u64) -> Nonce {
        Nonce::new(7, count)
    }

    fn gateway(names: &[&str]) -> Holder {
        let mut hosts = BTreeMap::new();
        for name in names {
            add(&mut hosts, &host(name), &nonce(1));
        }
        Holder::Gateway { hosts }
    }

    fn endpoint(name: &str, mac: Option<&str>, container: Option<&str>) -> Holder {
        Holder::Endpoint {
            host: host(name),
            nonce: nonce(1),
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
        let rest = three.without(&host("b"), &nonce(1)).unwrap().unwrap();
        assert_eq!(rest.without(&host("b"), &nonce(1)), Err(NotHeld));
        let rest = rest.without(&host("a"), &nonce(1)).unwrap().unwrap();
        assert_eq!(rest.without(&host("a"), &nonce(1)), Ok(None));
        let auxiliary = Holder::auxiliary(&host("a"), nonce(1));
        assert_eq!(one.joined_by(&auxiliary), None);
        assert_eq!(one.joined_by(&endpoint("a", None, None)), None);
        // A host that is gone loses all its networks at once.
        let record = AddressRecord { holder: three, since: 0, reserved: None };
        let rest = record.clear(&host("a")).unwrap().unwrap();
        assert_eq!(rest.holder, gateway(&["b"]));
        assert_eq!(rest.clear(&host("a")), None);
        assert_eq!(rest.clear(&host("b")), Some(None));
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
        assert_eq!(web.without(&host("a"), &nonce(1)), Ok(None));
        assert_eq!(web.without(&host("b"), &nonce(1)), Err(NotHeld));
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
    fn a_reserved_address_is_for_one_container_and_stays_reserved() {
        let mac = Some("02:42:0a:00:00:01");
        let reserved = |mac: Option<&str>| {
            let mac = mac.map(|mac| mac.parse().unwrap());
            let reserved = Some(Reservation { name: "db".parse().unwrap(), mac });
            AddressRecord { holder: Holder::Nobody, since: 0, reserved }
        };
        let db = endpoint("a", None, Some("db"));
        let held = reserved(None).joined_by(&db, 7).unwrap();
        assert_eq!((&held.holder, held.since), (&db, 7));
        assert_eq!(held.to_string(), "the container db on host a, reserved for db");
        // Released, it is kept; on another host it may start next.
        let kept = held.without(&host("a"), &nonce(2)).unwrap().unwrap();
        assert_eq!(kept.holder, Holder::Nobody);
        assert_eq!(kept.without(&host("a"), &nonce(2)), Err(NotHeld));
        assert!(kept.joined_by(&endpoint("b", mac, Some("db")), 8).is_some());
        assert!(held.joined_by(&endpoint("b", mac, Some("db")), 8).is_none(), "it runs on a");
        // Whoever has another name is another; without a name the MAC counts, if it has one.
        assert!(kept.joined_by(&endpoint("a", mac, Some("web")), 8).is_none());
        assert!(kept.joined_by(&gateway(&["a"]), 8).is_none());
        assert!(kept.joined_by(&endpoint("a", mac, None), 8).is_some());
        let by_mac = reserved(mac);
        assert!(by_mac.joined_by(&endpoint("a", mac, None), 8).is_some());
        let other = endpoint("a", Some("02:42:0a:00:00:02"), None);
        assert!(by_mac.joined_by(&other, 8).is_none());
        let nameless = endpoint("a", mac, None);
        assert!(!reserved(None).reserved.unwrap().is_for(&nameless), "it may be anyone");
        assert!(by_mac.reserved.as_ref().unwrap().is_for(&nameless));
        let text = serde_json::to_string(&by_mac).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"nobody","since":0,"reserved":{"name":"db","mac":"02:42:0a:00:00:01"}}"#
        );
        assert_eq!(serde_json::from_str::<AddressRecord>(&text).unwrap(), by_mac);
    }

    #[test]
    fn records_keep_their_form() {
        // What an earlier version wrote must be read by every later one.
        let stored = [
            r#"{"kind":"gateway","hosts":{"a":{"networks":2,"nonce":"7-1"}},"since":1700000000}"#,
            r#"{"kind":"auxiliary","hosts":{"a":{"networks":1,"nonce":"x"}},"since":0}"#,
            r#"{"kind":"endpoint","host":"a","nonce":"x","since":5}"#,
            r#"{"kind":"endpoint","host":"a","nonce":"x","mac":"02:42:0a:64:00:02","container":"web1","since":5}"#,
        ];
        for text in stored {
            let record: AddressRecord = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), text);
        }
        let later = r#"{"kind":"endpoint","host":"a","nonce":"x","since":5,"later":[1]}"#;
        assert!(serde_json::from_str::<AddressRecord>(later).is_ok());
        let text = r#"{"hosts":{"a":{"networks":1,"nonce":"x"}},"later":1}"#;
        let pool: PoolRecord = serde_json::from_str(text).unwrap();
        assert_eq!(pool.hosts[&host("a")].networks, 1);
    }

    #[test]
    fn a_hosts_write_is_not_hidden_by_anothers() {
        let gateway = Holder::gateway(&host("a"), nonce(1));
        let gateway = gateway.joined_by(&Holder::gateway(&host("b"), nonce(2))).unwrap();
        assert_eq!(gateway.nonce_of(&host("a")), Some(&nonce(1)));
        let gateway = gateway.joined_by(&Holder::gateway(&host("a"), nonce(3))).unwrap();
        assert_eq!(gateway.nonce_of(&host("a")), Some(&nonce(3)));
        let rest = gateway.without(&host("a"), &nonce(4)).unwrap().unwrap();
        assert_eq!(rest.nonce_of(&host("a")), Some(&nonce(4)));
        assert_eq!(rest.nonce_of(&host("b")), Some(&nonce(2)));
        let mut pool = PoolRecord::default();
        pool.add(&host("a"), &nonce(5));
        assert_eq!(pool.nonce_of(&host("a")), Some(&nonce(5)));
        assert!(pool.take(&host("a"), &nonce(6)) && pool.hosts.is_empty());
        assert!(!pool.take(&host("a"), &nonce(7)));
    }
}
