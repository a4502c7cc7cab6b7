//! Calling a plugin as dockerd does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyperlocal::{UnixClientExt, UnixConnector, Uri};
use serde_json::Value;

/// Longer than any call may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A plugin's socket, called as dockerd calls it. Clones share connections.
#[derive(Debug, Clone)]
pub struct Plugin {
    socket: PathBuf,
    http: Client<UnixConnector, Full<Bytes>>,
}

impl Plugin {
    /// The plugin on this socket, which need not be there yet.
    pub fn at(socket: impl AsRef<Path>) -> Self {
        Self { socket: socket.as_ref().to_owned(), http: Client::unix() }
    }

    /// Calls a method such as `NetworkDriver.Join`; a refusal is `Err` with its text.
    pub async fn call(&self, method: &str, body: &Value) -> anyhow::Result<Result<Value, String>> {
        let body = serde_json::to_vec(body)?;
        let called = tokio::time::timeout(PATIENCE, self.post(method, body.into())).await;
        let (status, answer) = called.with_context(|| format!("{method} hangs"))??;
        let answer: Value = serde_json::from_slice(&answer).with_context(|| method.to_owned())?;
        Ok(if status == 200 {
            Ok(answer)
        } else {
            Err(answer["Err"].as_str().context("a refusal without a text")?.to_owned())
        })
    }

    /// Posts any bytes and gives the status and the body of the answer.
    pub async fn post(&self, method: &str, body: Bytes) -> anyhow::Result<(u16, Bytes)> {
        let uri: hyper::Uri = Uri::new(&self.socket, &format!("/{method}")).into();
        let request = hyper::Request::post(uri)
            .header("Accept", "application/vnd.docker.plugins.v1.2+json")
            .body(Full::new(body))?;
        let response = self.http.request(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
