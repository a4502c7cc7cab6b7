//! A server program that runs beside the test and never outlives it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use dockline_exec::{ExecError, Output, Program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinHandle;

use crate::wait::eventually;

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server, killed when dropped, and by the kernel should the test's process be killed.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    pid: Pid,
    run: Option<JoinHandle<Result<Output, ExecError>>>,
}

impl Daemon {
    /// Starts a program in the foreground that writes its process id to `pid_file`, and waits for
    /// that file.
    pub async fn start(
        program: impl AsRef<OsStr>,
        pid_file: &Path,
        shape: impl FnOnce(Program) -> Program,
    ) -> anyhow::Result<Self> {
        let _ = std::fs::remove_file(pid_file);
        let pid_file: PathBuf = pid_file.to_owned();
        let written = async || std::fs::read_to_string(&pid_file).ok()?.trim().parse().ok();
        Self::start_until(program, shape, written).await
    }

    /// Starts a program in the foreground and waits until `serving` gives its process id.
    pub async fn start_until(
        program: impl AsRef<OsStr>,
        shape: impl FnOnce(Program) -> Program,
        mut serving: impl AsyncFnMut() -> Option<i32>,
    ) -> anyhow::Result<Self> {
        let name = program.as_ref().to_string_lossy().into_owned();
        let wrapped = Program::new("setpriv").args(["--pdeathsig", "KILL", "--"]).arg(program);
        let day = Duration::from_secs(24 * 3600);
        let program = shape(wrapped.deadline(day));
        let mut run = tokio::spawn(async move { program.run().await });
        let what = format!("{name} to start");
        let found = eventually(&what, PATIENCE, async || {
            if run.is_finished() {
                return Some(None);
            }
            serving().await.map(|pid| Some(Pid::from_raw(pid)))
        });
        match found.await? {
            Some(pid) => Ok(Self { name, pid, run: Some(run) }),
            None => {
                let output = (&mut run).await??;
                anyhow::bail!("{name} ended at once with {}", output.status)
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(self.pid, signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Sends it a signal that ends it and waits until it is gone.
    pub async fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        self.signal(signal)?;
        // A stopped process takes only SIGKILL.
        self.signal(Signal::SIGCONT).ok();
        if let Some(run) = self.run.take() {
            // How it ended is the signal's doing.
            let _ = tokio::time::timeout(PATIENCE, run)
                .await
                .with_context(|| format!("{} did not end after {signal}", self.name))??;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            // At once, and not only when the runtime gets to drop the run.
            if !run.is_finished() {
                let _ = kill(self.pid, Signal::SIGKILL);
            }
            run.abort();
        }
    }
}
