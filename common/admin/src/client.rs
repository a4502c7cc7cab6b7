//! Asking a daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use hyperlocal::{UnixClientExt, UnixConnector, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{PREFIX, Refusal, Verb};

/// The longest answer taken, in bytes.
const LONGEST: usize = 64 << 20;

/// Why a daemon could not be asked, or did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("nothing answers on {socket}: is the daemon running?")]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It did not answer in time; what it does meanwhile is unknown.
    #[error("no answer on {socket} within {} s: see the daemon's log", waited.as_secs())]
    TimedOut {
        /// The socket.
        socket: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// It said no.
    #[error("{error}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// What it said.
        error: String,
    },
    /// It answered what this program does not understand.
    #[error(
        "the answer on {socket} is not understood: do the daemon's and this program's versions match?"
    )]
    Malformed {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// A client of one daemon's admin socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    patience: Duration,
    http: hyper_util::client::legacy::Client<UnixConnector, Full<Bytes>>,
}

impl Client {
    /// A client of the daemon on this socket that waits this long for an answer.
    pub fn new(socket: impl AsRef<Path>, patience: Duration) -> Self {
        let http = hyper_util::client::legacy::Client::unix();
        Self { socket: socket.as_ref().to_owned(), patience, http }
    }

    /// Asks for what `path` (without [`PREFIX`]) names.
    pub async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Has something done.
    pub async fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        what: &impl Serialize,
    ) -> Result<A, ClientError> {
        let body = serde_json::to_vec(what).map_err(|source| self.malformed(source))?;
        self.ask(Method::POST, path, body.into()).await
    }

    /// Has a verb carried out.
    pub async fn call<V: Verb>(&self, verb: &V) -> Result<V::Answer, ClientError> {
        self.post(V::NAME, verb).await
    }

    /// The daemon's counters in Prometheus' text form.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let body = self.answered(Method::GET, "metrics", Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    fn malformed(&self, source: serde_json::Error) -> ClientError {
        ClientError::Malformed { socket: self.socket.clone(), source }
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<A, ClientError> {
        let body = self.answered(method, path, body).await?;
        serde_json::from_slice(&body).map_err(|source| self.malformed(source))
    }

    async fn answered(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let answered = tokio::time::timeout(self.patience, self.exchange(method, path, body)).await;
        let (status, body) = answered.map_err(|_| ClientError::TimedOut {
            socket: self.socket.clone(),
            waited: self.patience,
        })??;
        if status.is_success() {
            return Ok(body);
        }
        let error = serde_json::from_slice::<Refusal>(&body)
            .map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |refusal| refusal.error);
        Err(ClientError::Refused { status, error })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| {
            ClientError::Unreachable { socket: self.socket.clone(), source }
        };
        let uri = Uri::new(&self.socket, &format!("{PREFIX}{path}"));
        let request = hyper::Request::builder().method(method).uri(uri).body(Full::new(body));
        let request = request.map_err(|source| unreachable(source.into()))?;
        let response =
            self.http.request(request).await.map_err(|source| unreachable(source.into()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        Ok((status, body.map_err(unreachable)?.to_bytes()))
    }
}
