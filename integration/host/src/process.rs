//! Programs that keep running: started with a log of their own, known by their pid, and stopped.
//!
//! A pid alone does not name a process for long, so the moment of its start is kept with it: a
//! process is only ever signalled if both are still the same.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::report::wait_until;

/// How long a process may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(30);

/// One process, as opposed to whoever has its pid later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid in the machine's own pid namespace.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    started: u64,
}

/// The fields of `/proc/PID/stat` after the command's name, which may itself hold anything.
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

impl Process {
    /// The process that has this pid now.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = stat(pid)?;
        // Field 3 of proc(5) is the state, the first of these; field 22 is the start time.
        let running = stat.first()? != "Z";
        let started = stat.get(19)?.parse().ok()?;
        running.then_some(Self { pid, started })
    }

    /// The children of a process.
    pub fn children_of(parent: i32) -> Vec<Self> {
        let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_child = |pid: &i32| {
            stat(*pid).and_then(|stat| stat.get(1)?.parse::<i32>().ok()) == Some(parent)
        };
        pids.filter(is_child).filter_map(Self::of).collect()
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Sends it a signal; a process that has ended is left alone.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            // It may end in this moment, which is as good.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Ends it as `kill -9` does and waits until it is gone.
    pub async fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL);
        wait_until("a killed process is gone", GRACE, async || Ok(!self.is_alive())).await
    }

    /// Asks it to end, and ends it if it does not.
    pub async fn stop(&self) -> Result<()> {
        self.signal(Signal::SIGTERM);
        let ended = wait_until("a process ends", GRACE, async || Ok(!self.is_alive())).await;
        if ended.is_err() {
            return self.kill().await;
        }
        Ok(())
    }
}

/// A program to keep running.
#[derive(Debug, Clone)]
pub struct Service {
    /// The command line, program first.
    pub command: Vec<String>,
    /// Variables of its environment besides `PATH`.
    pub env: Vec<(String, String)>,
    /// Where its outputs go.
    pub log: PathBuf,
}

impl Service {
    /// Starts it in a session of its own, so that it outlives this program and its terminal.
    #[expect(clippy::disallowed_methods, reason = "a service outlives the program that starts it")]
    pub fn start(&self) -> Result<Process> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let [program, args @ ..] = self.command.as_slice() else { bail!("an empty command") };
        let child = std::process::Command::new("setsid")
            .arg(program)
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let pid = i32::try_from(child.id())?;
        // Its end is collected, so that no zombie is taken for a living process.
        std::thread::spawn(move || {
            let mut child = child;
            let _ = child.wait();
        });
        let ended = || format!("{program} ended at once:\n{}", tail(&self.log, 20));
        Process::of(pid).with_context(ended)
    }
}

/// The last lines of a log.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(folder: &Path, script: &str) -> Service {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        Service { command, env: Vec::new(), log: folder.join("log") }
    }

    #[tokio::test]
    async fn a_process_is_known_stopped_and_gone() {
        let folder = tempfile::tempdir().unwrap();
        let process =
            service(folder.path(), "echo started; exec tail -f /dev/null").start().unwrap();
        let log = folder.path().join("log");
        let says = async || Ok(tail(&log, 5) == "started");
        wait_until("it says that it started", GRACE, says).await.unwrap();
        assert!(process.is_alive());
        let other_start = Process { started: process.started + 1, ..process };
        assert!(!other_start.is_alive(), "the pid alone was taken for the process");
        process.stop().await.unwrap();
        assert!(!process.is_alive());
    }

    #[tokio::test]
    async fn killing_one_waits_until_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let process = service(folder.path(), "exec tail -f /dev/null").start().unwrap();
        process.kill().await.unwrap();
        assert!(!process.is_alive());
    }
}
