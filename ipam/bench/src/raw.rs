//! The bare stores: one key created per transaction, and everything read in pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use dockline_store::embedded::Embedded;
use dockline_store::{Prefix, Scan, Store};
use etcd_client::{Client, Compare, CompareOp, GetOptions, KvClient, Txn, TxnOp};
use redb::{Database, Durability, TableDefinition};

use crate::measure::{AsyncAsk, Seen, clients};
use crate::stage::Stage;

/// How large the values are, in bytes.
const VALUE: usize = 64;

/// How many entries a page has: as many as the daemon's.
const PAGE: usize = dockline_store::MAX_PAGE;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bare");

/// Keys that no two transactions share.
static NEXT: AtomicU64 = AtomicU64::new(0);

fn next_key() -> Vec<u8> {
    format!("bare/{:020}", NEXT.fetch_add(1, Ordering::Relaxed)).into_bytes()
}

/// Creates keys, one per transaction, over one connection.
pub(crate) async fn creates(
    stage: &Stage,
    number: usize,
    length: Duration,
) -> anyhow::Result<Seen> {
    match &stage.etcd {
        Some(etcd) => {
            let endpoints = etcd.endpoints();
            let client = Client::connect(&endpoints[..1], None);
            let kv = client.await?.kv_client();
            clients(number, length, async |_| Ok(kv.clone()), Create).await
        }
        None => {
            let file = Arc::new(Database::create(stage.folder().join("bare.redb"))?);
            clients(number, length, async |_| Ok(Arc::clone(&file)), Create).await
        }
    }
}

#[derive(Clone)]
struct Create;

impl AsyncAsk<KvClient> for Create {
    async fn ask(&self, kv: &mut KvClient) -> anyhow::Result<()> {
        let key = next_key();
        let absent = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
        let put = TxnOp::put(key, vec![b'v'; VALUE], None);
        let done = kv.txn(Txn::new().when([absent]).and_then([put])).await?;
        anyhow::ensure!(done.succeeded(), "the key was new");
        Ok(())
    }
}

impl AsyncAsk<Arc<Database>> for Create {
    async fn ask(&self, file: &mut Arc<Database>) -> anyhow::Result<()> {
        let file = Arc::clone(file);
        let create = move || -> anyhow::Result<()> {
            let mut write = file.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            write.set_two_phase_commit(true);
            {
                let mut table = write.open_table(TABLE)?;
                let before = table.insert(next_key().as_slice(), [b'v'; VALUE].as_slice())?;
                anyhow::ensure!(before.is_none(), "the key was new");
            }
            Ok(write.commit()?)
        };
        tokio::task::spawn_blocking(create).await?
    }
}

/// Reads all entries in pages, and says how long that takes.
pub(crate) async fn paged_read(stage: &Stage) -> anyhow::Result<Duration> {
    let Some(etcd) = &stage.etcd else {
        let started = Instant::now();
        let store = Embedded::open(stage.file())?;
        let mut scan = store.scan(Prefix::default(), PAGE);
        while scan.next().await?.is_some() {}
        return Ok(started.elapsed());
    };
    let started = Instant::now();
    let client = Client::connect(&etcd.endpoints()[..1], None).await?;
    let mut kv = client.kv_client();
    let (mut from, mut revision) = (b"dockline/".to_vec(), 0);
    loop {
        let options = GetOptions::new().with_range("dockline0").with_revision(revision);
        let options = options.with_limit(i64::try_from(PAGE)?);
        let page = kv.get(from.clone(), Some(options)).await?;
        if revision == 0 {
            revision = page.header().context("an answer has a header")?.revision();
        }
        let Some(last) = page.kvs().last().filter(|_| page.more()) else { break };
        from = last.key().to_vec();
        from.push(0);
    }
    Ok(started.elapsed())
}
