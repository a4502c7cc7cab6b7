//! The daemon: puts the pieces together.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use dockline_daemon::config::LvmWay;
use dockline_daemon::{About, Config, Context};
use dockline_lvm::{Lvm, Way};
use dockline_plugin_specs::route::VolumePlugin;
use dockline_vol::any::AnyBackend;
use dockline_vol::driver::Driver;
use dockline_vol::host::Host;
use dockline_vol::logical::{Groups, LogicalDisks};
use dockline_vol::loopfile::LoopFiles;
use dockline_vol::mkfs::Mkfs;
use dockline_vol::status::VolAdmin;
use dockline_vol::uses::Uses;
use dockline_vol_core::{Defaults, FsKind};

type Plugin = VolumePlugin<Driver<AnyBackend>>;

fn main() -> ExitCode {
    let about = About { name: "dockline-vol", short: "vol", version: env!("CARGO_PKG_VERSION") };
    dockline_daemon::run(about, checked, build)
}

/// What is checked of the configuration before anything is done.
fn checked(config: &Config) -> anyhow::Result<(Defaults, Groups)> {
    let fs = config.vol.default_fs.parse().map_err(|()| {
        let allowed = FsKind::ALL.map(FsKind::name).join(" or ");
        anyhow::anyhow!("vol.default_fs = {:?}: {allowed} is expected", config.vol.default_fs)
    })?;
    let groups = Groups::new(&config.vol.groups).context("vol.groups is wrong")?;
    Ok((Defaults { size: config.vol.default_size, fs }, groups))
}

async fn build(
    context: Context,
    (defaults, groups): (Defaults, Groups),
) -> anyhow::Result<(Plugin, VolAdmin<AnyBackend>)> {
    let config = &context.config;
    let root = config.vol.root.clone().unwrap_or_else(|| config.state_dir.join("volumes"));
    let backend = backend(config, groups, &root).await?;
    let host = Host::open(&root)?;
    let uses = Uses::open(&config.run_dir.join("vol-mounts.json")).await?;
    let driver = Driver::start(backend, host, uses, defaults)
        .await
        .with_context(|| format!("cannot take up the volumes in {}", root.display()))?;
    Ok((VolumePlugin(driver.clone()), VolAdmin::new(driver, context)))
}

/// The backend that the configuration names.
async fn backend(config: &Config, groups: Groups, root: &Path) -> anyhow::Result<AnyBackend> {
    let vol = &config.vol;
    if vol.groups.is_empty() {
        return Ok(AnyBackend::Files(LoopFiles::open(root, Mkfs::default()).await?));
    }
    let way = match vol.lvm {
        LvmWay::Library => Way::Library(beside("dockline-lvm")?),
        LvmWay::Program => Way::Program("lvm".into()),
    };
    let (lvm, mkfs, wipe) = (Lvm::new(&way, None), Mkfs::default(), vol.wipe.into());
    Ok(AnyBackend::Logical(LogicalDisks::open(lvm, groups, mkfs, wipe, root).await?))
}

/// A program that is installed where this one is.
fn beside(program: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    Ok(own.with_file_name(program))
}
