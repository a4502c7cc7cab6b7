//! Everything together: Open vSwitch, the three daemons and dockerd on one place.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::daemons::Daemon;
use crate::docker::{self, Docker};
use crate::image;
use crate::place::Place;
use crate::process::Process;
use crate::switch::Switch;

/// The whole suite on a stage of its own; it vanishes with it.
#[derive(Debug)]
pub struct Suite {
    /// Where it runs.
    pub place: Place,
    /// dockerd.
    pub docker: Docker,
    /// Open vSwitch.
    pub switch: Switch,
    daemons: [Process; 3],
}

impl Suite {
    /// Starts everything, with an image to run containers from.
    pub async fn start() -> Result<Self> {
        Self::with(&docker::QUIET, "").await
    }

    /// Starts everything with these options of dockerd and this configuration of ours.
    pub async fn with(docker_options: &[&str], config: &str) -> Result<Self> {
        Self::on(Place::stage().await?, docker_options, config).await
    }

    /// The same on a stage that is there.
    pub async fn on(place: Place, docker_options: &[&str], config: &str) -> Result<Self> {
        // A path of its own, so that what is left of this suite is told from others'.
        let state = format!("state_dir = {:?}\n", place.folder.join("state"));
        std::fs::write(place.folder.join("dockline.toml"), state + config)?;
        let switch = Switch::start(&place).await?;
        let [ipam, net, vol] = Daemon::ALL;
        let daemons =
            [ipam.start(&place).await?, net.start(&place).await?, vol.start(&place).await?];
        let docker = Docker::start(&place, docker_options).await?;
        image::import(&docker, &place).await?;
        Ok(Self { place, docker, switch, daemons })
    }

    /// Runs a `docker` command and returns what it printed.
    pub async fn docker(&self, args: &[&str]) -> Result<String> {
        self.docker.run(&self.place, args).await
    }

    /// Runs a `docker` command that is to fail and returns its error.
    pub async fn docker_error(&self, args: &[&str]) -> Result<String> {
        let output = self.docker.command(&self.place, args).output().await?;
        anyhow::ensure!(!output.status.success(), "docker {} succeeded", args.join(" "));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Runs a program there and returns what it printed.
    pub async fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        Ok(self.place.program(program).args(args).run().await?.text())
    }

    /// The process of one of our daemons.
    pub fn daemon(&self, daemon: Daemon) -> Process {
        self.daemons[daemon as usize]
    }

    /// Ends one of our daemons as a crash would.
    pub async fn kill(&self, daemon: Daemon) -> Result<()> {
        self.daemon(daemon).kill().await
    }

    /// Starts one of our daemons again.
    pub async fn restart(&mut self, daemon: Daemon) -> Result<()> {
        self.daemons[daemon as usize] = daemon.start(&self.place).await?;
        Ok(())
    }

    /// Ends dockerd as a crash would; containers and containerd go on.
    pub async fn kill_docker(&self) -> Result<()> {
        self.docker.process.context("dockerd is not ours")?.kill().await
    }

    /// Starts dockerd again.
    pub async fn restart_docker(&mut self, options: &[&str]) -> Result<()> {
        self.docker = Docker::start(&self.place, options).await?;
        Ok(())
    }

    /// Sends a signal to one of our daemons.
    pub fn signal(&self, daemon: Daemon, signal: Signal) {
        self.daemon(daemon).signal(signal);
    }
}
