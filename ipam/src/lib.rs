//! The IPAM plugin: pools and addresses for Docker's networks, kept in the store.
//!
//! * [`driver`]: Docker's protocol: text to types, and what is refused before the store is asked.
//! * [`engine`]: pools and addresses on any store; what it decides is in `dockline-ipam-core`.
//! * `choice`: which store the configuration names.
//! * `doubts`: writes whose outcome is unknown, until it is known and made good.
//! * `view`, `follow`: the picture of the store in memory, and the task that keeps it true.
//! * `verbs`: what operators can have done.
//! * [`opening`]: the store, opened in the background; until then the plugin says what it waits for.

mod addresses;
mod choice;
mod doubts;
pub mod driver;
pub mod engine;
mod error;
mod follow;
pub mod opening;
mod pools;
mod status;
mod verbs;
mod view;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dockline_daemon::config::{Config, StoreKind};
use dockline_daemon::{About, Context};
use dockline_ipam_core::{DefaultPool, HostName};
use dockline_plugin_specs::route::IpamPlugin;
use dockline_store::AnyStore;

pub use error::IpamError;

use choice::Choice;
use driver::Driver;
use engine::Settings;
use opening::Opening;
use status::IpamAdmin;

/// Which daemon it is.
const ABOUT: About =
    About { name: "dockline-ipam", short: "ipam", version: env!("CARGO_PKG_VERSION") };

/// Runs the daemon until it is told to stop.
pub fn run() -> ExitCode {
    let check = |config: &Config| Ok((settings(config)?, Choice::read(config)?));
    dockline_daemon::run(ABOUT, check, async |context, checked| Ok(build(&context, checked)))
}

fn build(
    context: &Context,
    (settings, choice): (Settings, Choice),
) -> (IpamPlugin<Driver<AnyStore>>, IpamAdmin<AnyStore>) {
    let what = choice.to_string();
    let open = move || choice.clone().open();
    let opening = Arc::new(Opening::start(settings, what, open));
    let driver = Driver::new(Arc::clone(&opening));
    (IpamPlugin(driver), IpamAdmin::new(context.clone(), opening))
}

fn settings(config: &Config) -> anyhow::Result<Settings> {
    let host: HostName = config.host.parse().context("the configuration's `host` is no name")?;
    let pools = config.ipam.default_pools.iter();
    let defaults = pools.map(|pool| DefaultPool::new(pool.base, pool.size));
    let defaults = defaults.collect::<Result<_, _>>().context("in the section [ipam]")?;
    let spread = matches!(config.store.kind, StoreKind::Etcd);
    Ok(Settings { host, defaults, spread, rest: Duration::from_secs(config.ipam.rest_s) })
}
