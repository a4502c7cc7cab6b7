//! Fills a pool, past the daemon.

use std::net::Ipv4Addr;

use dockline_store::embedded::Embedded;
use dockline_store::etcd::{Etcd, EtcdOptions};
use dockline_store::{Key, MAX_TXN_OPS, Op, Store, Txn, Value};
use futures_util::{TryStreamExt, stream};

use crate::stage::Stage;

/// How many transactions are under way at once.
const AT_ONCE: usize = 8;

/// Writes so many records of containers' addresses, scattered over 10.0.0.0/8.
pub(crate) async fn fill(stage: &Stage, held: u32) -> anyhow::Result<()> {
    match &stage.etcd {
        Some(etcd) => {
            let options = EtcdOptions {
                endpoints: etcd.endpoints(),
                namespace: "dockline".parse()?,
                writer: "filler".to_owned(),
                tls: None,
                user: None,
            };
            write(&Etcd::open(options).await?, held).await
        }
        None => write(&Embedded::open(stage.file())?, held).await,
    }
}

async fn write<S: Store>(store: &S, held: u32) -> anyhow::Result<()> {
    let each = u32::try_from(MAX_TXN_OPS)?;
    let txns = (0..held.div_ceil(each)).map(|at| {
        let ops = (at * each..held.min((at + 1) * each)).map(record);
        Ok::<_, anyhow::Error>(Txn::new(vec![], ops.collect::<Result<_, _>>()?)?)
    });
    stream::iter(txns)
        .try_for_each_concurrent(AT_ONCE, async |txn| {
            store.txn(txn).await?;
            Ok(())
        })
        .await
}

fn record(at: u32) -> anyhow::Result<Op> {
    // Odd, so that no two of 2^24 are the same; 10.0.0.0 itself is not for use.
    let offset = at.wrapping_mul(10_368_889).wrapping_add(4_096) % (1 << 24);
    let address = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + offset);
    let key = format!("ipam/address/dockline/10.0.0.0/8/{address}");
    let value = format!(
        "{{\"kind\":\"endpoint\",\"host\":\"node{}\",\"nonce\":\"7c5ebd1d5a2b9f10-{at:x}\",\
         \"mac\":\"02:42:0a:00:00:01\",\"since\":1700000000}}",
        100 + at % 400
    );
    Ok(Op::Put(Key::new(key)?, Value::new(value)?))
}
