//! Reads: linearizable, from whichever member answers.

use std::sync::Arc;

use etcd_client::GetOptions;

use super::error::{Failure, is_compacted};
use super::link::Link;
use super::wire;
use crate::{Entry, Key, MAX_PAGE, Page, Prefix, Revision, Scan, StoreError};

pub(super) async fn get(link: &Link, key: &Key) -> Result<Option<Entry>, StoreError> {
    let namespace = &link.options().namespace;
    let answer = link.get(&namespace.outer(key.as_bytes()), &GetOptions::new()).await;
    let answer = answer.map_err(|(failure, _)| failure)?;
    Ok(answer.kvs().first().and_then(|kv| wire::entry(namespace, kv)))
}

/// A scan of etcd: the revision it began with, and how far it has got.
#[derive(Debug)]
pub struct EtcdScan {
    link: Arc<Link>,
    prefix: Prefix,
    page: usize,
    revision: Option<i64>,
    /// Where to go on, in etcd's keys.
    from: Vec<u8>,
    done: bool,
}

impl EtcdScan {
    pub(super) fn new(link: Arc<Link>, prefix: Prefix, page: usize) -> Self {
        let from = link.options().namespace.outer(prefix.as_bytes());
        Self { link, prefix, page: page.clamp(1, MAX_PAGE), revision: None, from, done: false }
    }
}

impl Scan for EtcdScan {
    async fn next(&mut self) -> Result<Option<Page>, StoreError> {
        if self.done {
            return Ok(None);
        }
        let namespace = &self.link.options().namespace;
        let end = wire::end(&namespace.outer(self.prefix.as_bytes()));
        let limit = i64::try_from(self.page).unwrap_or(i64::MAX);
        let options = GetOptions::new().with_range(end).with_limit(limit);
        let options = options.with_revision(self.revision.unwrap_or_default());
        let answer = match self.link.get(&self.from, &options).await {
            Ok(answer) => answer,
            Err((_, Some(source))) if is_compacted(&source) => {
                let after: Revision = wire::revision(self.revision.unwrap_or_default());
                return Err(StoreError::Compacted { after });
            }
            Err((failure, _)) => return Err(failure.into()),
        };
        let head = answer.header().ok_or(Failure::Nonsense)?.revision();
        let revision = *self.revision.get_or_insert(head);
        if let Some(last) = answer.kvs().last() {
            self.from = last.key().to_vec();
            self.from.push(0);
        }
        self.done = !answer.more();
        let entries = answer.kvs().iter().filter_map(|kv| wire::entry(namespace, kv)).collect();
        Ok(Some(Page { revision: wire::revision(revision), entries }))
    }
}
