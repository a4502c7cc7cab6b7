//! The volumes of this host, and what Docker asks of them.
//!
//! Changes of one volume happen one after another, under a lock of its name; different volumes do
//! not wait for each other. `Get`, `List` and `Path` read a table in memory and wait for nothing
//! that could hang: any error they gave would tell dockerd that the volume is gone.

mod calls;
mod error;
mod limits;
mod operate;
mod reconcile;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use dockline_mounts::Usage;
use dockline_vol_core::{Defaults, Timestamp, VolumeId, VolumeName, VolumeRecord};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::backend::{Backend, Found};
use crate::blocking;
use crate::host::Host;
use crate::uses::Uses;
use dockline_locks::{Held, Keyed};

pub use error::DriverError;

/// How long a call waits for another one on the same volume. Dockerd waits 60 s for the shorter
/// calls.
const PATIENCE: Duration = Duration::from_secs(45);

/// How long the start waits for the backend.
const START_PATIENCE: Duration = Duration::from_secs(3);

/// How often a backend that fails is asked again.
const READ_INTERVAL: Duration = Duration::from_secs(5);

/// How long `Get` waits for how full a volume is. A file system that hangs is not waited for.
const USAGE_PATIENCE: Duration = Duration::from_millis(200);

/// What is known of one name.
#[derive(Debug, Clone)]
struct Entry {
    found: Found,
    /// Whether the host has it mounted, for showing only.
    mounted: bool,
    /// How full it was when it was last asked.
    usage: Option<Usage>,
    /// Whether somebody is asking; a file system that hangs must not collect askers.
    asking: bool,
}

impl Entry {
    fn new(found: Found) -> Self {
        Self { found, mounted: false, usage: None, asking: false }
    }
}

/// The driver. Cheap to clone: clones share everything.
#[derive(Debug)]
pub struct Driver<B> {
    shared: Arc<Shared<B>>,
}

impl<B> Clone for Driver<B> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[derive(Debug)]
struct Shared<B> {
    backend: B,
    host: Host,
    uses: Uses,
    defaults: Defaults,
    changes: Keyed<VolumeName>,
    /// When a volume was last mounted; limits are looked after often then.
    last_mount: Mutex<Option<tokio::time::Instant>>,
    /// Whether the backend has told what volumes there are.
    read: watch::Sender<bool>,
    table: RwLock<BTreeMap<VolumeName, Entry>>,
}

/// How many volumes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All.
    pub volumes: u64,
    /// Those that the host has mounted.
    pub mounted: u64,
    /// Those that are left alone because something is wrong with them.
    pub damaged: u64,
}

impl<B: Backend> Driver<B> {
    /// Takes up the volumes that are there, after what an earlier run left half done was undone.
    ///
    /// A backend that hangs or fails is not waited for: it is asked again, and until it has
    /// answered, calls that need it say so.
    pub async fn start(
        backend: B,
        host: Host,
        uses: Uses,
        defaults: Defaults,
    ) -> Result<Self, DriverError> {
        let (changes, table, read) =
            (Keyed::default(), RwLock::default(), watch::Sender::new(false));
        let last_mount = Mutex::default();
        let shared =
            Arc::new(Shared { last_mount, backend, host, uses, defaults, changes, read, table });
        let driver = Self { shared };
        driver.keep_reading();
        // As a rule it is there at once, and nobody hears that it was not.
        let _ = driver.wait_read(START_PATIENCE).await;
        driver.keep_reconciling();
        driver.keep_limiting();
        Ok(driver)
    }

    /// Asks the backend what there is, until it answers.
    fn keep_reading(&self) {
        let driver = self.clone();
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(READ_INTERVAL);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                match driver.read().await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::error!(error = ?error, "cannot see what volumes there are; tried again");
                    }
                }
            }
        });
    }

    async fn read(&self) -> Result<(), DriverError> {
        let found = self.shared.backend.recover().await?;
        for (name, found) in &found {
            if let Found::Damaged(reason) = found {
                tracing::error!(volume = %name, reason, "a volume is damaged and is left alone");
            }
        }
        let table = found.into_iter().map(|(name, found)| (name, Entry::new(found))).collect();
        self.change_table(|present| *present = table);
        self.take_up_mounts().await?;
        self.shared.read.send_replace(true);
        self.empty_trash();
        Ok(())
    }

    async fn wait_read(&self, patience: Duration) -> Result<(), DriverError> {
        let mut read = self.shared.read.subscribe();
        let wait = tokio::time::timeout(patience, read.wait_for(|read| *read)).await;
        // The sender lives as long as this.
        wait.map(drop).map_err(|_| DriverError::NotRead { backend: self.shared.backend.about() })
    }

    /// How many volumes there are.
    pub fn counts(&self) -> Counts {
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut counts = Counts::default();
        for entry in table.values() {
            counts.volumes += 1;
            counts.mounted += u64::from(entry.mounted);
            counts.damaged += u64::from(matches!(entry.found, Found::Damaged(_)));
        }
        counts
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.shared.backend
    }

    async fn lock(&self, name: &VolumeName) -> Result<Held<VolumeName>, DriverError> {
        self.wait_read(PATIENCE).await?;
        let locked = self.shared.changes.lock(name, PATIENCE).await;
        locked.map_err(|source| DriverError::Busy { name: name.clone(), source })
    }

    fn entry(&self, name: &VolumeName) -> Option<Entry> {
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(name).cloned()
    }

    /// The record of a volume that is as it should be.
    fn record(&self, name: &VolumeName) -> Result<VolumeRecord, DriverError> {
        match self.entry(name).map(|entry| entry.found) {
            Some(Found::Whole(record)) => Ok(record),
            Some(Found::Damaged(reason)) => {
                Err(DriverError::Damaged { name: name.clone(), reason })
            }
            None => Err(DriverError::Unknown(name.clone())),
        }
    }

    fn change_table<T>(&self, change: impl FnOnce(&mut BTreeMap<VolumeName, Entry>) -> T) -> T {
        change(&mut self.shared.table.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_mounted(&self, name: &VolumeName, mounted: bool) {
        self.change_table(|table| {
            if let Some(entry) = table.get_mut(name) {
                entry.mounted = mounted;
                entry.usage = entry.usage.filter(|_| mounted);
            }
        });
    }

    /// Frees what removed volumes occupied, meanwhile.
    fn empty_trash(&self) {
        let driver = self.clone();
        tokio::spawn(async move {
            if let Err(error) = driver.shared.backend.empty_trash().await {
                tracing::warn!(error = ?error, "removed volumes still occupy room: tried again later");
            }
        });
    }

    /// How full a volume is: as of now if its file system answers at once, else as it was.
    async fn usage(&self, name: &VolumeName) -> Option<Usage> {
        let mut known = None;
        let ask = self.change_table(|table| {
            let entry = table.get_mut(name).filter(|entry| entry.mounted)?;
            known = entry.usage;
            let idle = !entry.asking;
            entry.asking = true;
            idle.then_some(())
        });
        if ask.is_none() {
            return known;
        }
        let (driver, name) = (self.clone(), name.clone());
        let asked = tokio::spawn(async move {
            let usage = driver.shared.host.usage(&name).await;
            driver.change_table(|table| {
                if let Some(entry) = table.get_mut(&name) {
                    entry.asking = false;
                    entry.usage = usage.filter(|_| entry.mounted);
                }
            });
            usage
        });
        match tokio::time::timeout(USAGE_PATIENCE, asked).await {
            Ok(Ok(usage)) => usage,
            _ => known,
        }
    }
}

/// What a volume's record says of its making: its id and the time.
async fn birth() -> Result<(VolumeId, Timestamp), DriverError> {
    let uuid = blocking(|| std::fs::read_to_string("/proc/sys/kernel/random/uuid")).await;
    let id = uuid.and_then(|uuid| uuid.trim().parse().map_err(std::io::Error::other));
    Ok((id.map_err(DriverError::NoId)?, SystemTime::now().into()))
}
