//! Which store the configuration names, and opening it.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use dockline_daemon::config::{Config, StoreKind};
use dockline_store::AnyStore;
use dockline_store::etcd::{self, Etcd, EtcdOptions, Tls, User};

use crate::opening::{EmbeddedError, open_embedded};

/// The embedded store's file in the state folder.
const FILE: &str = "ipam.redb";

/// A store that is configured.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    Embedded(PathBuf),
    Etcd(EtcdOptions),
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChoiceError {
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    #[error(transparent)]
    Etcd(#[from] etcd::OpenError),
}

impl Choice {
    /// Reads the section `[store]`.
    pub(crate) fn read(config: &Config) -> anyhow::Result<Self> {
        match config.store.kind {
            StoreKind::Embedded => Ok(Self::embedded(config)),
            StoreKind::Etcd => Ok(Self::Etcd(options(config).context("in the section [store]")?)),
        }
    }

    /// The embedded store of this host, whatever is configured.
    pub(crate) fn embedded(config: &Config) -> Self {
        Self::Embedded(config.state_dir.join(FILE))
    }

    pub(crate) async fn open(self) -> Result<AnyStore, ChoiceError> {
        Ok(match self {
            Self::Embedded(file) => AnyStore::Embedded(open_embedded(file).await?),
            Self::Etcd(options) => AnyStore::Etcd(Etcd::open(options).await?),
        })
    }
}

fn options(config: &Config) -> anyhow::Result<EtcdOptions> {
    let store = &config.store;
    ensure!(!store.endpoints.is_empty(), "etcd needs `endpoints`: name its members' URLs");
    for endpoint in &store.endpoints {
        let secure = endpoint.starts_with("https://");
        ensure!(
            secure || endpoint.starts_with("http://"),
            "the endpoint {endpoint:?} is no URL: http://HOST:PORT or https://HOST:PORT is expected"
        );
        ensure!(
            secure == store.ca.is_some(),
            "the endpoint {endpoint:?} does not go with `ca`: https needs it, http cannot have it"
        );
    }
    let identity = match (&store.certificate, &store.key) {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        _ => anyhow::bail!("`certificate` and `key` go together"),
    };
    ensure!(identity.is_none() || store.ca.is_some(), "`certificate` needs `ca`");
    let user = match (&store.user, &store.password_file) {
        (Some(name), Some(file)) => Some(User { name: name.clone(), password_file: file.clone() }),
        (None, None) => None,
        _ => anyhow::bail!("`user` and `password_file` go together"),
    };
    Ok(EtcdOptions {
        endpoints: store.endpoints.clone(),
        namespace: store.namespace.parse()?,
        writer: config.host.clone(),
        tls: store.ca.clone().map(|ca| Tls { ca, identity }),
        user,
    })
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(file) => write!(f, "embedded {}", file.display()),
            Self::Etcd(options) => {
                write!(f, "etcd {} ({})", options.endpoints.join(", "), options.namespace)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(store: &str) -> anyhow::Result<Choice> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), format!("host = \"node1\"\n[store]\n{store}"))?;
        Choice::read(&Config::load(Some(file.path()))?)
    }

    #[test]
    fn etcd_is_named_with_all_it_needs() {
        let whole = r#"kind = "etcd"
            endpoints = ["https://a:2379", "https://b:2379"]
            namespace = "site/dockline"
            ca = "/ca"
            certificate = "/cert"
            key = "/key"
            user = "dockline"
            password_file = "/password""#;
        let choice = read(whole).unwrap();
        assert_eq!(choice.to_string(), "etcd https://a:2379, https://b:2379 (site/dockline)");
        let Choice::Etcd(options) = choice else { panic!("etcd was asked for") };
        assert_eq!(options.writer, "node1");
        assert_eq!(options.tls.unwrap().identity, Some(("/cert".into(), "/key".into())));
        assert_eq!(read("").unwrap().to_string(), "embedded /var/lib/dockline/ipam.redb");
    }

    #[test]
    fn half_an_answer_is_refused_in_words() {
        let https = "kind = \"etcd\"\nendpoints = [\"https://a\"]\n";
        let http = "kind = \"etcd\"\nendpoints = [\"http://a\"]\n";
        for (text, words) in [
            ("kind = \"etcd\"".to_owned(), "needs `endpoints`"),
            ("kind = \"etcd\"\nendpoints = [\"a:1\"]".to_owned(), "is no URL"),
            (https.to_owned(), "https needs it"),
            (format!("{http}ca = \"/ca\""), "http cannot have it"),
            (format!("{https}ca = \"/ca\"\nkey = \"/key\""), "go together"),
            (format!("{http}user = \"x\""), "go together"),
            (format!("{http}namespace = \"a/\""), "is not allowed"),
        ] {
            let error = format!("{:#}", read(&text).unwrap_err());
            assert!(error.contains(words) && error.contains("[store]"), "{text}: {error}");
        }
    }
}
