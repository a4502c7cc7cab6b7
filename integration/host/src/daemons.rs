//! Dockline's own three daemons, as they were built.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dockline_admin::{Client, Status};

use crate::place::Place;
use crate::process::{Process, tail};
use crate::report::wait_until;

const PATIENCE: Duration = Duration::from_secs(30);

/// One of the daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// Addresses.
    Ipam,
    /// Networks.
    Net,
    /// Volumes.
    Vol,
}

impl Daemon {
    /// All of them, in the order they are started.
    pub const ALL: [Self; 3] = [Self::Ipam, Self::Net, Self::Vol];

    /// Its name for Docker, and its program's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipam => "dockline-ipam",
            Self::Net => "dockline-net",
            Self::Vol => "dockline-vol",
        }
    }

    fn admin_socket(self) -> String {
        let short = self.name().trim_start_matches("dockline-");
        format!("/run/dockline/{short}.sock")
    }

    /// Starts it and waits until it answers.
    pub async fn start(self, place: &Place) -> Result<Process> {
        let program = built(self.name())?;
        let program = program.to_str().context("a path that is not text")?;
        let config = place.folder.join("dockline.toml");
        let config = config.display().to_string();
        let mut command = vec![program];
        if std::fs::exists(&config)? {
            command.extend(["--config", &config]);
        }
        let process = place.start(self.name(), &command, &[]).await?;
        let ready = wait_until("the daemon answers", PATIENCE, async || {
            ensure!(process.is_alive(), "it ended at once");
            Ok(self.answers(place).await)
        });
        ready.await.with_context(|| {
            format!("{} did not start:\n{}", self.name(), tail(&place.log(self.name()), 20))
        })?;
        Ok(process)
    }

    /// Whether its operators' socket answers.
    pub async fn answers(self, place: &Place) -> bool {
        if place.is_stage() {
            // Its socket is only visible from inside.
            let probe = place.program("test").args(["-S", &self.admin_socket()]);
            return probe.run().await.is_ok();
        }
        let client = Client::new(self.admin_socket(), PATIENCE);
        client.get::<Status>("status").await.is_ok()
    }
}

/// A program of this workspace, beside the one that runs (tests run one folder deeper).
pub fn built(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.exists());
    found.with_context(|| format!("{name} is not built: run `cargo build --workspace` first"))
}
