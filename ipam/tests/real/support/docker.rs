//! The daemon's process, and dockerd as far as it can tell.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dockline_exec::Program;
use dockline_plugin_specs::Call;
use dockline_plugin_specs::ipam::{ENDPOINT_MAC, RequestAddress};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyperlocal::{UnixClientExt, UnixConnector, Uri};

/// Why there is no answer to a call.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The daemon is not there, or went away: what it did is not known.
    Lost,
    /// The daemon said no.
    Refused(String),
}

/// dockerd, as far as the daemon can tell.
#[derive(Debug, Clone)]
pub(crate) struct Docker {
    socket: PathBuf,
    http: Client<UnixConnector, Full<Bytes>>,
}

impl Docker {
    /// The daemon whose folder this is.
    pub(crate) fn of(folder: &Path) -> Self {
        // Like dockerd's, a connection is not kept once its peer has died.
        Self { socket: folder.join("plugins/dockline-ipam.sock"), http: Client::unix() }
    }

    pub(crate) async fn call<C: Call>(&self, call: &C) -> Result<C::Answer, NoAnswer> {
        let body = Full::new(Bytes::from(serde_json::to_vec(call).unwrap()));
        let uri = Uri::new(&self.socket, &format!("/{}", C::METHOD));
        let request = hyper::Request::post(uri).body(body).unwrap();
        let response = self.http.request(request).await.map_err(|_| NoAnswer::Lost)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|_| NoAnswer::Lost)?.to_bytes();
        if status.is_success() {
            Ok(serde_json::from_slice(&body).unwrap())
        } else {
            Err(NoAnswer::Refused(String::from_utf8_lossy(&body).into_owned()))
        }
    }

    /// Calls until there is an answer, for the parts of the test in which nothing is killed.
    pub(crate) async fn insist<C: Call>(&self, call: &C) -> Result<C::Answer, String> {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..2000 {
            tick.tick().await;
            match self.call(call).await {
                Ok(answer) => return Ok(answer),
                Err(NoAnswer::Refused(text)) => return Err(text),
                Err(NoAnswer::Lost) => {}
            }
        }
        panic!("the daemon does not come up");
    }
}

pub(crate) fn request(pool: &str, address: Option<&str>) -> RequestAddress {
    RequestAddress {
        pool_id: pool.to_owned(),
        address: address.map(|address| address.parse().unwrap()),
        options: [(ENDPOINT_MAC.to_owned(), "02:42:0a:00:00:01".to_owned())].into(),
    }
}

/// The daemon as this host, with all it has in this folder.
pub(crate) fn daemon(folder: &Path, host: &str, more: &str) -> Program {
    let config = folder.join("dockline.toml");
    let text = format!(
        "host = {host:?}\nplugins_dir = {:?}\nrun_dir = {:?}\nstate_dir = {:?}\n{more}",
        folder.join("plugins"),
        folder.join("run"),
        folder.join("state")
    );
    std::fs::write(&config, text).unwrap();
    Program::new(env!("CARGO_BIN_EXE_dockline-ipam")).env("DOCKLINE_CONFIG", config)
}
