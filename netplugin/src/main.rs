//! `dockline-net`: Docker's network driver over Open vSwitch.
//!
//! * [`driver`]: Docker's calls.
//! * [`networks`]: the networks, in the store.
//! * [`switch`]: the bridge, and endpoints as ports on it; their truth is OVSDB.
//! * [`janitor`]: what a crash left behind.
//! * [`status`]: what operators are told; [`inventory`]: networks and ports, for them.
//!
//! What a request comes to is decided in `dockline-net-core`; addresses are the IPAM driver's.

mod driver;
mod failure;
mod inventory;
mod janitor;
mod networks;
mod status;
mod switch;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use dockline_daemon::{About, Config, Context, run};
use dockline_net_core::options::Mtu;
use dockline_plugin_specs::route::NetworkPlugin;

use driver::Driver;
use janitor::Janitor;
use networks::Networks;
use status::NetStatus;
use switch::Switch;

const ABOUT: About =
    About { name: "dockline-net", short: "net", version: env!("CARGO_PKG_VERSION") };

fn main() -> ExitCode {
    run(ABOUT, default_mtu, async |context: Context, default_mtu| {
        let config = &context.config;
        let networks = Arc::new(Networks::new(config.state_dir.join("net.redb")));
        let switch = Arc::new(Switch::new(&config.net, &config.host)?);
        let look_every = Duration::from_secs(config.net.look_every_s.get().into());
        let janitor = Janitor::new(Arc::clone(&switch), look_every);
        tokio::spawn(janitor.run(context.stop.clone()));
        let driver = Driver::new(Arc::clone(&networks), Arc::clone(&switch), default_mtu);
        Ok((NetworkPlugin(driver), NetStatus::new(context, networks, switch)))
    })
}

fn default_mtu(config: &Config) -> anyhow::Result<Mtu> {
    let mtu = config.net.mtu;
    Mtu::new(mtu).ok_or_else(|| anyhow::anyhow!("net.mtu = {mtu} is no MTU: 68 to 65535 bytes"))
}
