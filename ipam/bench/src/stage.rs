//! Where a store is measured: its servers and a folder, gone when dropped.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use dockline_testkit::Etcd;
use tempfile::TempDir;

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The file.
    Embedded,
    /// One member.
    Etcd1,
    /// Three members.
    Etcd3,
}

/// A store of one kind, empty.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) etcd: Option<Etcd>,
    folder: TempDir,
}

impl Stage {
    pub(crate) async fn start(kind: Kind) -> anyhow::Result<Self> {
        let etcd = match kind {
            Kind::Embedded => None,
            Kind::Etcd1 => Some(Etcd::start(1).await?),
            Kind::Etcd3 => Some(Etcd::start(3).await?),
        };
        let folder = TempDir::with_prefix("bench")?;
        std::fs::create_dir(folder.path().join("state"))?;
        Ok(Self { etcd, folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The embedded store's file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder().join("state/ipam.redb")
    }

    /// The daemon's configuration.
    pub(crate) fn config(&self) -> String {
        let folder = |name: &str| self.folder().join(name);
        let store = self.etcd.as_ref().map_or_else(String::new, |etcd| {
            format!("[store]\nkind = \"etcd\"\nendpoints = {:?}\n", etcd.endpoints())
        });
        format!(
            "host = \"node1\"\nplugins_dir = {:?}\nrun_dir = {:?}\nstate_dir = {:?}\n[log]\n\
             filter = \"warn\"\n{store}",
            folder("plugins"),
            folder("run"),
            folder("state")
        )
    }
}
