//! Transactions.

use std::sync::Arc;

use super::{Space, get, pages, put, run, value, write};
use crate::{Compare, Entry, MAX_KEY_BYTES, MAX_TXN_OPS, MAX_VALUE_BYTES};
use crate::{Key, Op, Outcome, Store, Txn, Value};

/// Compares hold or fail as they say, and a failed one tells what is there.
pub async fn compares_guard_a_transaction<S: Store>(store: &S, space: &Space) {
    let (key, other) = (space.key("a"), space.key("b"));
    let created =
        match run(store, vec![Compare::Absent(key.clone())], vec![put(key.clone(), 1)]).await {
            Outcome::Committed { revision } => revision,
            failed @ Outcome::Failed { .. } => panic!("the key is new, and yet: {failed:?}"),
        };
    let entry = get(store, key.clone()).await.expect("it was created");
    let wanted = Entry {
        key: key.clone(),
        value: value(1),
        create_revision: created,
        mod_revision: created,
    };
    assert_eq!(entry, wanted);

    let unequal = [
        Compare::Absent(key.clone()),
        Compare::Equals(key.clone(), value(2)),
        Compare::Unchanged(key.clone(), crate::Revision(created.0 + 1)),
        Compare::Present(other.clone()),
        Compare::Unchanged(other.clone(), created),
        Compare::Equals(other.clone(), value("")),
    ];
    for compare in unequal {
        let there = (*compare.key() == key).then(|| entry.clone());
        let holds = Compare::Unchanged(key.clone(), created);
        match run(store, vec![holds, compare.clone()], vec![put(other.clone(), 1)]).await {
            Outcome::Failed { found, .. } => assert_eq!(found, [Some(entry.clone()), there]),
            done @ Outcome::Committed { .. } => panic!("{compare:?} does not hold: {done:?}"),
        }
        assert_eq!(get(store, other.clone()).await, None, "a failed transaction wrote");
    }

    let holding = vec![
        Compare::Present(key.clone()),
        Compare::Equals(key.clone(), value(1)),
        Compare::Unchanged(key.clone(), created),
        Compare::Absent(other.clone()),
    ];
    let replaced = run(store, holding, vec![put(key.clone(), 2)]).await;
    let Outcome::Committed { revision } = replaced else { panic!("all hold: {replaced:?}") };
    assert!(revision > created, "a change makes a new revision");
    let entry = get(store, key).await.expect("it is there");
    assert_eq!((entry.create_revision, entry.mod_revision), (created, revision));
    assert_eq!(entry.value, value(2));
}

/// A whole range can be required to be empty, and only that range counts.
pub async fn a_transaction_can_require_that_a_range_is_empty<S: Store>(store: &S, space: &Space) {
    let (guard, inside, beside) = (space.key("r/"), space.key("r/x"), space.key("r0"));
    write(store, vec![put(beside.clone(), 1), put(space.key("r"), 1)]).await;
    let none = || vec![Compare::NoneUnder(guard.clone())];
    let first = run(store, none(), vec![put(inside.clone(), 1)]).await;
    assert!(matches!(first, Outcome::Committed { .. }), "{first:?}");
    match run(store, none(), vec![Op::Delete(beside.clone())]).await {
        Outcome::Failed { found, .. } => {
            let found: Vec<_> = found.into_iter().flatten().map(|entry| entry.key).collect();
            assert_eq!(found, std::slice::from_ref(&inside));
        }
        done @ Outcome::Committed { .. } => panic!("{inside} is there: {done:?}"),
    }
    assert!(get(store, beside).await.is_some(), "a failed transaction wrote");
    write(store, vec![Op::Delete(inside)]).await;
    let again = run(store, none(), vec![]).await;
    assert!(matches!(again, Outcome::Committed { .. }), "{again:?}");
}

/// Transactions that are asked for at once and touch the same keys are done one after the other:
/// each of many that add one to a number is counted.
pub async fn concurrent_changes_of_one_key_are_all_counted<S: Store>(
    store: &Arc<S>,
    space: &Space,
) {
    const CLIENTS: usize = 8;
    const EACH: usize = 10;
    let (number, log) = (space.key("number"), space.key("log/"));
    write(&**store, vec![put(number.clone(), 0)]).await;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (store, number, space) = (Arc::clone(store), number.clone(), space.clone());
            tokio::spawn(async move {
                for at in 0..EACH {
                    loop {
                        let entry = get(&*store, number.clone()).await.expect("it is there");
                        let count: usize = entry.value.to_string().parse().expect("a number");
                        let ops = vec![
                            put(number.clone(), count + 1),
                            put(space.key(format!("log/{client}-{at}")), count + 1),
                        ];
                        let unchanged = Compare::Unchanged(number.clone(), entry.mod_revision);
                        let txn = Txn::new(vec![unchanged], ops).expect("a small transaction");
                        match store.txn(txn).await.expect("the store answers") {
                            Outcome::Committed { .. } => break,
                            Outcome::Failed { found, .. } => assert!(found[0].is_some()),
                        }
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("the client ends");
    }
    let count = get(&**store, number).await.expect("it is there").value;
    assert_eq!(count, value(CLIENTS * EACH));
    let prefix = crate::Prefix::new(log.as_bytes()).expect("a short prefix");
    let mut seen: Vec<usize> = pages(&**store, prefix, 100)
        .await
        .iter()
        .flat_map(|page| &page.entries)
        .map(|entry| entry.value.to_string().parse().expect("a number"))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=CLIENTS * EACH).collect::<Vec<_>>(), "a number was given twice");
}

/// All operations of a transaction are done at one revision, or none is.
pub async fn all_or_nothing<S: Store>(store: &S, space: &Space) {
    let keys: Vec<Key> = (0..MAX_TXN_OPS).map(|at| space.key(at)).collect();
    let puts = |text: &str| keys.iter().map(|key| put(key.clone(), text)).collect::<Vec<Op>>();
    let revision = write(store, puts("x")).await;
    for key in &keys {
        assert_eq!(get(store, key.clone()).await.map(|entry| entry.mod_revision), Some(revision));
    }
    let mut compares: Vec<Compare> =
        keys.iter().map(|key| Compare::Unchanged(key.clone(), revision)).collect();
    compares[MAX_TXN_OPS - 1] = Compare::Absent(keys[MAX_TXN_OPS - 1].clone());
    let refused = run(store, compares, puts("y")).await;
    assert!(matches!(refused, Outcome::Failed { .. }), "{refused:?}");
    let pages = pages(store, space.prefix(), 1000).await;
    assert!(pages.iter().flat_map(|page| &page.entries).all(|entry| entry.value == value("x")));
}

/// Deleting what is not there changes nothing; a key put after its removal is a new one.
pub async fn deletes_make_a_key_new<S: Store>(store: &S, space: &Space) {
    let key = space.key("a");
    let absent = run(store, vec![], vec![Op::Delete(key.clone())]).await;
    assert!(matches!(absent, Outcome::Committed { .. }), "{absent:?}");
    let first = write(store, vec![put(key.clone(), 1)]).await;
    let removed = write(store, vec![Op::Delete(key.clone())]).await;
    assert!(removed > first);
    assert_eq!(get(store, key.clone()).await, None);
    let second = write(store, vec![put(key.clone(), 1)]).await;
    let entry = get(store, key.clone()).await.expect("it is there again");
    assert_eq!((entry.create_revision, entry.mod_revision), (second, second));
    let stale = run(store, vec![Compare::Unchanged(key, first)], vec![]).await;
    assert!(matches!(stale, Outcome::Failed { .. }), "{stale:?}");
}

/// Of many who create the same keys at once, each key goes to exactly one, who is told so.
pub async fn one_of_many_creates_a_key<S: Store>(store: &Arc<S>, space: &Space) {
    const KEYS: usize = 50;
    const CLIENTS: usize = 8;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (store, space) = (Arc::clone(store), space.clone());
            tokio::spawn(async move {
                let mut won = Vec::new();
                for at in 0..KEYS {
                    let key = space.key(format!("{at:03}"));
                    let txn = Txn::create(key.clone(), value(client));
                    if let Outcome::Committed { .. } = store.txn(txn).await.expect("an answer") {
                        won.push(key);
                    }
                }
                won
            })
        })
        .collect();
    let mut won = 0;
    for (client, task) in clients.into_iter().enumerate() {
        for key in task.await.expect("the client ends") {
            let entry = get(&**store, key).await.expect("it was created");
            assert_eq!(entry.value, value(client), "two were told that they created a key");
            won += 1;
        }
    }
    assert_eq!(won, KEYS, "every key has a winner");
}

/// What the limits allow is taken, in all its bytes.
pub async fn the_limits_hold<S: Store>(store: &S, space: &Space) {
    let room = MAX_KEY_BYTES - space.prefix().as_bytes().len();
    let odd: Vec<u8> = (0..=255).cycle().take(MAX_VALUE_BYTES).collect();
    let long = space.key("x".repeat(room));
    let large = Value::new(odd).expect("a value at the limit");
    let mut bytes = space.prefix().as_bytes().to_vec();
    bytes.extend([0, 255, 254, b'/', 0]);
    let odd = Key::new(bytes).expect("a key of odd bytes");
    let ops = vec![Op::Put(long.clone(), large.clone()), Op::Put(odd.clone(), value(""))];
    write(store, ops).await;
    assert_eq!(get(store, long).await.map(|entry| entry.value), Some(large));
    assert_eq!(get(store, odd).await.map(|entry| entry.value), Some(value("")));
    // 15 of the largest values are just below what a transaction may carry.
    let many = (0..15).map(|at| {
        Op::Put(space.key(at), Value::new(vec![b'z'; MAX_VALUE_BYTES]).expect("at the limit"))
    });
    write(store, many.collect()).await;
}
