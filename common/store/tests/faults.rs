//! A disk that fails: at every single access, for good, and by being full.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use dockline_store::embedded::Embedded;
use dockline_store::{Key, Outcome, Store, StoreError, Txn, Value};
use redb::StorageBackend;

/// Storage in memory that outlives its database and fails when told to.
#[derive(Debug, Default)]
struct Disk {
    bytes: Mutex<Vec<u8>>,
    /// How many more writes and syncs succeed.
    good: AtomicU64,
    /// Whether a write or sync that fails takes effect nevertheless.
    lies: AtomicBool,
    /// Whether it stays broken once it has failed.
    for_good: AtomicBool,
    failed: AtomicU64,
    /// While held, syncs wait.
    stuck: Mutex<bool>,
    unstuck: Condvar,
}

impl Disk {
    fn fails(&self) -> bool {
        let step = |left: u64| left.checked_sub(1);
        if self.good.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step).is_ok() {
            return false;
        }
        if !self.for_good.load(Ordering::SeqCst) {
            self.good.store(u64::MAX, Ordering::SeqCst);
        }
        self.failed.fetch_add(1, Ordering::SeqCst);
        true
    }

    fn change(&self, effect: impl FnOnce()) -> io::Result<()> {
        let fails = self.fails();
        if !fails || self.lies.load(Ordering::SeqCst) {
            effect();
        }
        if fails { Err(io::Error::from_raw_os_error(nix::libc::EIO)) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct Backend(Arc<Disk>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.bytes.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        let found = bytes.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap();
        self.0.change(|| self.0.bytes.lock().unwrap().resize(len, 0))
    }

    fn sync_data(&self) -> io::Result<()> {
        let stuck = self.0.stuck.lock().unwrap();
        drop(self.0.unstuck.wait_while(stuck, |stuck| *stuck).unwrap());
        self.0.change(|| ())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        self.0.change(|| {
            self.0.bytes.lock().unwrap()[from..from + data.len()].copy_from_slice(data);
        })
    }
}

fn disk() -> Arc<Disk> {
    Arc::new(Disk { good: AtomicU64::new(u64::MAX), ..Disk::default() })
}

fn open(disk: &Arc<Disk>) -> Embedded {
    let disk = Arc::clone(disk);
    Embedded::open_on(move || Ok(Backend(Arc::clone(&disk)))).unwrap()
}

fn key(at: u64) -> Key {
    Key::new(format!("{at:04}")).unwrap()
}

async fn create(store: &Embedded, at: u64) -> Result<Outcome, StoreError> {
    let size = usize::try_from(at % 7 * 500).unwrap();
    store.txn(Txn::create(key(at), Value::new(vec![7; size]).unwrap())).await
}

async fn held(store: &Embedded, at: u64) -> bool {
    store.get(key(at)).await.unwrap().is_some()
}

/// Fails the n-th access for every n, and checks that each answer was the truth.
async fn one_fault_at_every_access(lies: bool) {
    const KEYS: u64 = 12;
    for good in 0..2000 {
        let disk = disk();
        let store = open(&disk);
        disk.lies.store(lies, Ordering::SeqCst);
        disk.good.store(good, Ordering::SeqCst);
        let mut answers = Vec::new();
        for at in 0..KEYS {
            answers.push(create(&store, at).await);
        }
        let failed = disk.failed.load(Ordering::SeqCst);
        disk.good.store(u64::MAX, Ordering::SeqCst);
        // After the fault everything works again, without a restart.
        assert!(matches!(create(&store, KEYS).await, Ok(Outcome::Committed { .. })), "{good}");
        for reopened in [false, true] {
            let again;
            let store = if reopened {
                again = open(&Arc::new(Disk {
                    bytes: Mutex::new(disk.bytes.lock().unwrap().clone()),
                    good: AtomicU64::new(u64::MAX),
                    ..Disk::default()
                }));
                &again
            } else {
                &store
            };
            for (at, answer) in (0..).zip(&answers) {
                let held = held(store, at).await;
                match answer {
                    Ok(_) => assert!(held, "access {good}: key {at} was answered, and is lost"),
                    Err(StoreError::Failed(_) | StoreError::Unavailable(_)) => {
                        assert!(!held, "access {good}: key {at} failed, and is there");
                    }
                    Err(StoreError::Unknown(_)) => {}
                    Err(other) => panic!("access {good}: {other:?}"),
                }
            }
        }
        if failed == 0 {
            assert!(good > 50, "only {good} accesses were made to fail");
            return;
        }
        let bad = answers.iter().filter(|answer| answer.is_err()).count();
        assert!(bad <= 1, "access {good}: one fault failed {bad} transactions");
    }
    panic!("the workload has no end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_at_any_access_is_told_and_loses_nothing() {
    one_fault_at_every_access(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_took_effect_is_found_out() {
    one_fault_at_every_access(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_stays_broken_is_said_and_works_again_once_it_is_well() {
    let disk = disk();
    let store = open(&disk);
    create(&store, 1).await.unwrap();
    disk.for_good.store(true, Ordering::SeqCst);
    disk.good.store(0, Ordering::SeqCst);
    create(&store, 2).await.unwrap_err();
    for at in 3..6 {
        let error = create(&store, at).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_) | StoreError::Failed(_)), "{error:?}");
    }
    disk.good.store(u64::MAX, Ordering::SeqCst);
    create(&store, 7).await.unwrap();
    let there = [held(&store, 1).await, held(&store, 3).await, held(&store, 7).await];
    assert_eq!(there, [true, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_do_not_wait_for_a_sync_and_waiting_writes_share_the_next() {
    let disk = disk();
    let store = Arc::new(open(&disk));
    create(&store, 0).await.unwrap();
    *disk.stuck.lock().unwrap() = true;
    let writes: Vec<_> = (1..=64)
        .map(|at| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { create(&store, at).await })
        })
        .collect();
    let reads = async {
        assert!(held(&store, 0).await);
        assert!(!held(&store, 1).await, "what is not durable must not be seen");
        store.revision().await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(5), reads).await.expect("a read waited for a sync");
    assert!(writes.iter().all(|write| !write.is_finished()), "answered before it was durable");
    let before = disk.failed.load(Ordering::SeqCst);
    assert_eq!(before, 0);
    *disk.stuck.lock().unwrap() = false;
    disk.unstuck.notify_all();
    for write in writes {
        assert!(matches!(write.await.unwrap(), Ok(Outcome::Committed { .. })));
    }
}
