//! What operators ask, and Docker cannot.

use std::sync::PoisonError;

use dockline_admin::vol::{VolumeInfo, VolumeUser};
use dockline_mounts::Holder;
use dockline_types::ByteSize;
use dockline_vol_core::{VolumeName, VolumeRecord};

use super::{Driver, DriverError, Entry};
use crate::backend::{Backend, Found};

impl<B: Backend> Driver<B> {
    /// All volumes, as they are known in memory.
    pub fn volumes(&self) -> Vec<VolumeInfo> {
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        table.iter().map(|(name, entry)| info(name, entry)).collect()
    }

    /// All volumes, with how full the mounted ones are now.
    pub async fn measured_volumes(&self) -> Vec<VolumeInfo> {
        let mounted = self.volumes().into_iter().filter(|volume| volume.mounted);
        let asked = mounted.filter_map(|volume| volume.name.parse::<VolumeName>().ok());
        let asking = asked.map(|name| {
            let driver = self.clone();
            tokio::spawn(async move { driver.usage(&name).await })
        });
        for asked in asking.collect::<Vec<_>>() {
            // How full it is stands in the table; one that does not answer is as it was.
            let _ = asked.await;
        }
        self.volumes()
    }

    /// Makes a volume larger while it is in use, or while it is not. Asked for again, it finishes
    /// what a crash cut short.
    pub async fn resize(&self, name: &str, asked: ByteSize) -> Result<VolumeInfo, DriverError> {
        let name: VolumeName = name.parse()?;
        let _held = self.lock(&name).await?;
        let record = self.record(&name)?;
        let size = record.grown(asked, self.shared.backend.step())?;
        let size = if size > record.size {
            self.shared.backend.grow(&record, size).await?
        } else {
            record.size
        };
        let record = VolumeRecord { size, ..record };
        self.change_table(|table| {
            if let Some(entry) = table.get_mut(&name) {
                entry.found = Found::Whole(record.clone());
            }
        });
        let (host, backend) = (&self.shared.host, &self.shared.backend);
        let grown = async {
            host.mount(backend, &record).await?;
            host.grow(backend, &record).await
        };
        let grown = grown.await;
        self.unmount_if_unused(&name).await;
        let half = |source| DriverError::HalfGrown { name: name.clone(), size, source };
        grown.map_err(half)?;
        tracing::info!(volume = %name, %size, "grown");
        let entry = self.entry(&name).ok_or(DriverError::Unknown(name.clone()))?;
        Ok(info(&name, &entry))
    }

    /// The processes that have a volume, one for each mount namespace, and those that work in the
    /// host's mount.
    pub async fn users(&self, name: &str) -> Result<Vec<VolumeUser>, DriverError> {
        let name: VolumeName = name.parse()?;
        let record = self.record(&name)?;
        let disk = self.shared.backend.in_use(&record).await?;
        let mut holders = self.containers(disk.as_ref()).await;
        holders.extend(self.shared.host.users(&name).await);
        holders.sort();
        holders.dedup_by_key(|holder| holder.pid);
        let user = |Holder { pid, command, path }| VolumeUser {
            pid,
            command,
            path: path.to_string_lossy().into_owned(),
        };
        Ok(holders.into_iter().map(user).collect())
    }
}

fn info(name: &VolumeName, entry: &Entry) -> VolumeInfo {
    let (record, damaged) = match &entry.found {
        Found::Whole(record) => (Some(record), None),
        Found::Damaged(reason) => (None, Some(reason.clone())),
    };
    VolumeInfo {
        name: name.to_string(),
        size: record.map(|record| record.size),
        used: entry.usage.map(|usage| ByteSize::from_bytes(usage.used)),
        fs: record.map(|record| record.fs.to_string()),
        layout: record.and_then(|record| record.layout).map(|layout| layout.to_string()),
        class: record.and_then(|record| record.class.as_ref()).map(ToString::to_string),
        mounted: entry.mounted,
        damaged,
    }
}
