//! Making what is recorded of uses agree with what is there: at start, and when a new dockerd
//! comes.

use std::collections::BTreeSet;

use dockline_vol_core::VolumeName;

use super::{Driver, DriverError};
use crate::backend::{Backend, Found};
use crate::host::HostError;

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
        let mounted = self.shared.host.mounted().await.map_err(HostError::Table);
        // Without a mount table nothing is known to be mounted; each Mount looks again.
        for name in mounted.unwrap_or_default() {
            if volumes.contains(&name) {
                self.set_mounted(&name, true);
                self.unmount_if_unused(&name).await;
            } else {
                tracing::warn!(volume = %name, "mounted without being a volume: left alone");
            }
        }
        Ok(())
    }

    /// A new dockerd is there. It does not wait for the look at what the earlier one left.
    pub(super) async fn new_dockerd(&self) {
        let noted = self.shared.uses.change(|uses| {
            uses.new_generation();
            Ok(())
        });
        if let Err(error) = noted.await {
            tracing::warn!(error = ?error, "uses of an earlier dockerd may be counted for longer");
            return;
        }
        let driver = self.clone();
        tokio::spawn(async move { driver.end_stale_uses().await });
    }

    /// Ends the uses that an earlier dockerd began and that no container has any more.
    pub(super) async fn end_stale_uses(&self) {
        for name in self.shared.uses.look(|uses| uses.stale()) {
            if let Err(error) = self.end_stale_uses_of(&name).await {
                tracing::warn!(volume = %name, error = ?error, "cannot see who uses it");
            }
        }
    }

    async fn end_stale_uses_of(&self, name: &VolumeName) -> Result<(), DriverError> {
        let _held = self.lock(name).await?;
        let Some(Found::Whole(record)) = self.entry(name).map(|entry| entry.found) else {
            return Ok(());
        };
        let disk = self.shared.backend.in_use(&record).await?;
        if !self.containers(disk.as_ref()).await.is_empty() {
            return Ok(());
        }
        drop(disk);
        let of = name.clone();
        if self.shared.uses.change(move |uses| Ok(uses.forget_stale(&of))).await? {
            tracing::info!(volume = %name, "uses of an earlier dockerd have ended");
        }
        self.unmount_if_unused(name).await;
        Ok(())
    }
}
