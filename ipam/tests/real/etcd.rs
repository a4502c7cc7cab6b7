//! Many hosts on real etcd: shared pools and gateways, the last address, and pools that go away.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{container, named, on_etcd, text};
use dockline_ipam::IpamError;
use dockline_testkit::{Etcd, eventually};
use nix::sys::signal::Signal;

async fn keys(etcd: &Etcd, prefix: &str) -> Vec<String> {
    let prefix = format!("dockline/ipam/{prefix}");
    let get = etcd.ctl().args(["get", &prefix, "--prefix", "--keys-only"]).run().await.unwrap();
    let text = get.text();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_drain_a_pool_to_the_last_address_and_the_next_is_told() {
    let etcd = Etcd::start(3).await.unwrap();
    let mut clients = Vec::new();
    let mut hosts = Vec::new();
    let pool = "dockline/10.0.0.0/23";
    for name in ["a", "b", "c", "d"] {
        let host = Arc::new(on_etcd(name, &etcd));
        host.pool("10.0.0.0/23").await.unwrap();
        host.gateway(pool, Some("10.0.0.1")).await.unwrap();
        hosts.push(host);
    }
    // 510 can be used, the gateway has one: 509 requests, no more and no less, have one each.
    for at in 0..509 {
        let host = Arc::clone(&hosts[at % 4]);
        clients.push(tokio::spawn(async move { host.address(pool, None).await }));
    }
    let mut all = BTreeSet::new();
    for client in clients {
        let address = client.await.unwrap().unwrap();
        assert!(all.insert(address), "{address} was given twice");
    }
    for host in &hosts {
        let error = host.address(pool, None).await.unwrap_err();
        assert!(matches!(error, IpamError::Exhausted(_)), "{error:?}");
        assert!(text(&error).contains("all 510 addresses of 10.0.0.0/23"), "{error}");
    }
    // What one host gives back, another has at once.
    let freed = *all.iter().nth(100).unwrap();
    for host in &hosts {
        host.release(pool, freed).await.unwrap();
    }
    assert_eq!(hosts[3].address(pool, None).await.unwrap(), freed);
    assert_eq!(keys(&etcd, "address/").await.len(), 510);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_share_a_pool_with_ranges_and_gateways_of_their_own_choice() {
    let etcd = Etcd::start(1).await.unwrap();
    let (one, two) = (on_etcd("node1", &etcd), on_etcd("node2", &etcd));
    let ranged = |range: &str| {
        let mut request = named("10.0.0.0/16");
        request.sub_pool = Some(range.parse().unwrap());
        request
    };
    let first = one.pool_with(ranged("10.0.1.0/24")).await.unwrap();
    let second = two.pool_with(ranged("10.0.2.0/24")).await.unwrap();
    let gateway = one.gateway(&first, None).await.unwrap();
    assert_eq!(two.gateway(&second, None).await.unwrap(), gateway);
    for (host, pool, range) in [(&one, &first, "10.0.1."), (&two, &second, "10.0.2.")] {
        for _ in 0..5 {
            let address = host.address(pool, None).await.unwrap().to_string();
            assert!(address.starts_with(range), "{address}");
        }
    }
    // An address that is asked for may be anywhere, and belongs to one.
    two.address(&second, Some("10.0.9.9")).await.unwrap();
    let error = text(&one.address(&first, Some("10.0.9.9")).await.unwrap_err());
    assert!(error.contains("on host node2"), "{error}");
    let error = text(&one.pool("10.0.0.0/20").await.unwrap_err());
    assert!(error.contains("overlaps 10.0.0.0/16"), "{error}");
    // Both families, and no default pool twice.
    let mut default = named("10.0.0.0/16");
    default.pool = None;
    let mut pools = BTreeSet::new();
    for host in [&one, &two] {
        for v6 in [false, true] {
            default.v6 = v6;
            assert!(pools.insert(host.pool_with(default.clone()).await.unwrap()), "{pools:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_address_is_left_without_its_pool() {
    let etcd = Etcd::start(1).await.unwrap();
    let (one, two) = (Arc::new(on_etcd("node1", &etcd)), Arc::new(on_etcd("node2", &etcd)));
    let pool = one.pool("10.0.0.0/24").await.unwrap();
    one.drop_pool(&pool).await.unwrap();
    for round in 0..40 {
        one.pool("10.0.0.0/24").await.unwrap();
        // node2 may not have heard of the pool, and asks for an address of it while it goes.
        let (host, id) = (Arc::clone(&two), pool.clone());
        let asked = tokio::spawn(async move { host.address(&id, None).await });
        if round % 3 == 0 {
            tokio::task::yield_now().await;
        }
        one.drop_pool(&pool).await.unwrap();
        let (pools, addresses) = (keys(&etcd, "pool/").await, keys(&etcd, "address/").await);
        match asked.await.unwrap() {
            Ok(address) => {
                assert_eq!(keys(&etcd, "pool/").await.len(), 1, "{address} has no pool");
                two.release(&pool, address).await.unwrap();
                let gone = eventually("the pool to go", Duration::from_secs(10), async || {
                    keys(&etcd, "pool/").await.is_empty().then_some(())
                });
                gone.await.unwrap();
            }
            Err(IpamError::UnknownPool(_)) => {
                assert!(pools.is_empty() && addresses.is_empty(), "{pools:?} {addresses:?}")
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_etcd_the_driver_says_whom_it_waits_for_and_goes_on_by_itself() {
    let mut etcd = Etcd::start(1).await.unwrap();
    let host = on_etcd("node1", &etcd);
    let pool = host.pool("10.0.0.0/24").await.unwrap();
    let before = host.address(&pool, None).await.unwrap();
    etcd.end(0, Signal::SIGKILL).await.unwrap();
    let error = text(&host.address(&pool, None).await.unwrap_err());
    assert!(error.contains(&etcd.endpoints()[0]), "{error}");
    let late = on_etcd("node2", &etcd);
    let error = text(&late.pool("10.0.0.0/24").await.unwrap_err());
    assert!(error.contains("waiting for the store of addresses"), "{error}");
    assert!(error.contains(&etcd.endpoints()[0]), "{error}");
    etcd.run(0).await.unwrap();
    let after = eventually("an address", Duration::from_secs(20), async || {
        host.address(&pool, None).await.ok()
    });
    assert_ne!(after.await.unwrap(), before);
    let found = eventually("the other host", Duration::from_secs(20), async || {
        late.pool("10.0.0.0/24").await.ok()
    });
    assert_eq!(found.await.unwrap(), pool);
    let web = container(&pool, Some(&before.to_string()), Some("web"));
    let error = text(&late.address_with(web).await.unwrap_err());
    assert!(error.contains("on host node1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_version_that_takes_over_is_noticed() {
    let etcd = Etcd::start(1).await.unwrap();
    let host = on_etcd("node1", &etcd);
    let pool = host.pool("10.0.0.0/24").await.unwrap();
    etcd.ctl().args(["put", "dockline/ipam/layout", "2"]).run().await.unwrap();
    let refused =
        eventually("the newer layout to be noticed", Duration::from_secs(10), async || match host
            .address(&pool, None)
            .await
        {
            Err(IpamError::Newer(error)) => Some(error.to_string()),
            _ => None,
        });
    let refused = refused.await.unwrap();
    assert!(refused.contains("run that version here too"), "{refused}");
}
