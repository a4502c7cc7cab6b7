//! Pools to the last address, by many at once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::support::{embedded, text};
use dockline_ipam::IpamError;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_many_as_there_are_addresses_succeed_and_the_next_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let host = Arc::new(embedded(folder.path().to_owned()));
    let pool = host.pool("10.0.0.0/22").await.unwrap();
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let (host, pool) = (Arc::clone(&host), pool.clone());
            tokio::spawn(async move {
                let mut got = Vec::new();
                loop {
                    match host.address(&pool, None).await {
                        Ok(address) => got.push(address),
                        Err(error) => return (got, error),
                    }
                }
            })
        })
        .collect();
    let mut all = BTreeSet::new();
    for client in clients {
        let (got, error) = client.await.unwrap();
        assert!(matches!(error, IpamError::Exhausted(_)), "{error:?}");
        let words = text(&error);
        assert!(words.contains("exhausted: all 1022 addresses of 10.0.0.0/22"), "{words}");
        for address in got {
            assert!(all.insert(address), "{address} was given twice");
        }
    }
    assert_eq!(all.len(), 1022);
    // The very next request after a release has it.
    for address in all.iter().step_by(100) {
        host.release(&pool, *address).await.unwrap();
        assert_eq!(host.address(&pool, None).await.unwrap(), *address);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_address_has_two_owners_while_many_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let host = Arc::new(embedded(folder.path().to_owned()));
    let pool = host.pool("10.0.0.0/28").await.unwrap();
    let owned = Arc::new(Mutex::new(BTreeSet::new()));
    // Fourteen addresses for fourteen clients: nobody may ever be told that there is none.
    let clients: Vec<_> = (0..14)
        .map(|_| {
            let (host, pool, owned) = (Arc::clone(&host), pool.clone(), Arc::clone(&owned));
            tokio::spawn(async move {
                for _ in 0..50 {
                    let address = host.address(&pool, None).await.unwrap();
                    assert!(owned.lock().unwrap().insert(address), "{address} has two owners");
                    tokio::task::yield_now().await;
                    assert!(owned.lock().unwrap().remove(&address));
                    host.release(&pool, address).await.unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    host.drop_pool(&pool).await.unwrap();
    host.pool("10.0.0.0/8").await.unwrap();
}
