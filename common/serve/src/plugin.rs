//! One of Docker's plugin protocols as a [`Service`]: the one place where an error of a driver
//! becomes an answer, and where a request gets its span.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dockline_plugin_specs::route::{CallError, Plugin, chain, refusal};
use dockline_plugin_specs::{MEDIA_TYPE, engine_patience};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use tracing::Instrument;

use crate::{Request, Response, Service};

/// How long dockerd is kept waiting where it has no limit of its own: it holds a lock meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much sooner than dockerd we give up, so that it hears why.
const MARGIN: Duration = Duration::from_secs(10);

/// A plugin on a socket.
#[derive(Debug)]
pub struct PluginService<P> {
    plugin: P,
    /// Numbers the requests for the log.
    served: AtomicU64,
}

impl<P: Plugin> PluginService<P> {
    /// Serves this plugin.
    pub fn new(plugin: P) -> Self {
        Self { plugin, served: AtomicU64::new(0) }
    }
}

/// The ids that some request or other carries, for the log.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Ids {
    #[serde(rename = "NetworkID")]
    network: Option<String>,
    #[serde(rename = "EndpointID")]
    endpoint: Option<String>,
    #[serde(rename = "PoolID")]
    pool: Option<String>,
    #[serde(rename = "Name")]
    volume: Option<String>,
    #[serde(rename = "ID")]
    mount: Option<String>,
    address: Option<String>,
}

fn method(request: &Request) -> &str {
    request.path.strip_prefix('/').unwrap_or(&request.path)
}

fn answer(status: StatusCode, body: Vec<u8>) -> Response {
    Response { status, media_type: MEDIA_TYPE, body: body.into() }
}

impl<P: Plugin> PluginService<P> {
    async fn call(&self, request: &Request) -> Response {
        if request.method != Method::POST {
            let text = format!("{} is not a plugin call: POST is expected", request.method);
            return self.failure(StatusCode::METHOD_NOT_ALLOWED, text);
        }
        let started = Instant::now();
        let result = self.plugin.call(method(request), &request.body).await;
        let elapsed_ms = started.elapsed().as_millis();
        match result {
            Ok(body) => {
                tracing::info!(elapsed_ms, "done");
                answer(StatusCode::OK, body)
            }
            Err(error) => {
                let text = chain(&error);
                match error {
                    CallError::UnknownMethod(_) => tracing::debug!(elapsed_ms, "not implemented"),
                    _ => tracing::warn!(elapsed_ms, error = text, "refused"),
                }
                let status = StatusCode::from_u16(error.status());
                answer(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), refusal(&text))
            }
        }
    }
}

impl<P: Plugin> Service for PluginService<P> {
    async fn answer(&self, request: &Request) -> Response {
        let id = self.served.fetch_add(1, Ordering::Relaxed);
        let ids: Ids = serde_json::from_slice(&request.body).unwrap_or_default();
        let span = tracing::info_span!(
            "request",
            id,
            method = method(request),
            network = ids.network,
            endpoint = ids.endpoint,
            pool = ids.pool,
            volume = ids.volume,
            mount = ids.mount,
            address = ids.address,
        );
        self.call(request).instrument(span).await
    }

    async fn undelivered(&self, request: &Request, response: &Response) {
        if response.status == StatusCode::OK {
            self.plugin.take_back(method(request), &request.body, &response.body).await;
        }
    }

    fn patience(&self, request: &Request) -> Duration {
        engine_patience(method(request)).map_or(PATIENCE, |theirs| theirs.saturating_sub(MARGIN))
    }

    fn failure(&self, status: StatusCode, text: String) -> Response {
        answer(status, refusal(&text))
    }
}
