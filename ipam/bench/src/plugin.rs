//! The real daemon, and dockerd as far as it can tell.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use dockline_exec::Program;
use dockline_plugin_specs::Call;
use dockline_plugin_specs::ipam::{ENDPOINT_MAC, RequestAddress, RequestPool};
use dockline_testkit::{Daemon as Process, eventually};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use tokio::net::UnixStream;

use crate::measure::{AsyncAsk, Seen, clients};
use crate::stage::Stage;

/// The pool that everybody asks.
const POOL: &str = "dockline/10.0.0.0/8";

/// How long the daemon may take to come up with everything it has to read.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    process: Process,
    socket: PathBuf,
    ready: Duration,
}

impl Daemon {
    /// Starts it and waits until it has answered a request for the pool and one for an address.
    pub(crate) async fn start(stage: &Stage) -> anyhow::Result<Self> {
        let config = stage.folder().join("dockline.toml");
        std::fs::write(&config, stage.config())?;
        let program = std::env::current_exe()?.with_file_name("dockline-ipam");
        anyhow::ensure!(program.exists(), "{} is missing: build it", program.display());
        let socket = stage.folder().join("plugins/dockline-ipam.sock");
        let pid_file = stage.folder().join("ipam.pid");
        let started = Instant::now();
        let shape = |starter: Program| {
            starter
                .env("DOCKLINE_CONFIG", &config)
                .args(["--start", "--quiet", "--make-pidfile", "--pidfile"])
                .arg(&pid_file)
                .arg("--startas")
                .arg(&program)
        };
        let process = Process::start("start-stop-daemon", &pid_file, shape).await?;
        eventually("the daemon", PATIENCE, async || ask_once(&socket).await.ok()).await?;
        Ok(Self { process, socket, ready: started.elapsed() })
    }

    /// How long it took from the start to the first answer.
    pub(crate) fn ready(&self) -> Duration {
        self.ready
    }

    /// Its resident memory in MiB.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u32 = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .context("no VmRSS")?
            .trim()
            .parse()?;
        Ok(f64::from(kib) / 1024.0)
    }

    /// Addresses requested by so many clients.
    pub(crate) async fn requests(&self, number: usize, length: Duration) -> anyhow::Result<Seen> {
        clients(number, length, async |_| connect(&self.socket).await, Address).await
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.process.end(Signal::SIGTERM).await
    }
}

type Connection = SendRequest<Full<Bytes>>;

async fn connect(socket: &Path) -> anyhow::Result<Connection> {
    let stream = UnixStream::connect(socket).await?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    tokio::spawn(connection);
    Ok(sender)
}

async fn call<C: Call>(connection: &mut Connection, call: &C) -> anyhow::Result<()> {
    let body = Full::new(Bytes::from(serde_json::to_vec(call)?));
    let request = hyper::Request::post(format!("/{}", C::METHOD)).header("Host", "plugin");
    connection.ready().await?;
    let answer = connection.send_request(request.body(body)?).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    anyhow::ensure!(status.is_success(), "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice::<C::Answer>(&body)?;
    Ok(())
}

async fn ask_once(socket: &Path) -> anyhow::Result<()> {
    let mut connection = connect(socket).await?;
    let pool = RequestPool {
        address_space: "dockline".into(),
        pool: Some("10.0.0.0/8".parse()?),
        ..RequestPool::default()
    };
    call(&mut connection, &pool).await?;
    Address.ask(&mut connection).await
}

#[derive(Clone)]
struct Address;

impl AsyncAsk<Connection> for Address {
    async fn ask(&self, connection: &mut Connection) -> anyhow::Result<()> {
        let mac = (ENDPOINT_MAC.to_owned(), "02:42:0a:00:00:01".to_owned());
        let request =
            RequestAddress { pool_id: POOL.to_owned(), address: None, options: [mac].into() };
        call(connection, &request).await
    }
}
