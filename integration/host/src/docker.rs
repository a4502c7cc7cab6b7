//! dockerd, and its unmodified command-line client.

use std::time::Duration;

use anyhow::{Context, Result};
use dockline_exec::Program;

use crate::place::Place;
use crate::process::{Process, tail};
use crate::report::wait_until;

const PATIENCE: Duration = Duration::from_secs(60);

/// How long one `docker` command may take: it retries an absent plugin for 15 s.
const COMMAND: Duration = Duration::from_secs(120);

/// A dockerd.
#[derive(Debug, Clone)]
pub struct Docker {
    /// What `DOCKER_HOST` is set to.
    pub host: String,
    /// The process, if it is one of our own.
    pub process: Option<Process>,
}

impl Docker {
    /// The machine's own dockerd, if one answers.
    pub async fn found(place: &Place) -> Option<Self> {
        let host = "unix:///var/run/docker.sock".to_owned();
        let docker = Self { host, process: None };
        docker.version(place).await.is_ok().then_some(docker)
    }

    /// Starts one whose files lie in the place's folder. It leaves the machine's own network
    /// alone (no bridge of its own, no firewall rules), and containers outlive it.
    pub async fn start(place: &Place, options: &[&str]) -> Result<Self> {
        let inside = |name: &str| place.folder.join(name).display().to_string();
        let host = format!("unix://{}", inside("docker.sock"));
        let data = inside("docker");
        // A short path: containerd's own socket lies below it, and a socket's path is limited.
        let (exec, pidfile) = (inside("x"), inside("docker.pid"));
        let mut command = vec!["dockerd", "--data-root", &data, "--exec-root", &exec];
        command.extend(["--pidfile", &pidfile, "-H", &host]);
        let cgroup = place.cgroup();
        if let Some(cgroup) = cgroup {
            command.extend(["--cgroup-parent", cgroup]);
        }
        command.extend(options);
        let process = Some(place.start("dockerd", &command, &[]).await?);
        let docker = Self { host, process };
        let ready = async || Ok(docker.version(place).await.is_ok());
        let ready = wait_until("dockerd answers", PATIENCE, ready).await;
        ready.with_context(|| tail(&place.log("dockerd"), 20))?;
        Ok(docker)
    }

    /// A `docker` command.
    pub fn command(&self, place: &Place, args: &[&str]) -> Program {
        // The distribution's own client fits its engine; another one may come first in the path.
        let own = "/usr/bin/docker";
        let client = if std::path::Path::new(own).exists() { own } else { "docker" };
        place.program(client).args(args).env("DOCKER_HOST", &self.host).deadline(COMMAND)
    }

    /// Runs a `docker` command and returns what it printed.
    pub async fn run(&self, place: &Place, args: &[&str]) -> Result<String> {
        Ok(self.command(place, args).run().await?.text())
    }

    /// The version of dockerd.
    pub async fn version(&self, place: &Place) -> Result<String> {
        self.run(place, &["version", "--format", "{{.Server.Version}}"]).await
    }
}

/// Options for a dockerd that leaves the machine's network alone and whose containers outlive it.
pub const QUIET: [&str; 3] = ["--bridge=none", "--iptables=false", "--live-restore"];
