//! What operators ask of the daemons: reservations, lists, and clearing up after a host.

use std::path::Path;
use std::time::Duration;

use dockline_admin::ipam::{Addresses, Clear, Pools, Reserve, Unreserve};
use dockline_admin::{Client, ClientError};
use dockline_plugin_specs::ipam::{ENDPOINT_NAME, ReleaseAddress, RequestAddress, RequestPool};
use dockline_testkit::{Etcd, eventually};
use tokio::task::JoinHandle;

use crate::support::docker::{Docker, daemon, request};

const POOL: &str = "dockline/10.0.0.0/24";

/// A host's daemon, killed when dropped.
struct Host {
    docker: Docker,
    operator: Client,
    life: JoinHandle<()>,
    folder: tempfile::TempDir,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.life.abort();
    }
}

async fn host(name: &str, etcd: &Etcd) -> Host {
    let folder = tempfile::tempdir().unwrap();
    let (docker, operator) = (Docker::of(folder.path()), operator(folder.path()));
    let store = format!("[store]\nkind = \"etcd\"\nendpoints = {:?}\n", etcd.endpoints());
    let daemon = daemon(folder.path(), name, &store).deadline(Duration::from_secs(120));
    let life = tokio::spawn(async move { drop(daemon.output().await) });
    let pool = RequestPool {
        address_space: "dockline".into(),
        pool: Some("10.0.0.0/24".parse().unwrap()),
        ..RequestPool::default()
    };
    docker.insist(&pool).await.unwrap();
    Host { docker, operator, life, folder }
}

fn operator(folder: &Path) -> Client {
    Client::new(folder.join("run/ipam.sock"), Duration::from_secs(30))
}

fn named(name: &str) -> RequestAddress {
    let mut request = request(POOL, None);
    request.options.insert(ENDPOINT_NAME.to_owned(), name.to_owned());
    request
}

fn reserve(name: &str, address: Option<&str>) -> Reserve {
    let address = address.map(|address| address.parse().unwrap());
    Reserve { pool: "10.0.0.0/24".into(), name: name.into(), address, mac: None }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> String {
    match answer.unwrap_err() {
        ClientError::Refused { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reserved_address_is_kept_for_its_container_on_whichever_host() {
    let etcd = Etcd::start(1).await.unwrap();
    let (one, two) = (host("node1", &etcd).await, host("node2", &etcd).await);
    let kept = one.operator.call(&reserve("db", Some("10.0.0.77"))).await.unwrap();
    assert!(kept.changed && kept.address.to_string() == "10.0.0.77");
    assert!(!one.operator.call(&reserve("db", None)).await.unwrap().changed, "it is so already");
    let error = refused(two.operator.call(&reserve("db", Some("10.0.0.78"))).await);
    assert!(error.contains("10.0.0.77 reserved already"), "{error}");
    let error = refused(two.operator.call(&reserve("web", Some("10.0.0.77"))).await);
    assert!(error.contains("reserved for db"), "{error}");
    let any = two.operator.call(&reserve("web", None)).await.unwrap();

    // The others have all that is left, and nobody those two.
    for at in 0..252 {
        let host = if at % 2 == 0 { &one } else { &two };
        let given = host.docker.insist(&request(POOL, None)).await.unwrap().address.addr();
        assert!(given != kept.address && given != any.address, "{given} was reserved");
    }
    let error = one.docker.insist(&named("other")).await.unwrap_err();
    assert!(error.contains("exhausted"), "{error}");
    let mut other = named("other");
    other.address = Some(kept.address);
    let error = one.docker.insist(&other).await.unwrap_err();
    assert!(error.contains("reserved for db"), "{error}");

    // Its container has it here, then there, and it stays reserved in between.
    for host in [&one, &two] {
        let given = host.docker.insist(&named("db")).await.unwrap().address.addr();
        assert_eq!(given, kept.address);
        let release = ReleaseAddress { pool_id: POOL.into(), address: given };
        let list = Addresses { pool: POOL.into(), host: None, limit: 1000 };
        let list = host.operator.call(&list).await.unwrap();
        let row = list.addresses.iter().find(|row| row.address == given).unwrap();
        assert!(row.holder.contains("the container db"), "{row:?}");
        assert_eq!(row.reserved.as_deref(), Some("db"));
        host.docker.insist(&release).await.unwrap();
    }
    let pools = two.operator.call(&Pools {}).await.unwrap();
    assert_eq!((pools[0].held, pools[0].reserved, pools[0].hosts), (254, 2, 2));
    let end = Unreserve { pool: POOL.into(), name: "db".into() };
    assert_eq!(two.operator.call(&end).await.unwrap().unwrap().address, kept.address);
    assert_eq!(two.operator.call(&end).await.unwrap(), None);
    let given = one.docker.insist(&request(POOL, None)).await.unwrap().address.addr();
    assert_eq!(given, kept.address, "it is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_gone_is_cleared_when_an_operator_says_so() {
    let etcd = Etcd::start(1).await.unwrap();
    let (one, two) = (host("node1", &etcd).await, host("node2", &etcd).await);
    let lost = one.docker.insist(&request(POOL, None)).await.unwrap().address.addr();
    let alive = two.docker.insist(&request(POOL, None)).await.unwrap().address.addr();
    let error = refused(two.operator.call(&Clear { host: "node2".into(), dry_run: true }).await);
    assert!(error.contains("is this host"), "{error}");
    drop(one);
    let would = two.operator.call(&Clear { host: "node1".into(), dry_run: true }).await.unwrap();
    assert_eq!((would.addresses.len(), would.pools.len()), (1, 1));
    assert!(would.addresses[0].contains(&lost.to_string()), "{would:?}");
    let done = two.operator.call(&Clear { host: "node1".into(), dry_run: false }).await.unwrap();
    assert_eq!(done, would);
    let again = two.operator.call(&Clear { host: "node1".into(), dry_run: false }).await.unwrap();
    assert!(again.addresses.is_empty() && again.pools.is_empty(), "{again:?}");
    let mut own = request(POOL, Some(&alive.to_string()));
    own.options.clear();
    assert!(two.docker.insist(&own).await.is_err(), "node2's own is still held");
    let pools = eventually("the pool's uses", Duration::from_secs(5), async || {
        let pools = two.operator.call(&Pools {}).await.ok()?;
        (pools[0].hosts == 1 && pools[0].held == 1).then_some(pools)
    });
    pools.await.unwrap();
    assert!(two.folder.path().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_none_are_refused_in_words() {
    let etcd = Etcd::start(1).await.unwrap();
    let one = host("node1", &etcd).await;
    let wish = |pool: &str, name: &str, mac: Option<&str>| Reserve {
        pool: pool.into(),
        name: name.into(),
        address: None,
        mac: mac.map(str::to_owned),
    };
    for (wish, words) in [
        (wish("prod", "db", None), "names no pool"),
        (wish("10.0.0.0/24", "a/b", None), "is not allowed"),
        (wish("10.0.0.0/24", "db", Some("x")), "is not a MAC"),
        (wish("10.9.0.0/24", "db", None), "does not exist"),
    ] {
        let error = refused(one.operator.call(&wish).await);
        assert!(error.contains(words), "{wish:?}: {error}");
    }
    let outside = reserve("db", Some("10.0.1.1"));
    let error = refused(one.operator.call(&outside).await);
    assert!(error.contains("is not in the subnet"), "{error}");
}
