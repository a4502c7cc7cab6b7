//! The suite that every implementation of the store must pass.
//!
//! Each function takes a store and a prefix of its own, so that all may run against one server,
//! and panics with what is wrong. The store may be in use by others at the same time. What is
//! particular to an implementation (crashes, full disks, lost connections) is not in here.

mod reads;
mod txns;
mod watches;

pub use reads::{a_scan_shows_one_moment_page_by_page, gets_and_scans_see_what_was_answered};
pub use txns::{
    a_transaction_can_require_that_a_range_is_empty, all_or_nothing, compares_guard_a_transaction,
    concurrent_changes_of_one_key_are_all_counted, deletes_make_a_key_new,
    one_of_many_creates_a_key, the_limits_hold,
};
pub use watches::{a_watch_goes_on_where_a_scan_ended, a_watch_makes_progress};

use crate::{Compare, Entry, Key, Op, Outcome, Page, Prefix, Revision, Scan, Store, Txn, Value};

/// A part of the store's keys that one test has for itself.
#[derive(Debug, Clone)]
pub struct Space(String);

impl Space {
    /// The keys that begin with `name` and a slash. Nothing may be stored there.
    pub fn new(name: &str) -> Self {
        Self(format!("{name}/"))
    }

    pub(crate) fn prefix(&self) -> Prefix {
        Prefix::new(self.0.as_str()).expect("a short prefix")
    }

    pub(crate) fn key(&self, name: impl std::fmt::Display) -> Key {
        Key::new(format!("{}{name}", self.0)).expect("a short key")
    }
}

fn value(text: impl ToString) -> Value {
    Value::new(text.to_string()).expect("a short value")
}

fn put(key: Key, text: impl ToString) -> Op {
    Op::Put(key, value(text))
}

/// Does it without conditions, and gives the revision.
async fn write<S: Store>(store: &S, ops: Vec<Op>) -> Revision {
    let txn = Txn::new(vec![], ops).expect("a small transaction");
    match store.txn(txn).await.expect("the store answers") {
        Outcome::Committed { revision } => revision,
        failed @ Outcome::Failed { .. } => panic!("nothing was compared, and yet: {failed:?}"),
    }
}

async fn run<S: Store>(store: &S, compares: Vec<Compare>, ops: Vec<Op>) -> Outcome {
    let txn = Txn::new(compares, ops).expect("a small transaction");
    store.txn(txn).await.expect("the store answers")
}

async fn get<S: Store>(store: &S, key: Key) -> Option<Entry> {
    store.get(key).await.expect("the store answers")
}

async fn pages<S: Store>(store: &S, prefix: Prefix, page: usize) -> Vec<Page> {
    let mut scan = store.scan(prefix, page);
    let mut pages = Vec::new();
    while let Some(page) = scan.next().await.expect("the scan goes on") {
        pages.push(page);
    }
    pages
}
