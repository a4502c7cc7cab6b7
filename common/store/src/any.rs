//! Whichever store the configuration names.

use crate::embedded::{Embedded, EmbeddedScan, EmbeddedWatch};
#[cfg(feature = "etcd")]
use crate::etcd::{Etcd, EtcdScan, EtcdWatch};
use crate::{
    Batch, Entry, Key, Outcome, Page, Prefix, Revision, Scan, Store, StoreError, Txn, Watch,
};

/// One of the stores.
#[derive(Debug)]
pub enum AnyStore {
    /// A file of this host.
    Embedded(Embedded),
    /// A cluster of etcd.
    #[cfg(feature = "etcd")]
    Etcd(Etcd),
}

/// A scan of one of the stores.
#[derive(Debug)]
pub enum AnyScan {
    /// Of the embedded one.
    Embedded(EmbeddedScan),
    /// Of etcd.
    #[cfg(feature = "etcd")]
    Etcd(EtcdScan),
}

/// A watch on one of the stores.
#[derive(Debug)]
pub enum AnyWatch {
    /// On the embedded one.
    Embedded(EmbeddedWatch),
    /// On etcd.
    #[cfg(feature = "etcd")]
    Etcd(Box<EtcdWatch>),
}

/// Does the same with whichever variant there is.
macro_rules! whichever {
    ($type:ident, $value:expr, $inner:ident => $do:expr) => {
        match $value {
            $type::Embedded($inner) => $do,
            #[cfg(feature = "etcd")]
            $type::Etcd($inner) => $do,
        }
    };
}

impl Scan for AnyScan {
    async fn next(&mut self) -> Result<Option<Page>, StoreError> {
        whichever!(Self, self, scan => scan.next().await)
    }
}

impl Watch for AnyWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        whichever!(Self, self, watch => watch.next().await)
    }
}

impl Store for AnyStore {
    type Scan = AnyScan;
    type Watch = AnyWatch;

    async fn get(&self, key: Key) -> Result<Option<Entry>, StoreError> {
        whichever!(Self, self, store => store.get(key).await)
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        whichever!(Self, self, store => store.txn(txn).await)
    }

    fn scan(&self, prefix: Prefix, page: usize) -> AnyScan {
        match self {
            Self::Embedded(store) => AnyScan::Embedded(store.scan(prefix, page)),
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => AnyScan::Etcd(store.scan(prefix, page)),
        }
    }

    fn watch(&self, prefix: Prefix, after: Revision) -> AnyWatch {
        match self {
            Self::Embedded(store) => AnyWatch::Embedded(store.watch(prefix, after)),
            #[cfg(feature = "etcd")]
            Self::Etcd(store) => AnyWatch::Etcd(Box::new(store.watch(prefix, after))),
        }
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        whichever!(Self, self, store => store.revision().await)
    }
}
