//! Members that are killed, paused and restarted under many clients: what was answered is so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{causes, open};
use dockline_store::etcd::Etcd;
use dockline_store::{Entry, Event, Key, Op, Outcome, Prefix, Revision, Scan, Store, StoreError};
use dockline_store::{Txn, Value, Watch};
use dockline_testkit::eventually;
use nix::sys::signal::Signal;

/// What a client was told of a key that it alone tried to create.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    Done,
    NotDone,
    Unknown,
}

fn key(text: impl ToString) -> Key {
    Key::new(text.to_string()).unwrap()
}

fn create(text: impl ToString) -> Txn {
    Txn::create(key(text), Value::new("x").unwrap())
}

async fn everything(store: &Etcd) -> (Revision, BTreeMap<Key, Entry>) {
    let mut scan = store.scan(Prefix::default(), 500);
    let (mut revision, mut all) = (Revision(0), BTreeMap::new());
    while let Some(page) = scan.next().await.unwrap() {
        revision = page.revision;
        all.extend(page.entries.into_iter().map(|entry| (entry.key.clone(), entry)));
    }
    (revision, all)
}

/// Creates keys of its own until told to stop, and remembers what it was told of each.
async fn client(store: Arc<Etcd>, number: usize, stop: Arc<AtomicBool>) -> Vec<(Key, Told)> {
    let mut told = Vec::new();
    for at in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("{number}/{at}");
        told.push((
            key(&name),
            match store.txn(create(&name)).await {
                Ok(Outcome::Committed { .. }) => Told::Done,
                Ok(other) => panic!("{name} was new, and yet: {other:?}"),
                Err(StoreError::Unavailable(_) | StoreError::Failed(_)) => Told::NotDone,
                Err(StoreError::Unknown(_)) => Told::Unknown,
                Err(other) => panic!("{other:?}"),
            },
        ));
    }
    told
}

/// Runs clients and a watch while `harm` does its worst, and compares what each was told with what
/// there is.
async fn endure(
    etcd: &mut dockline_testkit::Etcd,
    harm: impl AsyncFnOnce(&mut dockline_testkit::Etcd),
) {
    let stores = [Arc::new(open(etcd, "a").await), Arc::new(open(etcd, "b").await)];
    let (start, mut picture) = everything(&stores[0]).await;
    let mut watch = stores[1].watch(Prefix::default(), start);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            tokio::spawn(client(Arc::clone(&stores[number % 2]), number, Arc::clone(&stop)))
        })
        .collect();
    harm(etcd).await;
    // Somebody must get through again by itself.
    eventually("the store to be of use again", Duration::from_secs(30), async || {
        stores[0].revision().await.ok()?;
        stores[1].revision().await.ok()
    })
    .await
    .unwrap();
    stop.store(true, Ordering::Relaxed);
    let (mut done, mut unknown) = (0, 0);
    let mut told = Vec::new();
    for client in clients {
        told.extend(client.await.unwrap());
    }
    // What is still on its way is behind this.
    let last = stores[0].revision().await.unwrap().max(stores[1].revision().await.unwrap());
    let (_, all) = everything(&stores[0]).await;
    for (key, told) in told {
        match told {
            Told::Done => assert!(all.contains_key(&key), "{key} was created and is not there"),
            Told::NotDone => assert!(!all.contains_key(&key), "{key} was not done and is there"),
            Told::Unknown => unknown += 1,
        }
        done += usize::from(told == Told::Done);
    }
    // How many depends on the machine; that there were some shows that the clients worked.
    assert!(done > 0, "none done, {unknown} unknown");
    let mut at = start;
    while at < last {
        let batch = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        let batch = batch.expect("the watch goes on by itself").unwrap();
        for event in batch.events {
            assert!(event.revision() > at, "{event:?} was told before");
            let Event::Put(entry) = event else { panic!("nobody deletes: {event:?}") };
            picture.insert(entry.key.clone(), entry);
        }
        at = batch.revision;
    }
    assert_eq!(picture, all, "the watch told something else than there is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_member_that_is_killed_and_restarted() {
    let mut etcd = dockline_testkit::Etcd::start(1).await.unwrap();
    endure(&mut etcd, async |etcd| {
        for _ in 0..3 {
            etcd.end(0, Signal::SIGKILL).await.unwrap();
            etcd.run(0).await.unwrap();
            etcd.wait_until_well().await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_member_that_stands_still_for_a_while() {
    let mut etcd = dockline_testkit::Etcd::start(1).await.unwrap();
    endure(&mut etcd, async |etcd| {
        let store = open(etcd, "c").await;
        etcd.pause(0).unwrap();
        // Until a caller has been told that nothing is known, or that nothing was done.
        assert!(store.txn(create("c")).await.is_err());
        etcd.resume(0).unwrap();
        // What was in doubt is decided before anything else is done.
        let done = eventually("an answer", Duration::from_secs(20), async || {
            store.txn(create("d")).await.ok()
        });
        assert!(matches!(done.await.unwrap(), Outcome::Committed { .. }));
        let (_, all) = everything(&store).await;
        let after = store.txn(create("c")).await.unwrap();
        let was_there = all.contains_key(&key("c"));
        assert_eq!(matches!(after, Outcome::Committed { .. }), !was_there, "{after:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_leader_is_killed_and_paused() {
    let mut etcd = dockline_testkit::Etcd::start(3).await.unwrap();
    endure(&mut etcd, async |etcd| {
        let leader = etcd.leader().await.unwrap();
        etcd.end(leader, Signal::SIGKILL).await.unwrap();
        let next = etcd.leader().await.unwrap();
        assert_ne!(leader, next);
        etcd.run(leader).await.unwrap();
        etcd.wait_until_well().await.unwrap();
        etcd.pause(next).unwrap();
        let third = eventually("another leader", Duration::from_secs(20), async || {
            etcd.leader().await.ok().filter(|leader| *leader != next)
        });
        third.await.unwrap();
        etcd.resume(next).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_done_and_the_words_say_who_is_waited_for() {
    let mut etcd = dockline_testkit::Etcd::start(1).await.unwrap();
    let store = open(&etcd, "a").await;
    etcd.end(0, Signal::SIGKILL).await.unwrap();
    let started = Instant::now();
    let error = store.txn(create("a")).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let text = causes(&error);
    assert!(text.contains(&etcd.endpoints()[0]), "{text}");
    // After a while nobody is kept waiting for long.
    let started = Instant::now();
    let error = store.txn(create("a")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let read = store.get(key("a")).await.unwrap_err();
    assert!(matches!(read, StoreError::Unavailable(_)), "{read:?}");
    etcd.run(0).await.unwrap();
    let done = eventually("an answer", Duration::from_secs(20), async || {
        store.txn(create("a")).await.ok()
    });
    assert!(matches!(done.await.unwrap(), Outcome::Committed { .. }), "it was done after all");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_compacted_is_told() {
    let etcd = dockline_testkit::Etcd::start(1).await.unwrap();
    let store = open(&etcd, "a").await;
    let puts = (0..50).map(|at| Op::Put(key(at), Value::new("x").unwrap())).collect();
    store.txn(Txn::new(vec![], puts).unwrap()).await.unwrap();
    let mut scan = store.scan(Prefix::default(), 20);
    let first = scan.next().await.unwrap().unwrap();
    let behind = store.revision().await.unwrap();
    store.txn(create("later")).await.unwrap();
    let now = store.revision().await.unwrap();
    etcd.ctl().args(["compact", &now.to_string()]).run().await.unwrap();
    let error = scan.next().await.unwrap_err();
    assert!(matches!(error, StoreError::Compacted { after } if after == first.revision));
    let mut watch = store.watch(Prefix::default(), behind);
    let error = watch.next().await.unwrap_err();
    assert!(matches!(error, StoreError::Compacted { after } if after == behind), "{error:?}");
    // From here on nothing is missing.
    let mut watch = store.watch(Prefix::default(), now);
    store.txn(create("last")).await.unwrap();
    loop {
        let batch = watch.next().await.unwrap();
        if batch.events.iter().any(|event| *event.key() == key("last")) {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_process_sent_cannot_be_done_after_a_restart() {
    let mut etcd = dockline_testkit::Etcd::start(1).await.unwrap();
    for round in 0..5 {
        let store = Arc::new(open(&etcd, "a").await);
        etcd.pause(0).unwrap();
        let name = format!("ghost{round}");
        let (ghost, txn) = (Arc::clone(&store), create(&name));
        // It lies in the member's socket, and its sender is gone.
        let sent = tokio::spawn(async move { ghost.txn(txn).await });
        assert!(tokio::time::timeout(Duration::from_millis(300), sent).await.is_err());
        drop(store);
        etcd.resume(0).unwrap();
        let again = open(&etcd, "a").await;
        let (_, before) = everything(&again).await;
        again.revision().await.unwrap();
        let (_, after) = everything(&again).await;
        assert_eq!(before, after, "{name} was done after the restart");
    }
    etcd.end(0, Signal::SIGTERM).await.unwrap();
}
