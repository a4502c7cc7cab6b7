//! The networks, in a store of this daemon's own: Docker never repeats what it said of them.
//!
//! The store is opened at the first use and tried again at the next until it can be, so that the
//! daemon is up without it. All networks are in memory; a change is in the store before it is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dockline_net_core::Network;
use dockline_store::embedded::Embedded;
use dockline_store::{Key, LimitError, MAX_PAGE, Op, Prefix, Scan, Store, Txn, Value};
use dockline_types::NetworkId;
use tokio::sync::Mutex;

use crate::failure::Failure;

/// What the keys of the records begin with. The number is the version of their form.
const PREFIX: &str = "net/v1/networks/";

/// All networks of this host.
#[derive(Debug)]
pub(crate) struct Networks {
    path: PathBuf,
    /// Held over a change, so that the store and the memory change in the same order.
    opened: Mutex<Option<Opened>>,
}

#[derive(Debug)]
struct Opened {
    store: Embedded,
    all: BTreeMap<NetworkId, Arc<Network>>,
}

impl Networks {
    /// The networks in the store at this path, which is not opened yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, opened: Mutex::default() }
    }

    /// Where the store is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many there are.
    pub(crate) async fn count(&self) -> Result<usize, Failure> {
        self.with(async |opened| Ok(opened.all.len())).await
    }

    /// All of them.
    pub(crate) async fn all(&self) -> Result<Vec<Arc<Network>>, Failure> {
        self.with(async |opened| Ok(opened.all.values().cloned().collect())).await
    }

    /// One network.
    pub(crate) async fn get(&self, id: &NetworkId) -> Result<Arc<Network>, Failure> {
        let found = self.with(async |opened| Ok(opened.all.get(id).map(Arc::clone))).await?;
        found.ok_or_else(|| Failure::UnknownNetwork(id.clone()))
    }

    /// Keeps a network. The same again is a success, another under the same id a conflict.
    pub(crate) async fn add(&self, network: Network) -> Result<(), Failure> {
        self.with(async |opened| {
            match opened.all.get(&network.id) {
                Some(known) if **known == network => return Ok(()),
                Some(_) => return Err(Failure::NetworkConflict(network.id.clone())),
                None => {}
            }
            let record = |source| Failure::Record { id: network.id.to_string(), source };
            let value = Value::new(serde_json::to_vec(&network).map_err(record)?)?;
            let put = Op::Put(key(&network.id)?, value);
            opened.store.txn(Txn::new(Vec::new(), vec![put])?).await?;
            opened.all.insert(network.id.clone(), Arc::new(network));
            Ok(())
        })
        .await
    }

    /// Forgets a network. One that is unknown is a success.
    pub(crate) async fn remove(&self, id: &NetworkId) -> Result<(), Failure> {
        self.with(async |opened| {
            if opened.all.contains_key(id) {
                let delete = Op::Delete(key(id)?);
                opened.store.txn(Txn::new(Vec::new(), vec![delete])?).await?;
                opened.all.remove(id);
            }
            Ok(())
        })
        .await
    }

    async fn with<T>(
        &self,
        then: impl AsyncFnOnce(&mut Opened) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut opened = self.opened.lock().await;
        let opened = match &mut *opened {
            Some(opened) => opened,
            closed @ None => closed.insert(open(&self.path).await?),
        };
        then(opened).await
    }
}

fn key(id: &NetworkId) -> Result<Key, LimitError> {
    Key::new(format!("{PREFIX}{id}"))
}

async fn open(path: &Path) -> Result<Opened, Failure> {
    let store = Embedded::open(path)?;
    let mut scan = store.scan(Prefix::new(PREFIX)?, MAX_PAGE);
    let mut all = BTreeMap::new();
    while let Some(page) = scan.next().await? {
        for entry in page.entries {
            match serde_json::from_slice::<Network>(entry.value.as_bytes()) {
                Ok(network) => {
                    all.insert(network.id.clone(), Arc::new(network));
                }
                // One damaged record must not take the others away; it is left as it is.
                Err(error) => tracing::error!(key = %entry.key, %error, "a damaged record"),
            }
        }
    }
    drop(scan);
    tracing::info!(path = %path.display(), networks = all.len(), "opened the store");
    Ok(Opened { store, all })
}
