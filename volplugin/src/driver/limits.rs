//! Limits of volumes, kept in force for every container that has them.
//!
//! A container's control group does not exist yet when its volume is mounted, and restarts of
//! anything may lose what was set. So it is looked again and again: often after a mount, and
//! seldom else.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use dockline_vol_core::{Limits, VolumeName, VolumeRecord};
use tokio::time::{Instant, MissedTickBehavior};

use super::{Driver, DriverError};
use crate::backend::{Backend, Found};
use crate::blocking;
use crate::throttle::group_of;

/// How often it is looked soon after a mount.
const OFTEN: Duration = Duration::from_millis(50);

/// How long "soon" is: the engine makes the container's control group within it.
const SOON: Duration = Duration::from_secs(20);

/// How often it is looked otherwise.
const SELDOM: Duration = Duration::from_secs(2);

impl<B: Backend> Driver<B> {
    /// Keeps limits in force for as long as the driver lives.
    pub(super) fn keep_limiting(&self) {
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(OFTEN);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut last = Instant::now();
            loop {
                interval.tick().await;
                let Some(shared) = shared.upgrade() else { return };
                let driver = Self { shared };
                if driver.mounted_within(SOON) || last.elapsed() >= SELDOM {
                    driver.apply_limits().await;
                    last = Instant::now();
                }
            }
        });
    }

    fn mounted_within(&self, soon: Duration) -> bool {
        let last = *self.shared.last_mount.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last: Instant| last.elapsed() < soon)
    }

    /// A volume is being mounted.
    pub(super) fn note_mount(&self) {
        let mut last = self.shared.last_mount.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Instant::now());
    }

    /// The mounted volumes that have limits.
    fn limited(&self) -> Vec<VolumeRecord> {
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        let limited = table.values().filter_map(|entry| match &entry.found {
            Found::Whole(record) if entry.mounted && !record.limits.is_none() => {
                Some(record.clone())
            }
            _ => None,
        });
        limited.collect()
    }

    async fn apply_limits(&self) {
        for record in self.limited() {
            if let Err(error) = self.apply_limits_of(&record).await {
                tracing::debug!(volume = %record.name, error = ?error, "limits not in force");
            }
        }
    }

    async fn apply_limits_of(&self, record: &VolumeRecord) -> Result<(), DriverError> {
        let Some(disk) = self.shared.backend.in_use(record).await? else { return Ok(()) };
        let (limits, number) = (record.limits, disk.number);
        let holders = self.containers(Some(&disk)).await;
        blocking(move || {
            for holder in holders {
                // A process that has ended, or its group, needs no limit.
                if let Ok(Some(group)) = group_of(holder.pid)
                    && let Err(error) = group.limit(number, &limits)
                {
                    tracing::debug!(?group, %error, "cannot limit it");
                }
            }
        })
        .await;
        Ok(())
    }

    /// Sets a volume's limits, at once and for good.
    pub async fn limit(
        &self,
        name: &str,
        change: impl FnOnce(Limits) -> Limits,
    ) -> Result<(), DriverError> {
        let name: VolumeName = name.parse()?;
        let _held = self.lock(&name).await?;
        let record = self.record(&name)?;
        let limited = VolumeRecord { limits: change(record.limits), ..record.clone() };
        self.shared.backend.relimit(&record, limited.limits).await?;
        tracing::info!(volume = %name, limits = %limited.limits, "limited");
        self.change_table(|table| {
            if let Some(entry) = table.get_mut(&name) {
                entry.found = Found::Whole(limited.clone());
            }
        });
        // Also if there are none any more: that lifts what was set.
        self.apply_limits_of(&limited).await
    }
}
