//! The store's types as etcd's, and back.

use std::collections::HashSet;

use etcd_client::{
    Compare as EtcdCompare, CompareOp, GetOptions, KeyValue, Txn as EtcdTxn, TxnOp, TxnOpResponse,
    TxnResponse,
};

use super::error::Failure;
use super::options::Namespace;
use crate::{Compare, Entry, Key, Op, Outcome, Revision, Txn, Value};

/// etcd's `--max-txn-ops`.
const MAX_FLAT: usize = 128;

pub(super) fn revision(number: i64) -> Revision {
    // etcd's revisions are positive.
    Revision(u64::try_from(number).unwrap_or_default())
}

pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// An entry of the store; `None` for a key of etcd's that is none of the store's.
pub(super) fn entry(namespace: &Namespace, kv: &KeyValue) -> Option<Entry> {
    // What others put here may be longer than we allow; it is still there.
    Some(Entry {
        key: Key::stored(namespace.inner(kv.key())?.to_vec()),
        value: Value::stored(kv.value().to_vec()),
        create_revision: revision(kv.create_revision()),
        mod_revision: revision(kv.mod_revision()),
    })
}

/// The end of the range of keys that begin with `prefix`. A namespace has a byte below 0xff.
pub(super) fn end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

fn compare(namespace: &Namespace, compare: &Compare) -> EtcdCompare {
    let key = namespace.outer(compare.key().as_bytes());
    match compare {
        Compare::Absent(_) => EtcdCompare::create_revision(key, CompareOp::Equal, 0),
        Compare::Present(_) => EtcdCompare::create_revision(key, CompareOp::Greater, 0),
        // For etcd what is not there has revision 0; nothing is below.
        Compare::Unchanged(_, Revision(0)) => EtcdCompare::mod_revision(key, CompareOp::Less, 0),
        Compare::Unchanged(_, revision) => {
            EtcdCompare::mod_revision(key, CompareOp::Equal, number(*revision))
        }
        Compare::Equals(_, value) => EtcdCompare::value(key, CompareOp::Equal, value.as_bytes()),
        // Each key of the range is compared; of an empty range, a key that is not there.
        Compare::NoneUnder(_) => {
            let end = end(&key);
            EtcdCompare::create_revision(key, CompareOp::Equal, 0).with_range(end)
        }
    }
}

/// What to read to see what a compare was about.
pub(super) fn look(namespace: &Namespace, compare: &Compare) -> (Vec<u8>, GetOptions) {
    let key = namespace.outer(compare.key().as_bytes());
    let options = match compare {
        Compare::NoneUnder(_) => GetOptions::new().with_range(end(&key)).with_limit(1),
        _ => GetOptions::new(),
    };
    (key, options)
}

fn op(namespace: &Namespace, op: &Op) -> TxnOp {
    match op {
        Op::Put(key, value) => TxnOp::put(namespace.outer(key.as_bytes()), value.as_bytes(), None),
        Op::Delete(key) => TxnOp::delete(namespace.outer(key.as_bytes()), None),
    }
}

/// Transactions as one of etcd's in which all compares must hold, or `None` if they are too many.
/// What several compare in the same way is compared once.
pub(super) fn flat<'a>(
    namespace: &Namespace,
    txns: impl Iterator<Item = &'a Txn>,
) -> Option<(Vec<EtcdCompare>, Vec<TxnOp>)> {
    let (mut compares, mut ops) = (Vec::new(), Vec::new());
    let mut present = HashSet::new();
    for txn in txns {
        for one in txn.compares() {
            // Of all compares only this one is about what many share.
            let known = matches!(one, Compare::Present(key) if !present.insert(key));
            if !known {
                compares.push(compare(namespace, one));
            }
        }
        ops.extend(txn.ops().iter().map(|one| op(namespace, one)));
    }
    // With the fence, one more of each.
    (compares.len().max(ops.len()) < MAX_FLAT).then_some((compares, ops))
}

/// A transaction as a part of one of etcd's, which on failure tells what it found.
pub(super) fn nested(namespace: &Namespace, txn: &Txn) -> TxnOp {
    let compares: Vec<_> = txn.compares().iter().map(|one| compare(namespace, one)).collect();
    let ops: Vec<_> = txn.ops().iter().map(|one| op(namespace, one)).collect();
    let looks = txn.compares().iter().map(|one| {
        let (key, options) = look(namespace, one);
        TxnOp::get(key, Some(options))
    });
    let looks: Vec<_> = looks.collect();
    TxnOp::txn(EtcdTxn::new().when(compares).and_then(ops).or_else(looks))
}

/// What became of a nested transaction within one of etcd's at `revision`.
pub(super) fn outcome(
    namespace: &Namespace,
    answer: &TxnResponse,
    revision: Revision,
) -> Result<Outcome, Failure> {
    if answer.succeeded() {
        return Ok(Outcome::Committed { revision });
    }
    let looked = answer.op_responses().into_iter().map(|response| match response {
        TxnOpResponse::Get(get) => Ok(get.kvs().first().and_then(|kv| entry(namespace, kv))),
        _ => Err(Failure::Nonsense),
    });
    Ok(Outcome::Failed { revision, found: looked.collect::<Result<_, _>>()? })
}
