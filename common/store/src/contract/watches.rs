//! Watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Space, pages, put, value, write};
use crate::{Entry, Event, Key, Op, Outcome, Revision, Store, Txn, Watch};

/// How long a change may take to reach a watch before the suite calls it lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// A scan's picture, brought up to date by a watch, equals a later scan: no change is missed, told
/// twice or told out of order, while many clients write.
pub async fn a_watch_goes_on_where_a_scan_ended<S: Store>(store: &Arc<S>, space: &Space) {
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (store, space) = (Arc::clone(store), space.clone());
            tokio::spawn(async move { churn(&*store, &space, writer).await })
        })
        .collect();
    let mut followers = Vec::new();
    for _ in 0..3 {
        let pages = pages(&**store, space.prefix(), 5).await;
        let revision = pages[0].revision;
        let entries = pages.into_iter().flat_map(|page| page.entries);
        let picture = entries.map(|entry| (entry.key.clone(), entry)).collect();
        followers.push((store.watch(space.prefix(), revision), revision, picture));
    }
    for writer in writers {
        writer.await.expect("the writer ends");
    }
    let last = write(&**store, vec![put(space.key("end"), 1)]).await;
    let wanted: BTreeMap<Key, Entry> = pages(&**store, space.prefix(), 100)
        .await
        .into_iter()
        .flat_map(|page| page.entries)
        .map(|entry| (entry.key.clone(), entry))
        .collect();
    for (mut watch, revision, mut picture) in followers {
        let follow = follow(&mut watch, revision, last, &mut picture);
        tokio::time::timeout(PATIENCE, follow).await.expect("the watch tells of every change");
        assert_eq!(picture, wanted);
    }
}

/// Puts and deletes a few keys that all writers share.
async fn churn<S: Store>(store: &S, space: &Space, writer: usize) {
    for at in 0..60 {
        let (one, two) = (space.key((at * 7 + writer) % 11), space.key((at * 5) % 11 + 20));
        let ops = match at % 3 {
            0 => vec![put(one, at)],
            1 => vec![Op::Delete(one), put(two, at)],
            _ => vec![Op::Delete(two)],
        };
        let txn = Txn::new(vec![], ops).expect("a small transaction");
        let outcome = store.txn(txn).await.expect("the store answers");
        assert!(matches!(outcome, Outcome::Committed { .. }));
    }
}

/// Applies batches until `last`, checking each event against the picture so far.
async fn follow<W: Watch>(
    watch: &mut W,
    mut told: Revision,
    last: Revision,
    picture: &mut BTreeMap<Key, Entry>,
) {
    while told < last {
        let batch = watch.next().await.expect("the watch goes on");
        assert!(batch.revision > told, "a batch leads onwards");
        let mut at = told;
        for event in batch.events {
            assert!(event.revision() > told, "{event:?} was told before");
            assert!(event.revision() >= at, "{event:?} is out of order");
            assert!(event.revision() <= batch.revision, "{event:?} is ahead of its batch");
            at = event.revision();
            match event {
                Event::Put(entry) => {
                    let before = picture.insert(entry.key.clone(), entry.clone());
                    let created = before.map_or(entry.mod_revision, |old| old.create_revision);
                    assert_eq!(entry.create_revision, created, "a change before was missed");
                }
                Event::Delete { key, .. } => {
                    assert!(picture.remove(&key).is_some(), "{key} was removed twice");
                }
            }
        }
        told = batch.revision;
    }
}

/// A watch gets past changes that are not under its prefix, and tells of those that are at once.
pub async fn a_watch_makes_progress<S: Store>(store: &S, space: &Space) {
    let start = store.revision().await.expect("an answer");
    let quiet = Space::new(&format!("{}quiet", space.0));
    let mut watch = store.watch(quiet.prefix(), start);
    let elsewhere = write(store, vec![put(space.key("elsewhere"), 1)]).await;
    let mut told = start;
    while told < elsewhere {
        let batch = tokio::time::timeout(PATIENCE, watch.next()).await;
        let batch = batch.expect("the watch makes progress").expect("the watch goes on");
        assert!(batch.events.is_empty(), "{batch:?} is not under the prefix");
        told = batch.revision;
    }
    let revision = write(store, vec![put(quiet.key("a"), 1)]).await;
    let batch = loop {
        let batch = tokio::time::timeout(PATIENCE, watch.next()).await;
        let batch = batch.expect("the change is told").expect("the watch goes on");
        if !batch.events.is_empty() {
            break batch;
        }
    };
    let entry = Entry {
        key: quiet.key("a"),
        value: value(1),
        create_revision: revision,
        mod_revision: revision,
    };
    assert_eq!(batch.events, [Event::Put(entry)]);
}
