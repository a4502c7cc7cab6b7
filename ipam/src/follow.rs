//! Keeping the view true: one scan, then the watch, and again when changes were missed.

use std::sync::Arc;
use std::time::Duration;

use dockline_ipam_core::ROOT;
use dockline_store::{Prefix, Revision, Scan, Store, StoreError, Watch};

use crate::view::{Found, View};

/// How many entries a page of the scan has: as many as there may be, since etcd 3.4 walks through all
/// that is left of the range for each page.
const PAGE: usize = dockline_store::MAX_PAGE;

/// How long to wait before a store that failed is scanned again.
const AGAIN: Duration = Duration::from_millis(500);

fn ours() -> Prefix {
    // A constant far below the limit.
    Prefix::new(ROOT).unwrap_or_default()
}

/// Reads everything into the view.
pub(crate) async fn load<S: Store>(store: &S, view: &View) -> Result<Revision, StoreError> {
    let mut scan = store.scan(ours(), PAGE);
    let (mut found, mut entries, mut revision) = (Found::default(), 0, Revision::default());
    while let Some(page) = scan.next().await? {
        revision = page.revision;
        entries += page.entries.len();
        found.add(&page.entries);
    }
    view.replace(found, revision);
    tracing::info!(entries, %revision, "read the store of addresses");
    Ok(revision)
}

/// Follows the changes after `revision` until the task is aborted.
pub(crate) async fn follow<S: Store>(store: Arc<S>, view: Arc<View>, mut revision: Revision) {
    let mut tick = tokio::time::interval(AGAIN);
    loop {
        let mut watch = store.watch(ours(), revision);
        let error = loop {
            match watch.next().await {
                Ok(batch) => view.apply(&batch.events, batch.revision),
                Err(error) => break error,
            }
        };
        tracing::warn!(%error, "the store's changes were lost; reading it anew");
        revision = loop {
            tick.tick().await;
            match load(&*store, &view).await {
                Ok(revision) => break revision,
                Err(error) => tracing::warn!(%error, "cannot read the store"),
            }
        };
    }
}
