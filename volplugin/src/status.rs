//! What the daemon tells its operators.

use dockline_admin::vol::{LimitVolume, ListVolumes, ResizeVolume, VolumeUsers};
use dockline_admin::{Health, Part, Status, Verb};
use dockline_daemon::admin::{AdminError, carry_out};
use dockline_daemon::{Admin, Context};

use dockline_types::ByteSize;
use dockline_vol_core::Limits;

use crate::backend::{Backend, Capacity};
use crate::driver::{Counts, Driver, DriverError};

/// The operators' side of the daemon.
#[derive(Debug)]
pub struct VolAdmin<B> {
    driver: Driver<B>,
    context: Context,
}

impl<B: Backend> VolAdmin<B> {
    /// Speaks for this driver.
    pub fn new(driver: Driver<B>, context: Context) -> Self {
        Self { driver, context }
    }

    async fn backend(&self, damaged: u64) -> Part {
        let backend = self.driver.backend();
        let (what, health) = match backend.capacity().await {
            Ok(Capacity { total, free }) => {
                let room = |size: dockline_types::ByteSize| size.bytes() >> 30;
                let what =
                    format!("{}, {} of {} GiB free", backend.about(), room(free), room(total));
                (what, Health::Ok)
            }
            Err(error) => {
                let why = dockline_plugin_specs::route::chain(&error);
                (backend.about(), Health::Down(why))
            }
        };
        let health = match health {
            Health::Ok if damaged > 0 => Health::Degraded(format!(
                "{damaged} volumes are damaged and were left alone: `docker volume inspect` says why"
            )),
            health => health,
        };
        Part { role: "backend".to_owned(), what, health }
    }
}

impl<B: Backend> Admin for VolAdmin<B> {
    async fn status(&self) -> Status {
        let Counts { volumes, mounted, damaged } = self.driver.counts();
        let parts = vec![self.backend(damaged).await];
        self.context.status(parts, [("volumes", volumes), ("mounted", mounted)])
    }

    async fn call(&self, verb: &str, body: &[u8]) -> Result<Vec<u8>, AdminError> {
        let driver = &self.driver;
        match verb {
            ListVolumes::NAME => {
                carry_out(body, async |ListVolumes {}| {
                    Ok::<_, DriverError>(driver.measured_volumes().await)
                })
                .await
            }
            ResizeVolume::NAME => {
                carry_out(body, async |ResizeVolume { name, size }| {
                    driver.resize(&name, size).await
                })
                .await
            }
            VolumeUsers::NAME => {
                carry_out(body, async |VolumeUsers { name }| driver.users(&name).await).await
            }
            LimitVolume::NAME => {
                carry_out(body, async |asked: LimitVolume| {
                    driver.limit(&asked.name, |limits| changed(limits, &asked)).await?;
                    let mut volumes = driver.volumes();
                    volumes.retain(|volume| volume.name == asked.name);
                    Ok::<_, DriverError>(volumes.pop())
                })
                .await
            }
            other => Err(AdminError::Unknown(other.to_owned())),
        }
    }
}

/// Limits with those changed that an operator mentions.
fn changed(limits: Limits, asked: &LimitVolume) -> Limits {
    let bytes = |asked: Option<u64>, has| match asked {
        Some(0) => None,
        Some(limit) => Some(ByteSize::from_bytes(limit)),
        None => has,
    };
    let operations = |asked: Option<u64>, has| match asked {
        Some(0) => None,
        Some(limit) => Some(limit),
        None => has,
    };
    Limits {
        read_bps: bytes(asked.read_bps, limits.read_bps),
        write_bps: bytes(asked.write_bps, limits.write_bps),
        read_iops: operations(asked.read_iops, limits.read_iops),
        write_iops: operations(asked.write_iops, limits.write_iops),
    }
}
