//! Requests and answers that are lost between the daemon and its store, at every step.

use std::time::Duration;

use crate::support::Host;
use crate::support::flaky::{Fault, Flaky};
use dockline_ipam::IpamError;

/// Repeats a call as an operator would whose `docker` command failed.
async fn again<T, F: Future<Output = Result<T, IpamError>>>(call: impl Fn() -> F) -> T {
    for _ in 0..3 {
        match call().await {
            Ok(done) => return done,
            Err(IpamError::Store(_) | IpamError::Unknown(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("the fault is over, and the call still fails");
}

/// The life of a network and a container on it.
async fn live(host: &Host<Flaky>) {
    let pool = again(|| host.pool("10.0.0.0/24")).await;
    let gateway = again(|| host.gateway(&pool, None)).await;
    let one = again(|| host.address(&pool, None)).await;
    let two = again(|| host.address(&pool, Some("10.0.0.77"))).await;
    assert!(one != two && one != gateway, "{one} {two} {gateway}");
    let kept = again(|| host.auxiliary(&pool, "10.0.0.99")).await;
    for address in [one, two, kept, gateway] {
        again(|| host.release(&pool, address)).await;
    }
    again(|| host.drop_pool(&pool)).await;
}

/// Waits until what was asked for in vain has been taken back.
async fn wait_until_empty(store: &Flaky, what: &str) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..1000 {
        tick.tick().await;
        let (addresses, pools) =
            (store.keys("ipam/address/").await, store.keys("ipam/pool/").await);
        if addresses.is_empty() && pools.is_empty() {
            return;
        }
    }
    panic!("{what}: left behind: {:?}", store.keys("ipam/").await);
}

async fn fail_at_every_step(fault: Fault, times: usize) {
    for after in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let store = Flaky::open(folder.path().to_owned());
        let host = store.host("node1");
        // The store must be open, or the faults would hit its opening.
        host.release("dockline/10.0.0.0/24", "10.0.0.1".parse().unwrap()).await.unwrap();
        store.plan(after, fault, times);
        live(&host).await;
        wait_until_empty(&store, &format!("{fault:?} x{times} after {after}")).await;
        if !store.is_over() {
            assert!(after > 8, "only {after} transactions in a network's life");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_leaves_nothing_half_made() {
    fail_at_every_step(Fault::Refused, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_recognised() {
    fail_at_every_step(Fault::AnswerLost, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_request_is_repeated() {
    fail_at_every_step(Fault::RequestLost, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_unknown_is_taken_back() {
    fail_at_every_step(Fault::AnswerLost, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_lost_answer_is_not_noticed_by_docker() {
    let folder = tempfile::tempdir().unwrap();
    let store = Flaky::open(folder.path().to_owned());
    let host = store.host("node1");
    let pool = host.pool("10.0.0.0/24").await.unwrap();
    for fault in [Fault::AnswerLost, Fault::RequestLost] {
        store.plan(0, fault, 2);
        let address = host.address(&pool, None).await.unwrap();
        store.plan(0, fault, 1);
        host.release(&pool, address).await.unwrap();
        assert_eq!(store.keys("ipam/address/").await, [""; 0]);
    }
}
