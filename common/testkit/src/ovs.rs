//! A private Open vSwitch: the real ovsdb-server and ovs-vswitchd in a folder and a network
//! namespace of the test's own, forwarding in userspace.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use dockline_exec::Program;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::namespace::Namespace;
use crate::wait::eventually;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// The private Open vSwitch.
#[derive(Debug)]
pub struct Ovs {
    // In this order: the switch must be gone before its database, both before their folder.
    vswitchd: Option<Daemon>,
    server: Option<Daemon>,
    namespace: Namespace,
    folder: TempDir,
}

/// One of the two daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OvsDaemon {
    /// ovsdb-server.
    Server,
    /// ovs-vswitchd.
    Vswitchd,
}

impl Ovs {
    /// Starts both daemons on an empty database; devices appear in [`Self::namespace`].
    pub async fn start() -> anyhow::Result<Self> {
        let mut ovs = Self::start_server_only().await?;
        ovs.run(OvsDaemon::Vswitchd).await?;
        Ok(ovs)
    }

    /// Starts ovsdb-server on an empty database, without a switch.
    pub async fn start_server_only() -> anyhow::Result<Self> {
        anyhow::ensure!(
            Path::new(SCHEMA).exists(),
            "{SCHEMA} is missing: `apt-get install openvswitch-switch`"
        );
        let folder = TempDir::with_prefix("ovs")?;
        let namespace = Namespace::new().await?;
        let mut ovs = Self { vswitchd: None, server: None, namespace, folder };
        let database = ovs.path("conf.db");
        Program::new("ovsdb-tool").arg("create").args([&database, Path::new(SCHEMA)]).run().await?;
        ovs.run(OvsDaemon::Server).await?;
        Ok(ovs)
    }

    /// The database's socket.
    pub fn socket(&self) -> PathBuf {
        self.path("db.sock")
    }

    /// The namespace its devices are in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The folder with its sockets, database and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a daemon that does not run.
    pub async fn run(&mut self, which: OvsDaemon) -> anyhow::Result<()> {
        let (program, name) = match which {
            OvsDaemon::Server => ("ovsdb-server", "ovsdb-server"),
            OvsDaemon::Vswitchd => ("ovs-vswitchd", "ovs-vswitchd"),
        };
        let pid_file = self.path(&format!("{name}.pid"));
        let log = self.path(&format!("{name}.log"));
        let control = self.path(&format!("{name}.ctl"));
        let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let common = [
            option("pidfile", &pid_file),
            option("log-file", &log),
            option("unixctl", &control),
            "-vconsole:off".to_owned(),
        ];
        let own: Vec<String> = match which {
            OvsDaemon::Server => vec![
                format!("--remote=punix:{}", self.socket().display()),
                self.path("conf.db").display().to_string(),
            ],
            OvsDaemon::Vswitchd => {
                vec!["--disable-system".to_owned(), format!("unix:{}", self.socket().display())]
            }
        };
        let net = format!("--net={}", self.namespace.path().display());
        let shape = |nsenter: Program| {
            self.environment(nsenter.args([net.as_str(), "--", program]).args(common).args(own))
        };
        let daemon = Daemon::start("nsenter", &pid_file, shape).await;
        let daemon = daemon.with_context(|| format!("{name}: see {}", log.display()))?;
        match which {
            OvsDaemon::Server => {
                let socket = self.socket();
                self.server = Some(daemon);
                eventually("the OVS database's socket", Duration::from_secs(10), async || {
                    tokio::net::UnixStream::connect(&socket).await.ok()
                })
                .await?;
            }
            OvsDaemon::Vswitchd => self.vswitchd = Some(daemon),
        }
        Ok(())
    }

    /// Ends a daemon that runs and waits until it is gone.
    pub async fn end(&mut self, which: OvsDaemon, signal: Signal) -> anyhow::Result<()> {
        let daemon = match which {
            OvsDaemon::Server => self.server.take(),
            OvsDaemon::Vswitchd => self.vswitchd.take(),
        };
        daemon.context("it does not run")?.end(signal).await
    }

    /// Stops a daemon in its tracks (SIGSTOP) until [`Self::resume`].
    pub fn pause(&self, which: OvsDaemon) -> anyhow::Result<()> {
        self.daemon(which)?.signal(Signal::SIGSTOP)
    }

    /// Lets a stopped daemon go on.
    pub fn resume(&self, which: OvsDaemon) -> anyhow::Result<()> {
        self.daemon(which)?.signal(Signal::SIGCONT)
    }

    /// `ovs-vsctl` on this switch.
    pub fn vsctl(&self) -> Program {
        self.environment(Program::new("ovs-vsctl"))
            .arg(format!("--db=unix:{}", self.socket().display()))
            .args(["--timeout=20", "--no-syslog"])
    }

    /// `ovs-appctl` on this switch's ovs-vswitchd.
    pub fn appctl(&self) -> Program {
        self.environment(Program::new("ovs-appctl")).arg("-t").arg(self.path("ovs-vswitchd.ctl"))
    }

    fn daemon(&self, which: OvsDaemon) -> anyhow::Result<&Daemon> {
        let daemon = match which {
            OvsDaemon::Server => &self.server,
            OvsDaemon::Vswitchd => &self.vswitchd,
        };
        daemon.as_ref().context("it does not run")
    }

    fn environment(&self, program: Program) -> Program {
        ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"]
            .into_iter()
            .fold(program, |program, name| program.env(name, self.folder.path()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
