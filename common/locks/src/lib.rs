//! One lock per key, for keys that come and go: networks, endpoints, volumes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Somebody has held a lock for as long as the caller was willing to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another change of it has been going on for {} s: try again", waited.as_secs())]
pub struct Busy {
    /// How long was waited.
    pub waited: Duration,
}

type Locks<K> = Mutex<HashMap<K, Arc<AsyncMutex<()>>>>;

/// Locks by key. There is nothing in memory for a key that nobody holds or waits for.
#[derive(Debug)]
pub struct Keyed<K>(Arc<Locks<K>>);

impl<K> Default for Keyed<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub struct Held<K: Hash + Eq> {
    locks: Arc<Locks<K>>,
    key: K,
    guard: Option<OwnedMutexGuard<()>>,
}

impl<K: Hash + Eq + Clone> Keyed<K> {
    /// Waits for the lock of a key, for this long at most. Waiters get it in their order.
    pub async fn lock(&self, key: &K, patience: Duration) -> Result<Held<K>, Busy> {
        let lock = Arc::clone(open(&self.0).entry(key.clone()).or_default());
        // Made first, so that the key is also forgotten if the caller goes away while it waits.
        let mut held = Held { locks: Arc::clone(&self.0), key: key.clone(), guard: None };
        let guard = tokio::time::timeout(patience, lock.lock_owned()).await;
        held.guard = Some(guard.map_err(|_| Busy { waited: patience })?);
        Ok(held)
    }
}

impl<K: Hash + Eq> Drop for Held<K> {
    fn drop(&mut self) {
        self.guard = None;
        let mut locks = open(&self.locks);
        // Others who hold or wait have a reference of their own, and got it under this lock.
        if locks.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.key);
        }
    }
}

fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn one_at_a_time_per_key_and_nothing_is_left() {
        let locks = Arc::new(Keyed::default());
        let inside = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let tasks: Vec<_> = (0..100)
            .map(|number| {
                let (locks, inside, key) = (locks.clone(), inside.clone(), number % 2);
                tokio::spawn(async move {
                    let _held = locks.lock(&key, LONG).await.unwrap();
                    assert_eq!(inside[key].fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    inside[key].fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(open(&locks.0).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_too_long_hears_so_and_others_go_on() {
        let locks = Keyed::default();
        let held = locks.lock(&"a", LONG).await.unwrap();
        assert_eq!(locks.lock(&"a", LONG).await.unwrap_err(), Busy { waited: LONG });
        locks.lock(&"b", LONG).await.unwrap();
        drop(held);
        locks.lock(&"a", LONG).await.unwrap();
        assert!(open(&locks.0).is_empty());
    }
}
