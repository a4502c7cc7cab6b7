//! Making what is recorded of uses agree with what is there: at start, when a new dockerd comes, and
//! from time to time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dockline_vol_core::{Ledger, VolumeName};
use tokio::time::MissedTickBehavior;

use super::{Driver, DriverError};
use crate::backend::{Backend, Found};

/// How often it is looked for uses that ended without a word. What they keep is a mount that nobody
/// looks into. If there are any, the look is at all processes of the host, else nothing is done.
const INTERVAL: Duration = Duration::from_secs(10);

impl<B: Backend> Driver<B> {
    /// At start: the mounts that are there are the ones that there are. One without a recorded use
    /// was left by a crash and goes; containers that run keep theirs either way.
    pub(super) async fn take_up_mounts(&self) -> Result<(), DriverError> {
        let volumes: BTreeSet<VolumeName> =
            self.change_table(|table| table.keys().cloned().collect());
        let gone: Vec<VolumeName> = self
            .shared
            .uses
            .look(|uses| uses.volumes().filter(|name| !volumes.contains(name)).cloned().collect());
        if !gone.is_empty() {
            let forgotten = self.shared.uses.change(move |uses| {
                gone.iter().for_each(|name| uses.forget(name));
                Ok(())
            });
            forgotten.await?;
        }
        let mounted = self.shared.host.mounted().await.unwrap_or_else(|error| {
            // Each Mount looks again, and refuses for the same reason.
            tracing::error!(error = ?error, "cannot see what is mounted");
            Vec::new()
        });
        for name in mounted {
            if volumes.contains(&name) {
                self.set_mounted(&name, true);
                self.finish_growth(&name).await;
                self.unmount_if_unused(&name).await;
            } else {
                tracing::warn!(volume = %name, "mounted without being a volume: left alone");
            }
        }
        Ok(())
    }

    /// Lets a mounted file system fill its disk, if an earlier run has left it smaller.
    async fn finish_growth(&self, name: &VolumeName) {
        let Ok(record) = self.record(name) else { return };
        if let Err(error) = self.shared.host.grow(&self.shared.backend, &record).await {
            tracing::error!(volume = %name, error = ?error, "smaller than its disk");
        }
    }

    /// A new dockerd is there. It does not wait for the look at what the earlier one left.
    pub(super) async fn new_dockerd(&self) {
        let noted = self.shared.uses.change(|uses| {
            uses.new_dockerd();
            Ok(())
        });
        if let Err(error) = noted.await {
            tracing::warn!(error = ?error, "uses of an earlier dockerd may be counted for longer");
            return;
        }
        let driver = self.clone();
        tokio::spawn(async move { driver.reconcile().await });
    }

    /// Looks from time to time for as long as the driver lives: a container that outlived its
    /// dockerd may end without a word to us.
    pub(super) fn keep_reconciling(&self) {
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(INTERVAL);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                let Some(shared) = shared.upgrade() else { return };
                Self { shared }.reconcile().await;
            }
        });
    }

    /// Ends the uses that an earlier dockerd began and that no container has any more.
    pub async fn reconcile(&self) {
        for name in self.shared.uses.look(Ledger::earlier) {
            let ended = match self.lock(&name).await {
                Ok(_held) => self.end_earlier_uses_of(&name).await,
                Err(busy) => Err(busy),
            };
            if let Err(error) = ended {
                tracing::warn!(volume = %name, error = ?error, "cannot see who uses it");
            }
        }
    }

    /// Ends the uses of one volume that an earlier dockerd began, if no container has it. Under
    /// the volume's lock.
    pub(super) async fn end_earlier_uses_of(&self, name: &VolumeName) -> Result<(), DriverError> {
        let Some(Found::Whole(record)) = self.entry(name).map(|entry| entry.found) else {
            return Ok(());
        };
        let disk = self.shared.backend.in_use(&record).await?;
        if !self.containers(disk.as_ref()).await.is_empty() {
            return Ok(());
        }
        drop(disk);
        let of = name.clone();
        if self.shared.uses.change(move |uses| Ok(uses.forget_earlier(&of))).await? {
            tracing::info!(volume = %name, "uses that an earlier dockerd began have ended");
        }
        self.unmount_if_unused(name).await;
        Ok(())
    }
}
