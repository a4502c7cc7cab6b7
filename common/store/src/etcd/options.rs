//! Where the cluster is and how to get in.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The longest namespace, in bytes: what is left of a key is the caller's.
const LONGEST: usize = 128;

/// How a cluster is reached.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// The members' client URLs: `https://etcd1:2379`. One that answers is enough.
    pub endpoints: Vec<String>,
    /// What all keys begin with.
    pub namespace: Namespace,
    /// This writer's name, unique among all that use the namespace, and the same after a restart:
    /// the host's.
    pub writer: String,
    /// For `https` endpoints.
    pub tls: Option<Tls>,
    /// Where the cluster asks who one is.
    pub user: Option<User>,
}

/// PEM files, read anew for each connection, so that they may be replaced while the daemon runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate of the authority that signed the servers' certificates.
    pub ca: PathBuf,
    /// This client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A user of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The file with the password, read anew for each connection; the line end is not part of it.
    pub password_file: PathBuf,
}

/// What all keys of a suite begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(String);

/// Why a text is no namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the namespace {0:?} is not allowed: 1 to {LONGEST} of A-Z a-z 0-9 _ . - / are, and no / at \
     its end"
)]
pub struct NamespaceError(String);

impl FromStr for Namespace {
    type Err = NamespaceError;

    fn from_str(text: &str) -> Result<Self, NamespaceError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte);
        let fits = (1..=LONGEST).contains(&text.len()) && !text.ends_with('/');
        if fits && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NamespaceError(text.chars().take(LONGEST + 1).collect()))
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Namespace {
    /// The key of the keyspace's number.
    pub(super) fn keyspace(&self) -> Vec<u8> {
        format!("{}.keyspace", self.0).into_bytes()
    }

    /// The key of a writer's fence.
    pub(super) fn fence(&self, writer: &str) -> Vec<u8> {
        format!("{}.fence/{writer}", self.0).into_bytes()
    }

    /// etcd's key for one of the store's, or for a prefix of them.
    pub(super) fn outer(&self, key: &[u8]) -> Vec<u8> {
        let mut outer = Vec::with_capacity(self.0.len() + 1 + key.len());
        outer.extend_from_slice(self.0.as_bytes());
        outer.push(b'/');
        outer.extend_from_slice(key);
        outer
    }

    /// The store's key for one of etcd's, if it is an entry's.
    pub(super) fn inner<'a>(&self, outer: &'a [u8]) -> Option<&'a [u8]> {
        let rest = outer.strip_prefix(self.0.as_bytes())?.strip_prefix(b"/")?;
        (!rest.is_empty()).then_some(rest)
    }

    /// The range that holds both the fences and the entries: `.` comes right before `/`.
    pub(super) fn watched(&self) -> (Vec<u8>, Vec<u8>) {
        (format!("{}.fence/", self.0).into_bytes(), format!("{}0", self.0).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_cut_off_exactly() {
        let namespace: Namespace = "site/dockline".parse().unwrap();
        assert_eq!(namespace.outer(b"ipam/x"), b"site/dockline/ipam/x");
        assert_eq!(namespace.inner(b"site/dockline/ipam/x"), Some(&b"ipam/x"[..]));
        for foreign in ["site/dockline", "site/dockline/", "site/dockline2/x", "site/dockline.x"] {
            assert_eq!(namespace.inner(foreign.as_bytes()), None, "{foreign}");
        }
        let (from, to) = namespace.watched();
        for key in [namespace.fence("node1"), namespace.outer(b"\xff"), namespace.outer(b"a")] {
            assert!(from <= key && key < to);
        }
        for key in [namespace.keyspace(), b"site/dockline0".to_vec(), b"site/docklin".to_vec()] {
            assert!(key >= to || key < from || key == namespace.keyspace());
        }
    }

    #[test]
    fn what_would_reach_into_other_namespaces_is_refused() {
        for bad in ["", "/", "a/", "a b", "a\0", "ä", &"a".repeat(129)] {
            assert!(bad.parse::<Namespace>().is_err(), "{bad:?}");
        }
    }
}
