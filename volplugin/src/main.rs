//! The daemon: puts the pieces together.

use std::process::ExitCode;

use anyhow::Context as _;
use dockline_daemon::{About, Config, Context};
use dockline_plugin_specs::route::VolumePlugin;
use dockline_vol::driver::Driver;
use dockline_vol::host::Host;
use dockline_vol::loopfile::LoopFiles;
use dockline_vol::mkfs::Mkfs;
use dockline_vol::status::VolAdmin;
use dockline_vol::uses::Uses;
use dockline_vol_core::{Defaults, FsKind};

type Plugin = VolumePlugin<Driver<LoopFiles>>;

fn main() -> ExitCode {
    let about = About { name: "dockline-vol", short: "vol", version: env!("CARGO_PKG_VERSION") };
    dockline_daemon::run(about, defaults, build)
}

fn defaults(config: &Config) -> anyhow::Result<Defaults> {
    let fs = config.vol.default_fs.parse().map_err(|()| {
        let allowed = FsKind::ALL.map(FsKind::name).join(" or ");
        anyhow::anyhow!("vol.default_fs = {:?}: {allowed} is expected", config.vol.default_fs)
    })?;
    Ok(Defaults { size: config.vol.default_size, fs })
}

async fn build(
    context: Context,
    defaults: Defaults,
) -> anyhow::Result<(Plugin, VolAdmin<LoopFiles>)> {
    let config = &context.config;
    let root = config.vol.root.clone().unwrap_or_else(|| config.state_dir.join("volumes"));
    let backend = LoopFiles::open(&root, Mkfs::default()).await?;
    let host = Host::open(&root)?;
    let uses = Uses::open(&config.run_dir.join("vol-mounts.json")).await?;
    let driver = Driver::start(backend, host, uses, defaults)
        .await
        .with_context(|| format!("cannot take up the volumes in {}", root.display()))?;
    Ok((VolumePlugin(driver.clone()), VolAdmin::new(driver, context)))
}
