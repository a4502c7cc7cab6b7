//! What operators see: `dockline status`.

use std::sync::Arc;

use dockline_admin::ipam::{Addresses, Clear, Pools, Reserve, Unreserve};
use dockline_admin::{Status, Verb};
use dockline_daemon::{Admin, AdminError, Context, carry_out};
use dockline_store::Store;

use crate::engine::Engine;
use crate::opening::Opening;
use crate::verbs::VerbError;

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

impl<S: Store> IpamAdmin<S> {
    async fn engine(&self) -> Result<Arc<Engine<S>>, VerbError> {
        Ok(self.opening.engine().await?)
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

    async fn call(&self, verb: &str, body: &[u8]) -> Result<Vec<u8>, AdminError> {
        match verb {
            Reserve::NAME => {
                carry_out(body, async |wish: Reserve| self.engine().await?.reserve(wish).await)
                    .await
            }
            Unreserve::NAME => {
                carry_out(body, async |wish: Unreserve| self.engine().await?.unreserve(wish).await)
                    .await
            }
            Addresses::NAME => {
                carry_out(body, async |wish: Addresses| self.engine().await?.list(wish).await).await
            }
            Pools::NAME => {
                carry_out(body, async |_: Pools| self.engine().await?.pool_list().await).await
            }
            Clear::NAME => {
                carry_out(body, async |wish: Clear| self.engine().await?.clear(wish).await).await
            }
            other => Err(AdminError::Unknown(other.to_owned())),
        }
    }
}
