//! What operators see: `dockline status`.

use std::sync::Arc;

use dockline_admin::Status;
use dockline_daemon::{Admin, Context};
use dockline_store::Store;

use crate::opening::Opening;

/// How many pools are shown one by one; the fullest ones.
const SHOWN: usize = 16;

/// The operators' side of the daemon.
#[derive(Debug)]
pub(crate) struct IpamAdmin<S> {
    context: Context,
    opening: Arc<Opening<S>>,
}

impl<S> IpamAdmin<S> {
    pub(crate) fn new(context: Context, opening: Arc<Opening<S>>) -> Self {
        Self { context, opening }
    }
}

impl<S: Store> Admin for IpamAdmin<S> {
    async fn status(&self) -> Status {
        let mut held = Vec::new();
        let mut foreign = 0;
        if let Some(engine) = self.opening.engine_now() {
            held = engine.view.held();
            foreign = u64::try_from(engine.view.foreign()).unwrap_or(u64::MAX);
        }
        let pools = u64::try_from(held.len()).unwrap_or(u64::MAX);
        let addresses = held.iter().map(|(_, count)| count).sum();
        let counts = [("pools", pools), ("addresses", addresses), ("foreign keys", foreign)];
        let counts =
            counts.into_iter().filter(|(kind, count)| *kind != "foreign keys" || *count > 0);
        let mut status = self.context.status(vec![self.opening.part().await], counts);
        held.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (pool, count) in held.into_iter().take(SHOWN) {
            status.counts.insert(format!("addresses of {pool}"), count);
        }
        status
    }
}
