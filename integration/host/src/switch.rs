//! Open vSwitch: the one that runs, or one of our own.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::place::Place;
use crate::process::{Process, tail};
use crate::report::wait_until;

const PATIENCE: Duration = Duration::from_secs(30);
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// Where Debian's packages and everybody's tools expect the database.
const SOCKET: &str = "/run/openvswitch/db.sock";

/// An Open vSwitch of our own.
#[derive(Debug, Clone, Copy)]
pub struct Switch {
    /// Its database server.
    pub database: Process,
    /// Its switching daemon.
    pub vswitchd: Process,
}

/// Whether an Open vSwitch answers.
pub async fn answers(place: &Place) -> bool {
    ovs_vsctl(place, &["show"]).await.is_ok()
}

/// Runs `ovs-vsctl`.
pub async fn ovs_vsctl(place: &Place, args: &[&str]) -> Result<String> {
    let program = place.program("ovs-vsctl").arg("--timeout=10").args(args);
    Ok(program.run().await?.text())
}

impl Switch {
    /// Starts one whose database lies in the place's folder.
    pub async fn start(place: &Place) -> Result<Self> {
        let database = place.folder.join("conf.db");
        place.program("mkdir").args(["-p", "/run/openvswitch"]).run().await?;
        if !database.exists() {
            let create = place
                .program("ovsdb-tool")
                .arg("create")
                .args([database.as_os_str(), SCHEMA.as_ref()]);
            create.run().await.context("cannot make a switch database")?;
        }
        let database = Self::start_database(place).await?;
        let vswitchd = Self::start_vswitchd(place).await?;
        Ok(Self { database, vswitchd })
    }

    /// Starts the database server alone.
    pub async fn start_database(place: &Place) -> Result<Process> {
        let file = place.folder.join("conf.db");
        let file = file.to_str().context("a path that is not text")?;
        let remote = format!("--remote=punix:{SOCKET}");
        let control = format!("--unixctl={}", place.folder.join("ovsdb-server.ctl").display());
        let command = ["ovsdb-server", file, &remote, &control, "--pidfile", "--no-chdir"];
        let process = place.start("ovsdb-server", &command, &[]).await?;
        let ready = async || Ok(place.program("test").args(["-S", SOCKET]).run().await.is_ok());
        wait_until("ovsdb-server answers", PATIENCE, ready).await?;
        ovs_vsctl(place, &["--no-wait", "init"]).await?;
        Ok(process)
    }

    /// Starts the switching daemon alone.
    pub async fn start_vswitchd(place: &Place) -> Result<Process> {
        let remote = format!("unix:{SOCKET}");
        let control = format!("--unixctl={}", place.folder.join("vswitchd.ctl").display());
        let command = ["ovs-vswitchd", &remote, &control, "--pidfile", "--no-chdir"];
        let process = place.start("ovs-vswitchd", &command, &[]).await?;
        // It fills in what it can do once it is up.
        let up = wait_until("ovs-vswitchd is up", PATIENCE, async || {
            let types = ovs_vsctl(place, &["get", "Open_vSwitch", ".", "datapath_types"]).await?;
            Ok(types.contains("netdev"))
        });
        up.await.with_context(|| tail(&place.log("ovs-vswitchd"), 20))?;
        Ok(process)
    }
}
