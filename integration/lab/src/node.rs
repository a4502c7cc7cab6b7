//! One node: its power, its commands, its files.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};

use crate::boot_config::BootConfig;
use crate::channel::Channel;
use crate::command::{Cmd, Output};
use crate::error::{LabError, io};
use crate::trunk::{Taps, Trunk};
use crate::uml::{Kernel, Running, end_of, tail};
use crate::wire::{HELLO_PORT, Hello, Terminal, VERSION, receive};
use crate::{topology::Userland, wait};

/// A node of a lab. Clones are the same node.
#[derive(Debug, Clone)]
pub struct Node(pub(crate) Arc<Inner>);

/// What a node is made of.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) userland: Userland,
    pub(crate) kernel: Kernel,
    pub(crate) config: BootConfig,
    pub(crate) taps: Taps,
    pub(crate) trunk: Arc<Trunk>,
    pub(crate) channel: Channel,
    pub(crate) patience: Duration,
    pub(crate) logs: Vec<String>,
    pub(crate) power: Mutex<Power>,
}

/// Whether a node runs, and how often it has been booted.
#[derive(Debug, Default)]
pub(crate) struct Power {
    pub(crate) boots: u64,
    pub(crate) running: Option<Running>,
    pub(crate) since: Option<Instant>,
}

impl Node {
    /// Its name, also its host name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whose programs it runs.
    pub fn userland(&self) -> Userland {
        self.0.userland
    }

    /// The address of its first trunk card that was given one.
    pub fn address(&self) -> Option<Ipv4Addr> {
        let (_, address) = self.0.config.addresses.first()?;
        address.split('/').next()?.parse().ok()
    }

    /// Where its console is written on the machine, over all its boots.
    pub fn console(&self) -> PathBuf {
        self.0.kernel.console()
    }

    /// Switches it on and waits until it takes commands; returns how long that took. A node that
    /// runs already is left alone.
    pub async fn boot(&self) -> Result<Duration, LabError> {
        let mut power = self.0.power.lock().await;
        let started = Instant::now();
        if let Some(running) = power.running.take() {
            if running.ended().borrow().is_none() {
                power.running = Some(running);
                return Ok(Duration::ZERO);
            }
            // Its kernel has died by itself, but what it ran may not have ended.
            running.cut().await?;
        }
        power.boots += 1;
        let config = BootConfig { boot: power.boots, ..self.0.config.clone() };
        let text = serde_json::to_vec(&config).map_err(|error| LabError::Io {
            doing: "write a boot config".to_owned(),
            source: error.into(),
        })?;
        std::fs::write(&self.0.kernel.config, text).map_err(io("write a boot config"))?;
        let hello = SocketAddr::from((config.lab_address, HELLO_PORT));
        let hello = self.0.channel.namespace.listen(hello)?;
        let running = self.0.kernel.start()?;
        let why = tokio::select! {
            ready = hello_from(&hello, power.boots) => ready.err(),
            why = end_of(running.ended()) => Some(why),
            () = tokio::time::sleep_until((started + self.0.patience).into()) => {
                Some(format!("not ready after {} s", self.0.patience.as_secs()))
            }
        };
        if let Some(why) = why {
            running.cut().await?;
            let console = tail(&self.console());
            return Err(LabError::Boot { node: self.0.name.clone(), why, console });
        }
        power.running = Some(running);
        power.since = Some(started);
        Ok(started.elapsed())
    }

    pub(crate) async fn running(&self) -> Result<MutexGuard<'_, Power>, LabError> {
        let power = self.0.power.lock().await;
        if power.running.is_none() {
            return Err(LabError::Off { node: self.0.name.clone() });
        }
        Ok(power)
    }

    /// Runs a command to its end and fails unless it exits with 0.
    pub async fn run(&self, cmd: impl Into<Cmd>) -> Result<Output, LabError> {
        let cmd = cmd.into();
        let output = self.output(cmd.clone()).await?;
        if output.code == 0 {
            return Ok(output);
        }
        Err(LabError::Failed {
            node: self.0.name.clone(),
            command: cmd.to_string(),
            code: output.code,
            stderr: output.complaint(),
        })
    }

    /// Runs a command to its end, whatever its exit code.
    pub async fn output(&self, cmd: impl Into<Cmd>) -> Result<Output, LabError> {
        let cmd = cmd.into();
        self.while_alive(self.0.channel.output(&cmd)).await
    }

    /// Does something with a node that has power; if its kernel ends meanwhile, that is the error.
    async fn while_alive<T>(
        &self,
        work: impl Future<Output = Result<T, LabError>>,
    ) -> Result<T, LabError> {
        let ended = self.running().await?.running.as_ref().map(Running::ended);
        let Some(ended) = ended else { return work.await };
        let why = tokio::select! {
            done = work => return done,
            why = end_of(ended) => why,
        };
        let (node, console) = (self.0.name.clone(), tail(&self.console()));
        Err(LabError::Died { node, why, console })
    }

    /// Runs a script in the node's shell, fails unless all of it succeeds, and returns what it
    /// wrote to standard output, trimmed.
    pub async fn sh(&self, script: impl Into<String>) -> Result<String, LabError> {
        Ok(self.run(Cmd::sh(script)).await?.text())
    }

    /// Runs a command to its end and passes its output on as it comes; returns its exit code. For
    /// output of any size.
    pub async fn stream(
        &self,
        cmd: impl Into<Cmd>,
        stdout: &mut (impl AsyncWrite + Unpin),
        stderr: &mut (impl AsyncWrite + Unpin),
    ) -> Result<i32, LabError> {
        let cmd = cmd.into();
        self.while_alive(self.0.channel.stream(&cmd, stdout, stderr)).await
    }

    /// Opens a command on a terminal; the caller carries the frames.
    pub(crate) async fn terminal(
        &self,
        cmd: &Cmd,
        terminal: Terminal,
    ) -> Result<TcpStream, LabError> {
        drop(self.running().await?);
        self.0.channel.terminal(cmd, terminal).await
    }

    /// Starts a program that is to run on by itself, its output in `/var/log/lab/NAME.log`; returns
    /// its process id on the node. It ends with the node's power.
    pub async fn start(&self, name: &str, cmd: impl Into<Cmd>) -> Result<u32, LabError> {
        let (cmd, log) = (cmd.into(), format!("/var/log/lab/{name}.log"));
        self.while_alive(self.0.channel.start(&cmd, log)).await
    }

    /// Waits until a command exits with 0; says what its last run wrote if it never does.
    pub async fn wait_for(
        &self,
        what: &str,
        bound: Duration,
        cmd: impl Into<Cmd>,
    ) -> Result<Output, LabError> {
        let cmd = cmd.into();
        let what = format!("{what} (node {})", self.0.name);
        wait::until(&what, bound, || async {
            let output = self.output(cmd.clone()).await.map_err(|error| error.to_string())?;
            if output.code == 0 {
                return Ok(output);
            }
            let seen = (output.code, output.text(), output.complaint());
            Err(format!("`{cmd}` exited with {}: {} {}", seen.0, seen.1, seen.2))
        })
        .await
    }

    /// Waits until Open vSwitch can be started: a daemon that starts in the first ten seconds after
    /// boot counts no CPU, starts no handler thread, and forwards nothing for a long time.
    pub async fn ready_for_ovs(&self) -> Result<(), LabError> {
        const UPTIME: &str =
            "read up idle </proc/uptime; [ ${up%.*} -ge 11 ] || { echo $up; exit 1; }";
        let uptime = Duration::from_secs(11);
        if let Some(since) = self.running().await?.since {
            // The clock itself is the condition; the node is asked only when it should be there.
            tokio::time::sleep_until((since + uptime).into()).await;
        }
        self.wait_for("an uptime of 11 s", uptime, Cmd::sh(UPTIME)).await.map(drop)
    }

    /// Reads a file of the node.
    pub async fn read(&self, path: &str) -> Result<Vec<u8>, LabError> {
        Ok(self.run(["cat", "--", path]).await?.stdout)
    }

    /// Writes a file of the node, its folders too.
    pub async fn write(&self, path: &str, bytes: impl Into<Vec<u8>>) -> Result<(), LabError> {
        let script = "mkdir -p -- \"$(dirname -- \"$1\")\"; cat >\"$1\"";
        self.run(Cmd::sh(script).args(["sh", path]).stdin(bytes)).await.map(drop)
    }

    /// Copies a file of the machine to the node, with its rights.
    pub async fn copy_to(&self, from: &Path, to: &str) -> Result<(), LabError> {
        use std::os::unix::fs::PermissionsExt;
        let doing = || format!("read {}", from.display());
        let bytes = tokio::fs::read(from).await.map_err(io(doing()))?;
        let mode = std::fs::metadata(from).map_err(io(doing()))?.permissions().mode() & 0o7777;
        self.write(to, bytes).await?;
        self.run(["chmod", &format!("{mode:o}"), "--", to]).await.map(drop)
    }

    /// Copies a file of the node to the machine.
    pub async fn copy_from(&self, from: &str, to: &Path) -> Result<(), LabError> {
        let bytes = self.read(from).await?;
        tokio::fs::write(to, bytes).await.map_err(io(format!("write {}", to.display())))
    }
}

/// Waits until the node of this boot says hello; the error is why it cannot be used.
async fn hello_from(listener: &tokio::net::TcpListener, boot: u64) -> Result<(), String> {
    loop {
        let (mut connection, _) = listener.accept().await.map_err(|error| error.to_string())?;
        // A connection that breaks off is a node that ends, which is noticed elsewhere.
        let Ok(Some((_, hello))) = receive(&mut connection).await else { continue };
        let Ok(hello) = serde_json::from_slice::<Hello>(&hello) else { continue };
        if hello.version != VERSION {
            return Err(format!(
                "its agent speaks version {}, this lab {VERSION}: run `cargo build -p dockline-lab`",
                hello.version
            ));
        }
        if hello.boot == boot {
            return Ok(());
        }
    }
}
