//! What the daemon tells its operators.

use dockline_admin::vol::{ListVolumes, ResizeVolume, VolumeUsers};
use dockline_admin::{Health, Part, Status, Verb};
use dockline_daemon::admin::{AdminError, carry_out};
use dockline_daemon::{Admin, Context};

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
            other => Err(AdminError::Unknown(other.to_owned())),
        }
    }
}
