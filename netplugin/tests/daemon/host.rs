//! A host with a daemon: what the tests do to it and see of it.

use std::path::PathBuf;
use std::time::Duration;

use dockline_admin::Client;
use dockline_testkit::{Daemon, Ovs, Plugin, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The bridge that the daemon makes.
pub(crate) const BRIDGE: &str = "dockline0";

/// The network of most tests.
pub(crate) const NETWORK: &str = "4e7f00000000000000000000000000000000000000000000000000000000cafe";

/// An endpoint of most tests, and the names that follow from its id.
pub(crate) const ENDPOINT: &str =
    "e1d0000000010000000000000000000000000000000000000000000000000001";
pub(crate) const SWITCH_END: &str = "dl-e1d000000001";
pub(crate) const CONTAINER_END: &str = "dc-e1d000000001";
pub(crate) const HOST_END: &str = "dh-e1d000000001";
pub(crate) const JOINT: &str = "ds-e1d000000001";

/// All devices of [`ENDPOINT`], sorted.
pub(crate) const WIRE: [&str; 4] = [CONTAINER_END, HOST_END, SWITCH_END, JOINT];

/// Longer than the daemon lets any call take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// The host. What is declared first goes first.
pub(crate) struct Host {
    daemon: Option<Daemon>,
    pub(crate) plugin: Plugin,
    pub(crate) ovs: Ovs,
    folder: TempDir,
}

impl Host {
    /// A host with everything running and [`NETWORK`] made. What a crash left is looked for once,
    /// at the start, so that nothing but the calls themselves cleans up.
    pub(crate) async fn start() -> Self {
        Self::looking_every(3600).await
    }

    /// The same, on which what a crash left is looked for every second.
    pub(crate) async fn watched() -> Self {
        Self::looking_every(1).await
    }

    async fn looking_every(seconds: u32) -> Self {
        let mut host = Self::without_daemon(Ovs::start().await.unwrap(), seconds);
        host.run().await;
        host.make_network(NETWORK, json!({"vlan": "100", "mtu": "1400"})).await.unwrap();
        host
    }

    /// A host on which the daemon does not run yet.
    pub(crate) fn without_daemon(ovs: Ovs, look_every_s: u32) -> Self {
        let folder = TempDir::with_prefix("dockline-net").unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["plugins", "run"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        let config = format!(
            "host = \"h1\"\nplugins_dir = {:?}\nrun_dir = {:?}\nstate_dir = {:?}\n\
             [net]\novsdb = {:?}\nlook_every_s = {look_every_s}\n",
            path("plugins"),
            path("run"),
            path("state"),
            ovs.socket(),
        );
        std::fs::write(path("dockline.toml"), config).unwrap();
        let plugin = Plugin::at(path("plugins/dockline-net.sock"));
        Self { daemon: None, plugin, ovs, folder }
    }

    /// Where the daemon keeps its networks.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("state/net.redb")
    }

    /// The daemon's admin socket.
    pub(crate) fn admin(&self) -> Client {
        Client::new(self.folder.path().join("run/net.sock"), PATIENCE)
    }

    /// Starts the daemon and waits until it serves.
    pub(crate) async fn run(&mut self) {
        let net = format!("--net={}", self.ovs.namespace().path().display());
        let config = self.folder.path().join("dockline.toml");
        let admin = self.admin();
        let serving = async || {
            let status: Value = admin.get("status").await.ok()?;
            i32::try_from(status["pid"].as_i64()?).ok()
        };
        let shape = |nsenter: dockline_exec::Program| {
            let daemon = env!("CARGO_BIN_EXE_dockline-net");
            nsenter.args([net.as_str(), "--", daemon, "--config"]).arg(config)
        };
        self.daemon = Some(Daemon::start_until("nsenter", shape, serving).await.unwrap());
    }

    /// Ends the daemon as a crash would.
    pub(crate) async fn kill(&mut self) {
        self.daemon.take().unwrap().end(Signal::SIGKILL).await.unwrap();
    }

    /// Calls the daemon as dockerd does.
    pub(crate) async fn call(&self, method: &str, body: Value) -> Result<Value, String> {
        let method = format!("NetworkDriver.{method}");
        self.plugin.call(&method, &body).await.unwrap()
    }

    pub(crate) async fn make_network(&self, id: &str, options: Value) -> Result<Value, String> {
        self.call("CreateNetwork", network(id, options)).await
    }

    pub(crate) async fn make_endpoint(&self, id: &str) -> Result<Value, String> {
        self.call("CreateEndpoint", endpoint(id)).await
    }

    pub(crate) async fn delete_endpoint(&self, id: &str) -> Result<Value, String> {
        self.call("DeleteEndpoint", named(id)).await
    }

    /// What `ovs-vsctl` prints.
    pub(crate) async fn vsctl(&self, args: &[&str]) -> String {
        self.ovs.vsctl().args(args).run().await.unwrap().text()
    }

    /// The ports of the bridge.
    pub(crate) async fn ports(&self) -> Vec<String> {
        let bridges = self.vsctl(&["list-br"]).await;
        if !bridges.lines().any(|bridge| bridge == BRIDGE) {
            return Vec::new();
        }
        self.vsctl(&["list-ports", BRIDGE]).await.lines().map(str::to_owned).collect()
    }

    /// What `ip` prints on the host, as JSON.
    pub(crate) async fn ip(&self, args: &[&str]) -> Value {
        let ip = self.ovs.namespace().program("ip").args(["-json", "-details"]).args(args);
        serde_json::from_str(&ip.run().await.unwrap().text()).unwrap_or_default()
    }

    /// The devices that are named as ours.
    pub(crate) async fn devices(&self) -> Vec<String> {
        let links = self.ip(&["link", "show"]).await;
        let names = links.as_array().unwrap().iter().filter_map(|link| link["ifname"].as_str());
        let prefixes = ["dc-", "dh-", "dl-", "ds-"];
        let ours = names.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
        let mut ours: Vec<String> = ours.map(str::to_owned).collect();
        ours.sort();
        ours
    }

    /// Ports and devices.
    pub(crate) async fn there(&self) -> (Vec<String>, Vec<String>) {
        (self.ports().await, self.devices().await)
    }

    /// Waits until exactly these ports and devices are there.
    pub(crate) async fn comes_to(&self, ports: &[&str], devices: &[&str]) {
        let mut there = self.there().await;
        let what = format!("ports {ports:?} and devices {devices:?}");
        let waited = eventually(&what, PATIENCE, async || {
            there = self.there().await;
            (there.0 == ports && there.1 == devices).then_some(())
        });
        let waited = waited.await;
        assert!(waited.is_ok(), "{waited:?}: there are {there:?}");
    }
}

/// A `CreateNetwork`.
pub(crate) fn network(id: &str, options: Value) -> Value {
    json!({
        "NetworkID": id,
        "Options": {"com.docker.network.generic": options},
        "IPv4Data": [{"Pool": "10.100.0.0/24", "Gateway": "10.100.0.1/24"}],
        "IPv6Data": [],
    })
}

/// A `CreateEndpoint` on [`NETWORK`].
pub(crate) fn endpoint(id: &str) -> Value {
    let mut body = named(id);
    let interface = json!({"Address": "10.100.0.2/24", "AddressIPv6": "", "MacAddress": ""});
    body["Interface"] = interface;
    body["Options"] = json!({});
    body
}

/// A call that only names an endpoint of [`NETWORK`].
pub(crate) fn named(id: &str) -> Value {
    json!({"NetworkID": NETWORK, "EndpointID": id})
}
