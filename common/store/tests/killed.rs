//! Killed at any moment, the store has everything it answered.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use dockline_exec::{ExecError, Program};
use dockline_store::embedded::{Embedded, OpenError};
use dockline_store::{Entry, Key, Prefix, Scan, Store, Txn, Value};

/// Tells the writer below where to write, and that it is to go on until it is killed.
const FOLDER: &str = "DOCKLINE_STORE_KILL_TEST";

/// Clients of one writer; each fills a row of keys of its own.
const CLIENTS: u32 = 4;

async fn entries(store: &Embedded) -> Vec<Entry> {
    let mut scan = store.scan(Prefix::default(), 1000);
    let mut entries = Vec::new();
    while let Some(page) = scan.next().await.unwrap() {
        entries.extend(page.entries);
    }
    entries
}

/// Goes on with a row after the last key in the store; notes each key once it is answered.
async fn fill(store: &Embedded, client: u32, from: u32, most: u32, notes: &Mutex<File>) {
    for at in from..from + most {
        let key = format!("{client}/{at:08}");
        let txn = Txn::create(Key::new(key.as_str()).unwrap(), Value::new(key.as_str()).unwrap());
        store.txn(txn).await.unwrap();
        writeln!(notes.lock().unwrap(), "{key}").unwrap();
    }
}

async fn write_rows(folder: &Path, most: u32) {
    let store = Arc::new(open(&folder.join("store.redb")).await);
    let notes = File::options().create(true).append(true).open(folder.join("notes")).unwrap();
    let notes = Arc::new(Mutex::new(notes));
    let there = entries(&store).await;
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let row = format!("{client}/");
        let from = there.iter().filter(|entry| entry.key.as_bytes().starts_with(row.as_bytes()));
        let from = u32::try_from(from.count()).unwrap();
        let (store, notes) = (Arc::clone(&store), Arc::clone(&notes));
        clients.push(tokio::spawn(async move {
            fill(&store, client, from, most, &notes).await;
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
}

/// Opens the store once the killed process has let go of it, which takes the kernel a moment.
async fn open(path: &Path) -> Embedded {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..2000 {
        tick.tick().await;
        match Embedded::open(path) {
            Err(OpenError::InUse { .. }) => {}
            opened => return opened.unwrap(),
        }
    }
    panic!("the killed process still has the store open");
}

/// Every key that was noted is there, and each row is without a gap.
async fn check(folder: &Path) -> usize {
    let store = open(&folder.join("store.redb")).await;
    let there = entries(&store).await;
    let notes = std::fs::read_to_string(folder.join("notes")).unwrap_or_default();
    for key in notes.lines() {
        let found = there.iter().any(|entry| entry.key.as_bytes() == key.as_bytes());
        assert!(found, "{key} was answered, and is lost");
    }
    for client in 0..CLIENTS {
        let row = format!("{client}/");
        let row = there.iter().filter(|entry| entry.key.as_bytes().starts_with(row.as_bytes()));
        for (at, entry) in row.enumerate() {
            assert_eq!(entry.key.to_string(), format!("{client}/{at:08}"));
        }
    }
    notes.lines().count()
}

/// The writer: on its own it writes a little and ends; the test below starts it to kill it.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_written() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        write_rows(&PathBuf::from(folder), u32::MAX / 2).await;
    } else {
        let folder = tempfile::tempdir().unwrap();
        write_rows(folder.path(), 5).await;
        write_rows(folder.path(), 5).await;
        assert_eq!(check(folder.path()).await, 40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_the_file_is_made_does_no_harm() {
    for _ in 0..25 {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            kill_the_writer(folder.path(), 1, 12).await;
        }
        check(folder.path()).await;
        assert!(!folder.path().join("store.redb.new").exists());
    }
}

/// Starts the writer and kills it after so many milliseconds, and up to as many more.
async fn kill_the_writer(folder: &Path, least: u64, more: u32) {
    // The clock's low digits are random enough.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let moment = Duration::from_millis(least + u64::from(now.subsec_micros() % more));
    let writer = Program::new(std::env::current_exe().unwrap())
        .args(["--exact", "rows_are_written", "--nocapture"])
        .env(FOLDER, folder)
        .deadline(moment);
    // At its deadline a program is killed with SIGKILL.
    let killed = writer.output().await;
    assert!(matches!(killed, Err(ExecError::TimedOut { .. })), "{killed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_answered_is_lost_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut noted = 0;
    for _ in 0..25 {
        kill_the_writer(folder.path(), 5, 150).await;
        noted = check(folder.path()).await;
    }
    assert!(noted > 100, "only {noted} keys were written in all rounds");
}
