//! The connection to the cluster: to one member at a time, the next when it fails.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use etcd_client::{
    Certificate, Client, ConnectOptions, Error, GetOptions, GetResponse, Identity, KvClient,
    TlsOptions, Txn, TxnResponse, WatchClient,
};
use tokio::sync::watch;

use super::error::{Failure, Verdict, verdict};
use super::options::{EtcdOptions, Tls, User};
use crate::{Cause, StoreError};

/// How long one member may take for one call.
pub(super) const ATTEMPT: Duration = Duration::from_secs(2);

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(1);

/// etcd closes a connection that is probed more often than every 5 s (`--grpc-keepalive-min-time`).
const PROBE: Duration = Duration::from_secs(10);
const PROBE_ANSWER: Duration = Duration::from_secs(3);

/// The largest answer taken, in bytes: a page, or the compares of a transaction, of the largest
/// values there are.
const LARGEST: usize = 512 << 20;

/// How long the cluster must have been out of reach for callers to wait less.
const TROUBLE: Duration = Duration::from_secs(3);

/// How many times a call that may be repeated goes on to the next member, at least.
const TRIES: usize = 3;

/// How long to wait before a member is tried again.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Clients of the member at hand.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) endpoint: String,
    pub(super) turn: u64,
    pub(super) kv: KvClient,
    pub(super) watch: WatchClient,
}

#[derive(Default)]
struct State {
    connected: Option<Connected>,
    /// Since when nothing works, and why.
    trouble: Option<(Instant, Failure)>,
}

/// The connection to the cluster.
pub(super) struct Link {
    options: EtcdOptions,
    state: Mutex<State>,
    connecting: tokio::sync::Mutex<()>,
    /// Counts the members that were given up; `None` once the store is closed.
    turn: watch::Sender<Option<u64>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Waits before something is tried again.
#[expect(clippy::disallowed_methods, reason = "the pause before the next attempt")]
pub(super) async fn pause() {
    tokio::time::sleep(PAUSE).await;
}

impl Link {
    pub(super) fn new(options: EtcdOptions) -> Self {
        Self {
            options,
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            turn: watch::Sender::new(Some(0)),
        }
    }

    pub(super) fn options(&self) -> &EtcdOptions {
        &self.options
    }

    pub(super) fn close(&self) {
        self.turn.send_replace(None);
        self.state().connected = None;
    }

    /// Tells when the member at hand is given up.
    pub(super) fn turns(&self) -> watch::Receiver<Option<u64>> {
        self.turn.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the cluster has been out of reach for a while.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.state().trouble.as_ref().is_some_and(|(since, _)| since.elapsed() > TROUBLE)
    }

    /// Why nothing was heard.
    pub(super) fn cause(&self) -> Cause {
        let failure = self.state().trouble.as_ref().map(|(_, failure)| failure.clone());
        Arc::new(failure.unwrap_or_else(|| Failure::late(&self.options)))
    }

    pub(super) fn unavailable(&self) -> StoreError {
        StoreError::Unavailable(self.cause())
    }

    /// Clients of the member at hand; connects if there is none.
    pub(super) async fn connected(&self) -> Result<Connected, Failure> {
        if let Some(connected) = self.state().connected.clone() {
            return Ok(connected);
        }
        let _one = self.connecting.lock().await;
        if let Some(connected) = self.state().connected.clone() {
            return Ok(connected);
        }
        let Some(turn) = *self.turn.borrow() else { return Err(Failure::Closed) };
        let members = u64::try_from(self.options.endpoints.len()).unwrap_or(u64::MAX).max(1);
        let at = usize::try_from(turn % members).unwrap_or_default();
        let endpoint = self.options.endpoints.get(at).cloned().unwrap_or_default();
        match tokio::time::timeout(CONNECT, connect(&self.options, &endpoint)).await {
            Ok(Ok(client)) => {
                let kv = client.kv_client().max_decoding_message_size(LARGEST);
                let watch = client.watch_client().max_decoding_message_size(LARGEST);
                let connected = Connected { endpoint, turn, kv, watch };
                self.state().connected = Some(connected.clone());
                Ok(connected)
            }
            Ok(Err(failure)) => Err(self.give_up(turn, failure)),
            Err(_) => {
                let ms = CONNECT.as_millis();
                Err(self.give_up(turn, Failure::Silent { endpoint, ms }))
            }
        }
    }

    /// Goes on to the next member, unless somebody else did meanwhile.
    pub(super) fn give_up(&self, turn: u64, failure: Failure) -> Failure {
        let given_up = self.turn.send_if_modified(|now| match now {
            Some(now) if *now == turn => {
                *now += 1;
                true
            }
            _ => false,
        });
        let mut state = self.state();
        if given_up {
            tracing::debug!(error = %failure, "giving up this member of etcd");
            state.connected = None;
        }
        let since = state.trouble.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        state.trouble = Some((since, failure.clone()));
        failure
    }

    fn well(&self) {
        let mut state = self.state();
        if state.trouble.take().is_some_and(|(since, _)| since.elapsed() > TROUBLE) {
            tracing::info!("etcd answers again");
        }
    }

    /// One call of one member; the verdict says what may be concluded from a failure.
    pub(super) async fn once<T, F: Future<Output = Result<T, Error>> + Send>(
        &self,
        call: impl FnOnce(KvClient) -> F + Send,
    ) -> Result<T, (Verdict, Failure, Option<Arc<Error>>)> {
        let connected = match self.connected().await {
            Ok(connected) => connected,
            // Nothing was sent.
            Err(failure) => return Err((Verdict::Refused, failure, None)),
        };
        let (endpoint, turn) = (connected.endpoint, connected.turn);
        match tokio::time::timeout(ATTEMPT, call(connected.kv)).await {
            Ok(Ok(answer)) => {
                self.well();
                Ok(answer)
            }
            Ok(Err(error)) => {
                let (verdict, source) = (verdict(&error), Arc::new(error));
                let failure = Failure::Member { endpoint, source: Arc::clone(&source) };
                if verdict == Verdict::Open {
                    self.give_up(turn, failure.clone());
                }
                Err((verdict, failure, Some(source)))
            }
            Err(_) => {
                let failure = Failure::Silent { endpoint, ms: ATTEMPT.as_millis() };
                Err((Verdict::Open, self.give_up(turn, failure), None))
            }
        }
    }

    /// A transaction that may be done twice.
    pub(super) async fn txn(&self, txn: Txn) -> Result<TxnResponse, Failure> {
        let call = |mut kv: KvClient| {
            let txn = txn.clone();
            async move { kv.txn(txn).await }
        };
        self.insist(call).await.map_err(|(failure, _)| failure)
    }

    /// A read.
    pub(super) async fn get(
        &self,
        key: &[u8],
        options: &GetOptions,
    ) -> Result<GetResponse, (Failure, Option<Arc<Error>>)> {
        let call = |mut kv: KvClient| {
            let (key, options) = (key.to_vec(), options.clone());
            async move { kv.get(key, Some(options)).await }
        };
        self.insist(call).await
    }

    /// Asks each member in turn until one answers, for what may be asked twice.
    async fn insist<T, F: Future<Output = Result<T, Error>> + Send>(
        &self,
        call: impl Fn(KvClient) -> F + Send + Sync,
    ) -> Result<T, (Failure, Option<Arc<Error>>)> {
        let started = Instant::now();
        let most = TRIES.max(self.options.endpoints.len() + 1);
        let mut tries = 0;
        loop {
            tries += 1;
            let (verdict, failure, source) = match self.once(&call).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let last = tries >= most || started.elapsed() > super::DEADLINE;
            // A refusal of the server itself is the answer.
            if last || (verdict == Verdict::Refused && source.is_some()) {
                return Err((failure, source));
            }
            pause().await;
        }
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |source| Failure::File { path: PathBuf::from(path), source: Arc::new(source) };
    tokio::fs::read(path).await.map_err(failed)
}

async fn tls_options(tls: &Tls) -> Result<TlsOptions, Failure> {
    let options = TlsOptions::new().ca_certificate(Certificate::from_pem(read(&tls.ca).await?));
    let Some((certificate, key)) = &tls.identity else { return Ok(options) };
    let identity = Identity::from_pem(read(certificate).await?, read(key).await?);
    Ok(options.identity(identity))
}

async fn connect(options: &EtcdOptions, endpoint: &str) -> Result<Client, Failure> {
    let mut connect = ConnectOptions::new()
        .with_connect_timeout(CONNECT)
        .with_keep_alive(PROBE, PROBE_ANSWER)
        // A server counts probes without a request under way against the client.
        .with_keep_alive_while_idle(false)
        .with_require_leader(true);
    if let Some(tls) = &options.tls {
        connect = connect.with_tls(tls_options(tls).await?);
    }
    if let Some(User { name, password_file }) = &options.user {
        let password = read(password_file).await?;
        let password = String::from_utf8_lossy(&password);
        let password = password.trim_end_matches(['\r', '\n']);
        connect = connect.with_user(name, password).with_auto_token_refresh(true);
    }
    let failed =
        |source| Failure::Member { endpoint: endpoint.to_owned(), source: Arc::new(source) };
    Client::connect([endpoint], Some(connect)).await.map_err(failed)
}
