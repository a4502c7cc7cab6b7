//! What is refused when a store file is opened, and in which words.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dockline_store::embedded::{Embedded, OpenError, SCHEMA};
use dockline_store::{Key, Revision, Store, Txn, Value};
use redb::{Database, ReadableDatabase, TableDefinition};

fn refused(path: &Path) -> OpenError {
    Embedded::open(path).expect_err("this file must be refused")
}

async fn create(store: &Embedded, key: &str) {
    let txn = Txn::create(Key::new(key).unwrap(), Value::new("value").unwrap());
    store.txn(txn).await.unwrap();
}

#[tokio::test]
async fn a_store_is_there_again_after_it_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = Embedded::open(&path).unwrap();
    assert_eq!(store.revision().await.unwrap(), Revision(0));
    create(&store, "a").await;
    let before = store.get(Key::new("a").unwrap()).await.unwrap();
    assert!(before.is_some());
    drop(store);
    let store = Embedded::open(&path).unwrap();
    assert_eq!(store.get(Key::new("a").unwrap()).await.unwrap(), before);
    assert_eq!(store.revision().await.unwrap(), Revision(1));
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others must not read it");
}

#[tokio::test]
async fn only_one_can_have_it_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = Embedded::open(&path).unwrap();
    let error = refused(&path);
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    // The refusal has not disturbed the one who has it.
    create(&store, "a").await;
    // A scan that is still open does not hold the file.
    let mut scan = store.scan(dockline_store::Prefix::default(), 1);
    dockline_store::Scan::next(&mut scan).await.unwrap();
    drop(store);
    Embedded::open(&path).unwrap();
}

#[test]
fn a_newer_layout_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    drop(Embedded::open(&path).unwrap());
    let database = Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    let meta = TableDefinition::<&str, u64>::new("meta");
    write.open_table(meta).unwrap().insert("schema", SCHEMA + 1).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = refused(&path);
    assert!(matches!(error, OpenError::NewerSchema { found, .. } if found == SCHEMA + 1));
    assert!(error.to_string().contains("written by a newer Dockline"), "{error}");
    let database = Database::open(&path).unwrap();
    let read = database.begin_read().unwrap();
    let row = read.open_table(meta).unwrap().get("schema").unwrap().unwrap().value();
    assert_eq!(row, SCHEMA + 1);
}

#[test]
fn what_is_not_a_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(&text, "not a database, and longer than any header".repeat(1000)).unwrap();
    let error = refused(&text);
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
    assert!(std::fs::read_to_string(&text).unwrap().starts_with("not a database"));

    let other = folder.path().join("other.redb");
    let database = Database::create(&other).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(TableDefinition::<u64, u64>::new("theirs")).unwrap().insert(1, 1).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = refused(&other);
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
}

#[test]
fn the_rest_of_a_making_that_was_cut_short_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let new = folder.path().join("store.redb.new");
    // As redb leaves it before its first commit: room, and no header.
    std::fs::write(&new, vec![0; 45056]).unwrap();
    drop(Embedded::open(&path).unwrap());
    assert!(path.exists() && !new.exists());
    // Between the two names.
    std::fs::hard_link(&path, &new).unwrap();
    drop(Embedded::open(&path).unwrap());
    assert!(path.exists() && !new.exists());
}

#[test]
fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(&folder.path().join("missing/store.redb"));
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("missing/store.redb"), "{error}");
}

#[test]
fn a_file_that_was_cut_short_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    drop(Embedded::open(&path).unwrap());
    let length = path.metadata().unwrap().len();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
    let error = refused(&path);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
}
