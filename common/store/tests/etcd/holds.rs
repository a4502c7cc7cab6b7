//! The store on real etcd: one member and a cluster of three hold the contract.

use std::sync::Arc;

use crate::support::open;
use dockline_store::contract::{self, Space};

macro_rules! contract {
    ($store:expr, $($name:ident),*) => { $(
        contract::$name(&*$store, &Space::new(stringify!($name))).await;
    )* };
}

async fn holds_the_contract(members: usize) {
    let etcd = dockline_testkit::Etcd::start(members).await.unwrap();
    let store = Arc::new(open(&etcd, "node1").await);
    contract!(
        store,
        gets_and_scans_see_what_was_answered,
        a_scan_shows_one_moment_page_by_page,
        compares_guard_a_transaction,
        a_transaction_can_require_that_a_range_is_empty,
        all_or_nothing,
        deletes_make_a_key_new,
        the_limits_hold,
        a_watch_makes_progress
    );
    contract::one_of_many_creates_a_key(&store, &Space::new("many")).await;
    contract::concurrent_changes_of_one_key_are_all_counted(&store, &Space::new("count")).await;
    contract::a_watch_goes_on_where_a_scan_ended(&store, &Space::new("watch")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_holds_the_contract() {
    holds_the_contract(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_hold_the_contract() {
    holds_the_contract(3).await;
}
