//! The embedded store passes the contract.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use dockline_store::contract::{self, Space};
use dockline_store::embedded::Embedded;

struct Fixture {
    store: Arc<Embedded>,
    space: Space,
    _folder: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path().join("store.redb")).unwrap();
    Fixture { store: Arc::new(store), space: Space::new("contract"), _folder: folder }
}

macro_rules! contract {
    ($($name:ident),*) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let fixture = fixture();
            contract::$name(&*fixture.store, &fixture.space).await;
        }
    )* };
}
contract!(
    gets_and_scans_see_what_was_answered,
    a_scan_shows_one_moment_page_by_page,
    compares_guard_a_transaction,
    a_transaction_can_require_that_a_range_is_empty,
    all_or_nothing,
    deletes_make_a_key_new,
    the_limits_hold,
    a_watch_makes_progress
);

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_creates_a_key() {
    let fixture = fixture();
    contract::one_of_many_creates_a_key(&fixture.store, &fixture.space).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_where_a_scan_ended() {
    let fixture = fixture();
    contract::a_watch_goes_on_where_a_scan_ended(&fixture.store, &fixture.space).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_changes_of_one_key_are_all_counted() {
    let fixture = fixture();
    contract::concurrent_changes_of_one_key_are_all_counted(&fixture.store, &fixture.space).await;
}
