//! Docker's calls on the driver over the embedded store.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::support::{Host, SPACE, container, embedded, named, text};
use dockline_ipam::IpamError;
use dockline_plugin_specs::ipam::{IpamDriver, RequestAddress, RequestPool};

struct Fixture {
    host: Host,
    folder: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    Fixture { host: embedded(folder.path().to_owned()), folder }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn options(name: &str, value: &str) -> std::collections::BTreeMap<String, String> {
    [(name.to_owned(), value.to_owned())].into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_of_docker_from_create_to_remove() {
    let Fixture { host, folder } = fixture();
    let pool = host.pool("10.100.0.0/24").await.unwrap();
    assert_eq!(pool, "dockline/10.100.0.0/24");
    assert_eq!(host.gateway(&pool, Some("10.100.0.1")).await.unwrap(), ip("10.100.0.1"));
    assert_eq!(host.auxiliary(&pool, "10.100.0.5").await.unwrap(), ip("10.100.0.5"));
    let answer = host.0.request_address(container(&pool, None, None)).await.unwrap();
    assert_eq!(answer.address.to_string(), "10.100.0.2/24");
    let rest: Vec<String> = [
        host.address(&pool, None).await.unwrap(),
        host.address(&pool, None).await.unwrap(),
        host.address(&pool, None).await.unwrap(),
    ]
    .map(|address| address.to_string())
    .into();
    assert_eq!(rest, ["10.100.0.3", "10.100.0.4", "10.100.0.6"]);

    // Everything is there after a restart.
    drop(host);
    let host = embedded(folder.path().to_owned());
    let error = host.address(&pool, Some("10.100.0.3")).await.unwrap_err();
    assert!(matches!(error, IpamError::InUse { .. }), "{error:?}");
    for last in [1, 5, 2, 3, 4, 6] {
        host.release(&pool, ip(&format!("10.100.0.{last}"))).await.unwrap();
    }
    host.drop_pool(&pool).await.unwrap();
    let error = host.address(&pool, None).await.unwrap_err();
    assert!(matches!(error, IpamError::UnknownPool(_)), "{error:?}");
    // Nothing of it is left that would be in the way of another.
    host.pool("10.100.0.0/16").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_cannot_be_had_is_refused_in_words() {
    let Fixture { host, .. } = fixture();
    let pool = host.pool("10.0.0.0/24").await.unwrap();
    host.gateway(&pool, Some("10.0.0.1")).await.unwrap();
    host.address_with(container(&pool, Some("10.0.0.9"), Some("web1"))).await.unwrap();
    for (address, words) in [
        ("10.0.1.1", "is not in the subnet 10.0.0.0/24: choose one of 10.0.0.1 to 10.0.0.254"),
        ("10.0.0.0", "is the network address of the subnet"),
        ("10.0.0.255", "is the broadcast address of the subnet"),
        ("fd00::1", "is not of the same family as the subnet"),
        ("10.0.0.1", "held by the gateway of networks on host node1"),
        ("10.0.0.9", "held by the container web1 (02:42:0a:00:00:01) on host node1"),
    ] {
        let error = text(&host.address(&pool, Some(address)).await.unwrap_err());
        assert!(error.contains(words), "{address}: {error}");
    }
    let error = text(&host.gateway(&pool, Some("10.0.0.9")).await.unwrap_err());
    assert!(error.contains("held by the container web1"), "{error}");
    let error = text(&host.auxiliary(&pool, "10.0.0.9").await.unwrap_err());
    assert!(error.contains("held by the container web1"), "{error}");
    // Nothing of all this took anything.
    let free = host.address(&pool, None).await.unwrap();
    assert_eq!(free, ip("10.0.0.2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_cannot_be_had_is_refused_in_words_and_leaves_nothing() {
    let Fixture { host, .. } = fixture();
    host.pool("10.1.0.0/16").await.unwrap();
    let with = |change: &dyn Fn(&mut RequestPool)| {
        let mut request = named("10.2.0.0/16");
        change(&mut request);
        request
    };
    let cases = [
        (named("10.1.2.0/24"), "overlaps 10.1.0.0/16, which is in use in the address space"),
        (named("10.0.0.0/8"), "overlaps 10.1.0.0/16"),
        (named("0.0.0.0/0"), "is too large"),
        (named("224.0.0.0/16"), "is for multicast"),
        (with(&|r| r.options = options("spase", "x")), "--ipam-opt spase=\"x\" is not known"),
        (
            with(&|r| r.options = options("space", "a/b")),
            "--ipam-opt space=\"a/b\" cannot be taken",
        ),
        (with(&|r| r.address_space = "a/b".into()), "the address space \"a/b\" is not allowed"),
        (with(&|r| r.address_space = String::new()), "the address space \"\" is not allowed"),
        (with(&|r| r.sub_pool = Some("10.3.0.0/24".parse().unwrap())), "is not within the subnet"),
        (with(&|r| r.sub_pool = Some("fd00::/64".parse().unwrap())), "is not within the subnet"),
        (
            with(&|r| {
                r.pool = None;
                r.sub_pool = Some("10.2.0.0/24".parse().unwrap());
            }),
            "add --subnet",
        ),
    ];
    for (request, words) in cases {
        let error = text(&host.pool_with(request).await.unwrap_err());
        assert!(error.contains(words), "{error}");
    }
    for id in ["", "nonsense", "dockline/10.1.0.0/16/x", "dockline/10.1.0.1/16"] {
        let error = host.address(id, None).await.unwrap_err();
        assert!(matches!(error, IpamError::PoolId(_)), "{id}: {error:?}");
        host.drop_pool(id).await.unwrap();
        host.release(id, ip("10.1.0.1")).await.unwrap();
    }
    // Had anything been made, this would overlap.
    host.pool("10.2.0.0/15").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_subnet_is_the_same_pool_and_counted() {
    let Fixture { host, folder } = fixture();
    let one = host.pool("10.0.0.0/24").await.unwrap();
    let two = host.pool("10.0.0.0/24").await.unwrap();
    assert_eq!(one, two);
    // A range is a part of the pool, not another one.
    let mut ranged = named("10.0.0.0/24");
    ranged.sub_pool = Some("10.0.0.64/26".parse().unwrap());
    let three = host.pool_with(ranged).await.unwrap();
    assert_eq!(three, "dockline/10.0.0.0/24/10.0.0.64/26");
    assert_eq!(host.address(&three, None).await.unwrap(), ip("10.0.0.64"));
    assert_eq!(host.address(&one, None).await.unwrap(), ip("10.0.0.1"));
    let error = host.address(&one, Some("10.0.0.64")).await.unwrap_err();
    assert!(matches!(error, IpamError::InUse { .. }), "{error:?}");
    // Explicit, auxiliary and gateway addresses may lie outside the range.
    assert_eq!(host.address(&three, Some("10.0.0.200")).await.unwrap(), ip("10.0.0.200"));
    host.auxiliary(&three, "10.0.0.201").await.unwrap();
    host.gateway(&three, Some("10.0.0.254")).await.unwrap();

    host.drop_pool(&one).await.unwrap();
    host.drop_pool(&three).await.unwrap();
    drop(host);
    let host = embedded(folder.path().to_owned());
    host.address(&one, None).await.unwrap();
    host.drop_pool(&two).await.unwrap();
    // Nobody refers to it, and yet addresses are held: it goes with the last of them.
    for held in ["10.0.0.1", "10.0.0.2", "10.0.0.64", "10.0.0.200", "10.0.0.201"] {
        host.release(&one, ip(held)).await.unwrap();
        let error = host.pool("10.0.0.0/16").await.unwrap_err();
        assert!(matches!(error, IpamError::Pool(_)), "{held}: {error:?}");
    }
    host.release(&one, ip("10.0.0.254")).await.unwrap();
    host.pool("10.0.0.0/16").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn releasing_what_is_not_held_changes_nothing() {
    let Fixture { host, .. } = fixture();
    let pool = host.pool("10.0.0.0/24").await.unwrap();
    let held = host.address(&pool, None).await.unwrap();
    for other in ["10.0.0.77", "10.0.0.0", "10.9.9.9", "fd00::1"] {
        host.release(&pool, ip(other)).await.unwrap();
    }
    host.release("dockline/10.7.0.0/16", ip("10.7.0.1")).await.unwrap();
    host.drop_pool("dockline/10.7.0.0/16").await.unwrap();
    let error = host.address(&pool, Some(&held.to_string())).await.unwrap_err();
    assert!(matches!(error, IpamError::InUse { .. }), "{error:?}");
    // Twice is once.
    host.release(&pool, held).await.unwrap();
    host.release(&pool, held).await.unwrap();
    host.drop_pool(&pool).await.unwrap();
    host.drop_pool(&pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_share_a_gateway() {
    let Fixture { host, .. } = fixture();
    let pool = host.pool("10.0.0.0/24").await.unwrap();
    for _ in 0..3 {
        assert_eq!(host.gateway(&pool, Some("10.0.0.254")).await.unwrap(), ip("10.0.0.254"));
    }
    // One that names none gets the one there is.
    assert_eq!(host.gateway(&pool, None).await.unwrap(), ip("10.0.0.254"));
    for left in (0..4).rev() {
        let error = host.address(&pool, Some("10.0.0.254")).await.unwrap_err();
        assert!(matches!(error, IpamError::InUse { .. }), "{left}: {error:?}");
        host.release(&pool, ip("10.0.0.254")).await.unwrap();
    }
    assert_eq!(host.address(&pool, Some("10.0.0.254")).await.unwrap(), ip("10.0.0.254"));
    // The remembered gateway is a container's now: another is chosen, and kept to.
    assert_eq!(host.gateway(&pool, None).await.unwrap(), ip("10.0.0.1"));
    assert_eq!(host.gateway(&pool, None).await.unwrap(), ip("10.0.0.1"));
    // Auxiliary addresses are shared in the same way.
    host.auxiliary(&pool, "10.0.0.7").await.unwrap();
    host.auxiliary(&pool, "10.0.0.7").await.unwrap();
    host.release(&pool, ip("10.0.0.7")).await.unwrap();
    let error = host.address(&pool, Some("10.0.0.7")).await.unwrap_err();
    assert!(matches!(error, IpamError::InUse { .. }), "{error:?}");
    host.release(&pool, ip("10.0.0.7")).await.unwrap();
    host.address(&pool, Some("10.0.0.7")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_container_gets_its_address_again() {
    let Fixture { host, .. } = fixture();
    let pool = host.pool("10.0.0.0/24").await.unwrap();
    let mut web = container(&pool, Some("10.0.0.9"), Some("web1"));
    host.address_with(web.clone()).await.unwrap();
    // dockerd was killed before it knew; it asks again, with a new random MAC.
    let mac = web.options.get_mut("com.docker.network.endpoint.macaddress").unwrap();
    *mac = "02:42:ff:00:00:02".into();
    host.address_with(web).await.unwrap();
    let other = container(&pool, Some("10.0.0.9"), Some("web2"));
    let error = text(&host.address_with(other).await.unwrap_err());
    assert!(error.contains("held by the container web1 (02:42:ff:00:00:02)"), "{error}");
    // Without a name (engines before 29) two containers may be meant.
    host.address(&pool, Some("10.0.0.10")).await.unwrap();
    host.address(&pool, Some("10.0.0.10")).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn default_pools_differ_while_they_are_held() {
    let Fixture { host, .. } = fixture();
    let default = |v6| RequestPool { address_space: SPACE.into(), v6, ..RequestPool::default() };
    host.pool("10.209.1.0/25").await.unwrap();
    let mut given = Vec::new();
    for _ in 0..3 {
        given.push(host.pool_with(default(false)).await.unwrap());
    }
    let wanted = ["10.209.0.0/24", "10.209.2.0/24", "10.209.3.0/24"];
    assert_eq!(given, wanted.map(|pool| format!("dockline/{pool}")));
    let error = text(&host.pool_with(default(false)).await.unwrap_err());
    assert!(error.contains("no default IPv4 pool is free: name one with --subnet"), "{error}");
    host.drop_pool(&given[1]).await.unwrap();
    assert_eq!(host.pool_with(default(false)).await.unwrap(), given[1]);
    let v6 = host.pool_with(default(true)).await.unwrap();
    assert_eq!(v6, "dockline/fd64:6f63:6b6c::/64");
    assert_eq!(host.address(&v6, None).await.unwrap(), ip("fd64:6f63:6b6c::1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_family_follows_from_the_subnet_and_any_size_works() {
    let Fixture { host, .. } = fixture();
    // The engine forgets the flag (moby#34902), or sets it for an IPv4 subnet.
    let v6 = host.pool("fd00:0:0:1::/64").await.unwrap();
    assert_eq!(host.address(&v6, None).await.unwrap(), ip("fd00:0:0:1::1"));
    let large = host.pool("fd12::/16").await.unwrap();
    assert_eq!(host.address(&large, None).await.unwrap(), ip("fd12::1"));
    let last = "fd12:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    assert_eq!(host.address(&large, Some(last)).await.unwrap(), ip(last));
    let flagged = RequestPool { v6: true, ..named("10.0.0.0/8") };
    let v4 = host.pool_with(flagged).await.unwrap();
    assert_eq!(host.address(&v4, None).await.unwrap(), ip("10.0.0.1"));
    let pair = host.pool("172.20.0.0/31").await.unwrap();
    assert_eq!(host.address(&pair, None).await.unwrap(), ip("172.20.0.0"));
    assert_eq!(host.address(&pair, None).await.unwrap(), ip("172.20.0.1"));
    assert!(matches!(host.address(&pair, None).await, Err(IpamError::Exhausted(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_do_not_see_each_other() {
    let Fixture { host, .. } = fixture();
    let spaces = host.0.default_address_spaces();
    assert_ne!(spaces.local, spaces.global);
    let one = host.pool("10.0.0.0/24").await.unwrap();
    let lab = RequestPool { options: options("space", "lab"), ..named("10.0.0.0/16") };
    let two = host.pool_with(lab).await.unwrap();
    assert_eq!(two, "lab/10.0.0.0/16");
    assert_eq!(host.address(&one, None).await.unwrap(), ip("10.0.0.1"));
    assert_eq!(host.address(&two, None).await.unwrap(), ip("10.0.0.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_overlapping_pools_at_once_one_is_made() {
    for _ in 0..20 {
        let Fixture { host, .. } = fixture();
        let (one, two) = tokio::join!(host.pool("10.0.0.0/16"), host.pool("10.0.7.0/24"));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        let error = one.err().or(two.err()).unwrap();
        assert!(matches!(error, IpamError::Pool(_)), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_networks_of_one_pool_are_all_counted() {
    let Fixture { host, .. } = fixture();
    let host = std::sync::Arc::new(host);
    let networks = (0..16).map(|_| {
        let host = std::sync::Arc::clone(&host);
        tokio::spawn(async move {
            let pool = host.pool("10.0.0.0/24").await.unwrap();
            host.gateway(&pool, None).await.unwrap()
        })
    });
    let networks: Vec<_> = networks.collect();
    let mut gateways = BTreeSet::new();
    for network in networks {
        gateways.insert(network.await.unwrap());
    }
    assert_eq!(gateways, BTreeSet::from([ip("10.0.0.1")]));
    let pool = "dockline/10.0.0.0/24";
    for _ in 0..16 {
        host.pool("10.0.0.0/16").await.unwrap_err();
        host.release(pool, ip("10.0.0.1")).await.unwrap();
        host.drop_pool(pool).await.unwrap();
    }
    host.pool("10.0.0.0/16").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_the_plugin_answers_and_says_what_it_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ipam.redb");
    std::fs::write(&file, "not a store ".repeat(1000)).unwrap();
    let host = embedded(folder.path().to_owned());
    assert!(host.0.capabilities().requires_mac_address);
    assert_eq!(host.0.default_address_spaces().local, SPACE);
    let error = text(&host.pool("10.0.0.0/24").await.unwrap_err());
    assert!(error.contains("waiting for the store of addresses"), "{error}");
    assert!(error.contains("is not a Dockline store"), "{error}");
    // What makes no sense is refused all the same, and at once.
    let nonsense = RequestAddress { pool_id: "nonsense".into(), ..RequestAddress::default() };
    let error = host.address_with(nonsense).await.unwrap_err();
    assert!(matches!(error, IpamError::PoolId(_)), "{error:?}");
    // Once the way is clear it goes on by itself.
    std::fs::remove_file(&file).unwrap();
    for _ in 0..10 {
        match host.pool("10.0.0.0/24").await {
            Ok(_) => return,
            Err(error) => assert!(matches!(error, IpamError::Waiting { .. }), "{error:?}"),
        }
    }
    panic!("the store is not opened once it can be");
}
