//! Several hosts on one store, and what others may have left in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::support::flaky::Flaky;
use crate::support::{container, text};
use dockline_ipam::IpamError;

fn shared() -> (Flaky, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Flaky::open(folder.path().to_owned()), folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_share_pools_and_gateways_and_nothing_else() {
    let (store, _folder) = shared();
    let (one, two) = (store.host("node1"), store.sound().host("node2"));
    let pool = one.pool("10.0.0.0/24").await.unwrap();
    assert_eq!(two.pool("10.0.0.0/24").await.unwrap(), pool);
    let gateway = one.gateway(&pool, Some("10.0.0.1")).await.unwrap();
    assert_eq!(two.gateway(&pool, Some("10.0.0.1")).await.unwrap(), gateway);
    assert_eq!(two.gateway(&pool, None).await.unwrap(), gateway);
    let web = container(&pool, Some("10.0.0.9"), Some("web1"));
    one.address_with(web.clone()).await.unwrap();
    let error = text(&two.address_with(web).await.unwrap_err());
    assert!(
        error.contains("held by the container web1 (02:42:0a:00:00:01) on host node1"),
        "{error}"
    );
    // One host's release does not free what another holds.
    two.release(&pool, "10.0.0.9".parse().unwrap()).await.unwrap();
    two.address(&pool, Some("10.0.0.9")).await.unwrap_err();
    one.release(&pool, gateway).await.unwrap();
    one.release(&pool, gateway).await.unwrap();
    two.address(&pool, Some("10.0.0.1")).await.unwrap_err();
    one.release(&pool, "10.0.0.9".parse().unwrap()).await.unwrap();
    one.drop_pool(&pool).await.unwrap();
    one.drop_pool(&pool).await.unwrap();
    assert_eq!(store.keys("ipam/pool/").await.len(), 1, "node2 still uses it");
    two.release(&pool, gateway).await.unwrap();
    two.release(&pool, gateway).await.unwrap();
    two.drop_pool(&pool).await.unwrap();
    assert_eq!(store.keys("ipam/").await, ["ipam/layout", "ipam/space/dockline"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_drain_a_pool_to_the_last_address() {
    let (store, _folder) = shared();
    let hosts = ["a", "b", "c"].map(|name| Arc::new(store.sound().host(name)));
    let mut clients = Vec::new();
    for host in &hosts {
        let pool = host.pool("10.0.0.0/23").await.unwrap();
        for _ in 0..10 {
            let (host, pool) = (Arc::clone(host), pool.clone());
            clients.push(tokio::spawn(async move {
                let mut got = Vec::new();
                loop {
                    match host.address(&pool, None).await {
                        Ok(address) => got.push(address),
                        Err(IpamError::Exhausted(_)) => return got,
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }));
        }
    }
    let mut all = BTreeSet::new();
    for client in clients {
        for address in client.await.unwrap() {
            assert!(all.insert(address), "{address} was given twice");
        }
    }
    assert_eq!(all.len(), 510);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_damaged_keys_are_left_alone_and_do_not_stop_anyone() {
    let (store, _folder) = shared();
    let pool = "dockline/10.0.0.0/24";
    store.put("ipam/nonsense", "x").await;
    store.put("ipam/pool/dockline/10.1.0.0/16", "{").await;
    store.put("ipam/address/dockline/10.0.0.0/24/10.0.0.1", "not json").await;
    let host = store.host("node1");
    host.pool("10.0.0.0/24").await.unwrap();
    // A key without a readable record is still a key: nobody else gets the address.
    assert_eq!(host.address(pool, None).await.unwrap().to_string(), "10.0.0.2");
    let error = text(&host.address(pool, Some("10.0.0.1")).await.unwrap_err());
    assert!(
        error.contains("ipam/address/dockline/10.0.0.0/24/10.0.0.1 in the store is damaged"),
        "{error}"
    );
    host.release(pool, "10.0.0.1".parse().unwrap()).await.unwrap_err();
    // A damaged pool is in use, by whomever.
    let error = host.pool("10.1.0.0/16").await.unwrap_err();
    assert!(matches!(error, IpamError::Damaged { .. }), "{error:?}");
    let error = host.pool("10.1.2.0/24").await.unwrap_err();
    assert!(matches!(error, IpamError::Pool(_)), "{error:?}");
    // Also when they come later, past the watch.
    store.put("ipam/later", "x").await;
    store.put("ipam/address/dockline/10.0.0.0/24/10.0.0.3", "").await;
    assert_eq!(host.address(pool, None).await.unwrap().to_string(), "10.0.0.4");
    let keys = store.keys("ipam/").await;
    for key in ["ipam/nonsense", "ipam/later", "ipam/pool/dockline/10.1.0.0/16"] {
        assert!(keys.iter().any(|there| there == key), "{key} is gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_a_killed_daemon_left_is_removed_at_the_next_start() {
    let (store, _folder) = shared();
    store.put("ipam/pool/dockline/10.0.0.0/24", r#"{"hosts":{}}"#).await;
    let used = r#"{"hosts":{"other":{"networks":1,"nonce":"x"}}}"#;
    store.put("ipam/pool/dockline/10.1.0.0/24", used).await;
    let host = store.host("node1");
    host.pool("10.0.0.0/16").await.unwrap();
    host.pool("10.1.0.0/16").await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_layout_is_not_written_to() {
    let (store, _folder) = shared();
    store.put("ipam/layout", "2").await;
    let host = store.host("node1");
    let error = text(&host.pool("10.0.0.0/24").await.unwrap_err());
    assert!(
        error.contains("waiting for the store of addresses: the store has layout 2"),
        "{error}"
    );
    assert!(error.contains("run that version here too"), "{error}");
    assert_eq!(store.keys("").await, ["ipam/layout"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_missed_changes_reads_them_anew() {
    let (store, _folder) = shared();
    let (one, two) = (store.host("node1"), store.sound().host("node2"));
    let pool = one.pool("10.0.0.0/24").await.unwrap();
    one.address(&pool, None).await.unwrap();
    // More changes in one go than the store keeps for those who watch.
    for at in 0..800 {
        store.fill(at).await;
    }
    let free = two.pool("10.0.0.0/24").await.unwrap();
    assert_eq!(two.address(&free, None).await.unwrap().to_string(), "10.0.0.2");
    assert_eq!(one.address(&pool, None).await.unwrap().to_string(), "10.0.0.3");
}
