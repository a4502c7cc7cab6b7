//! A real file system that is full.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dockline_store::embedded::Embedded;
use dockline_store::{Key, Op, Store, StoreError, Txn, Value};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Puts 32 KiB under a number's key.
async fn put(store: &Embedded, at: u32) -> Result<(), StoreError> {
    let key = Key::new(at.to_be_bytes()).unwrap();
    let put = Op::Put(key, Value::new(vec![7; 32 << 10]).unwrap());
    store.txn(Txn::new(vec![], vec![put]).unwrap()).await.map(|_| ())
}

async fn held(store: &Embedded, at: u32) -> bool {
    store.get(Key::new(at.to_be_bytes()).unwrap()).await.unwrap().is_some()
}

/// The mount namespace is this thread's and those it starts: the test leaves nothing behind.
#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).expect("run the tests as root");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=4m")).unwrap();
    let path = folder.path().join("store.redb");
    let ballast = folder.path().join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();

    // One thread: every part of the runtime is in the namespace.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Embedded::open(&path).unwrap();
        let mut count = 0;
        let error = loop {
            match put(&store, count).await {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
            assert!(count < 1000, "4 MiB hold no 32 MiB");
        };
        assert!(count > 10, "only {count} fit");
        assert!(matches!(error, StoreError::Failed(_)), "{error:?}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("No space left"), "{cause}");
        assert!(!held(&store, count).await, "it failed, and is there");

        std::fs::remove_file(&ballast).unwrap();
        put(&store, count).await.unwrap();
        for at in 0..=count {
            assert!(held(&store, at).await, "{at} is lost");
        }
        drop(store);
        let store = Embedded::open(&path).unwrap();
        for at in 0..=count {
            assert!(held(&store, at).await, "{at} is lost after opening again");
        }
    });
    drop(runtime);
    umount2(folder.path(), MntFlags::MNT_DETACH).unwrap();
}
