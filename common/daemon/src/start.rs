//! From `main` to serving.
//!
//! A daemon is up before dockerd and does not need it, nor anything else: its sockets are taken and
//! answered first, and what is missing is said in each refused call and in `dockline status`.

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use dockline_admin::{Part, Status};
use dockline_plugin_specs::route::Plugin;
use dockline_serve::plugin::PluginService;
use dockline_serve::socket::Inherited;
use dockline_serve::{Limits, Server, Socket};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, AdminService};
use crate::config::{self, Config};
use crate::logging;

/// How long blocking work may take to end after everything else has.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Which daemon it is.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Its name for Docker: the file name of its socket, what users write after `-d`.
    pub name: &'static str,
    /// Its name for operators: `net`, `ipam`, `vol`.
    pub short: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// What a daemon is started with.
#[derive(Debug, Clone)]
pub struct Context {
    /// The configuration.
    pub config: Arc<Config>,
    /// Cancelled when the daemon is to stop.
    pub stop: CancellationToken,
    about: About,
    started: Instant,
}

impl Context {
    /// The daemon's status with these parts and counts.
    pub fn status(
        &self,
        parts: Vec<Part>,
        counts: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> Status {
        Status {
            name: self.about.name.to_owned(),
            version: self.about.version.to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            parts,
            counts: counts.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
        }
    }
}

#[derive(Debug, Parser)]
struct Arguments {
    /// The configuration file; without one, /etc/dockline/dockline.toml if it is there.
    #[arg(long, env = "DOCKLINE_CONFIG")]
    config: Option<PathBuf>,
    /// Read the configuration, say whether it is right, and exit.
    #[arg(long)]
    check_config: bool,
}

/// Runs a daemon until it is told to stop (SIGTERM, SIGINT).
///
/// `check` makes the daemon's own settings of the configuration, and is all that `--check-config`
/// does. `build` makes the plugin and its admin side of them. It must return at once, whatever is
/// down: Docker's activation waits for it.
pub fn run<S, P, A, F>(
    about: About,
    check: impl FnOnce(&Config) -> anyhow::Result<S>,
    build: F,
) -> ExitCode
where
    P: Plugin,
    A: Admin,
    F: AsyncFnOnce(Context, S) -> anyhow::Result<(P, A)>,
{
    match try_run(about, check, build) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error:#}", about.name);
            ExitCode::FAILURE
        }
    }
}

fn try_run<S, P, A, F>(
    about: About,
    check: impl FnOnce(&Config) -> anyhow::Result<S>,
    build: F,
) -> anyhow::Result<()>
where
    P: Plugin,
    A: Admin,
    F: AsyncFnOnce(Context, S) -> anyhow::Result<(P, A)>,
{
    // Named at run time: the same code parses for three programs.
    let command = <Arguments as clap::CommandFactory>::command();
    let command = command.name(about.name).version(about.version);
    let command = command.about("Part of Dockline; see its README.");
    let matches = command.get_matches();
    let arguments = <Arguments as clap::FromArgMatches>::from_arg_matches(&matches)?;
    let config = Config::load(arguments.config.as_deref())?;
    let settings = check(&config).context("the configuration is wrong")?;
    if arguments.check_config {
        let file = arguments.config.unwrap_or_else(|| config::DEFAULT_PATH.into());
        println!("{}: the configuration is right ({})", about.name, file.display());
        return Ok(());
    }
    logging::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let build = async |context: Context| build(context, settings).await;
    let served = runtime.block_on(serve(about, config, build));
    runtime.shutdown_timeout(LAST_WAIT);
    served
}

async fn serve<P, A, F>(about: About, config: Config, build: F) -> anyhow::Result<()>
where
    P: Plugin,
    A: Admin,
    F: AsyncFnOnce(Context) -> anyhow::Result<(P, A)>,
{
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    // Only what is kept there needs it: each use says why if it is not to be had.
    let folder = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.state_dir);
    if let Err(error) = folder {
        tracing::error!(folder = %config.state_dir.display(), %error, "cannot make the folder");
    }
    let mut inherited = Inherited::from_env();
    let lock = |what: &str| config.run_dir.join(format!("{}.{what}.lock", about.short));
    let plugin_path = config.plugins_dir.join(format!("{}.sock", about.name));
    let admin_path = config.admin_socket(about.short);
    let admin_socket = Socket::take(&admin_path, &lock("admin"), &mut inherited)?;
    let plugin_socket = Socket::take(&plugin_path, &lock("plugin"), &mut inherited)?;

    let config = Arc::new(config);
    let context = Context { config, stop: stop.clone(), about, started: Instant::now() };
    let (plugin, admin) = build(context).await.context("cannot start")?;
    let plugin = Server::new(Arc::new(PluginService::new(plugin)), Limits::default());
    let admin = Server::new(Arc::new(AdminService(admin)), Limits::default());
    tracing::info!(
        version = about.version,
        plugin = %plugin_path.display(),
        admin = %admin_path.display(),
        "serving"
    );
    // Without systemd there is nobody to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let served = tokio::try_join!(
        plugin.run(plugin_socket, stop.clone()),
        admin.run(admin_socket, stop.clone()),
    );
    tracing::info!("stopped");
    served.map(|_| ()).context("cannot serve")
}

fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop: requests in progress end first");
        stop.cancel();
    });
    Ok(())
}
