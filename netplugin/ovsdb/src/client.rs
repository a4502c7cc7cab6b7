//! The database as the rest of the program sees it: always there, sometimes out of reach.
//!
//! A background task keeps one connection open, starts the monitor on it and feeds the
//! [`Picture`]. When the connection breaks it makes another, with growing pauses. Calls wait for a
//! connection within their deadline; a call whose answer was lost is never repeated here, because
//! only the caller knows whether that is safe.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::limits;
use crate::picture::{Form, Picture, UpdateError};
use crate::session::{CallError, Session, SessionError, Updates};
use crate::transaction::{Committed, TransactError, Transaction};

const DATABASE: &str = "Open_vSwitch";
const MONITOR: &str = "dockline";
const BEFORE_ALL: &str = "00000000-0000-0000-0000-000000000000";

/// Where the database is and when it counts as dead.
#[derive(Debug, Clone)]
pub struct Config {
    /// The socket of ovsdb-server, usually `/run/openvswitch/db.sock`.
    pub socket: PathBuf,
    /// The silence after which the server is asked for an echo; after as much again the connection
    /// is given up and made anew. 5 seconds unless told otherwise.
    pub probe: Duration,
}

impl Config {
    /// The database on this socket, with the usual times.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), probe: limits::PROBE_AFTER }
    }
}

/// ovs-vswitchd did not say in time that it has put a change into effect. The change **is** in the
/// database, and ovs-vswitchd will take it when it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ovs-vswitchd has not taken over the change in time; is it running?")]
pub struct NotApplied;

/// A handle on the database. Clones share one connection, which closes with the last of them.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    session: watch::Receiver<Option<Arc<Session>>>,
    picture: watch::Receiver<Picture>,
    task: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Starts to connect and returns at once, whether or not the server runs. Must be called within
    /// a tokio runtime.
    pub fn start(config: Config) -> Self {
        let (session_in, session) = watch::channel(None);
        let (picture_in, picture) = watch::channel(Picture::default());
        let keeper =
            Keeper { config, session: session_in, picture: Arc::new(picture_in), last_txn: None };
        Self(Arc::new(Inner { session, picture, task: tokio::spawn(keeper.run()) }))
    }

    /// Waits until the database is connected and the picture is whole.
    pub async fn connected(&self, deadline: Instant) -> Result<(), TransactError> {
        self.session(deadline).await.map(drop)
    }

    /// Looks at the picture. Keep it short: updates wait meanwhile.
    pub fn look<T>(&self, at: impl FnOnce(&Picture) -> T) -> T {
        at(&self.0.picture.borrow())
    }

    /// A receiver that wakes at every change of the picture.
    pub fn watch(&self) -> watch::Receiver<Picture> {
        self.0.picture.clone()
    }

    /// Sends a transaction and waits for what comes of it, until the deadline.
    ///
    /// The picture shows the transaction's result when this returns: the server sends updates
    /// before the answer. Dropping the future leaves the outcome unknown and the connection usable.
    pub async fn transact(
        &self,
        transaction: &Transaction,
        deadline: Instant,
    ) -> Result<Committed, TransactError> {
        let session = self.session(deadline).await?;
        match session.call("transact", transaction.params(DATABASE), deadline).await {
            Ok(answer) => transaction.outcome(&answer),
            Err(CallError::NotSent) => Err(TransactError::NotSent),
            Err(CallError::Lost(lost)) => Err(TransactError::Unknown(lost)),
            Err(CallError::Refused(error)) => Err(TransactError::Call(error.to_string())),
        }
    }

    /// Waits until ovs-vswitchd has put everything up to this `next_cfg` into effect.
    pub async fn applied(&self, next_cfg: i64, deadline: Instant) -> Result<(), NotApplied> {
        let mut picture = self.watch();
        let applied =
            picture.wait_for(|picture| picture.root().is_some_and(|root| root.cur_cfg >= next_cfg));
        match tokio::time::timeout_at(deadline, applied).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotApplied),
        }
    }

    /// Waits for a connection however long it takes; fails only when there will be none any more.
    pub(crate) async fn reconnected(&self) -> Result<(), TransactError> {
        let mut session = self.0.session.clone();
        session.wait_for(is_live).await.map(drop).map_err(|_| TransactError::NotSent)
    }

    async fn session(&self, deadline: Instant) -> Result<Arc<Session>, TransactError> {
        let mut session = self.0.session.clone();
        match tokio::time::timeout_at(deadline, session.wait_for(is_live)).await {
            Ok(Ok(session)) => session.clone().ok_or(TransactError::NotSent),
            Ok(Err(_)) | Err(_) => Err(TransactError::NotSent),
        }
    }
}

fn is_live(session: &Option<Arc<Session>>) -> bool {
    session.as_ref().is_some_and(|session| !session.has_ended())
}

/// The background task's state.
struct Keeper {
    config: Config,
    session: watch::Sender<Option<Arc<Session>>>,
    picture: Arc<watch::Sender<Picture>>,
    /// The last transaction the picture is known to include, where the server counts them.
    last_txn: Option<Arc<watch::Sender<String>>>,
}

impl Keeper {
    async fn run(mut self) {
        let (first, longest) = limits::BACKOFF;
        let (mut pause, mut told) = (first, false);
        loop {
            let connecting = tokio::time::timeout(limits::CONNECT, self.connect()).await;
            let why = match connecting.unwrap_or(Err(SessionError::Silent)) {
                Ok(session) => {
                    tracing::info!(socket = %self.config.socket.display(), "OVS database connected");
                    let since = Instant::now();
                    let why = self.attend(session).await;
                    // A server that drops everybody at once gets the long pauses too.
                    if since.elapsed() > longest {
                        pause = first;
                    }
                    told = false;
                    why
                }
                Err(why) => why,
            };
            if matches!(why, SessionError::Update(_)) {
                // The picture is spoilt: ask for all of it, not for what changed since.
                self.last_txn = None;
            }
            // Once for each time it goes away, not at every attempt.
            if told {
                tracing::debug!(%why, "still no OVS database");
            } else {
                tracing::warn!(socket = %self.config.socket.display(), %why, "no OVS database");
                told = true;
            }
            #[expect(clippy::disallowed_methods, reason = "the pause between two attempts")]
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Lets the callers use a connection until it ends.
    async fn attend(&self, session: Session) -> SessionError {
        let session = Arc::new(session);
        self.picture.send_modify(|picture| picture.set_connected(true));
        self.session.send_replace(Some(session.clone()));
        let why = session.ended().await;
        self.session.send_replace(None);
        self.picture.send_modify(|picture| picture.set_connected(false));
        why
    }

    async fn connect(&mut self) -> Result<Session, SessionError> {
        let since = self.last_txn.as_ref().map(|txn| txn.borrow().clone());
        let last_txn = Arc::new(watch::Sender::new(since.unwrap_or_else(|| BEFORE_ALL.to_owned())));
        let feed = Feed { picture: self.picture.clone(), last_txn: last_txn.clone() };
        let session = Session::open(&self.config.socket, self.config.probe, feed).await?;
        let deadline = Instant::now() + limits::CONNECT;
        let since = last_txn.borrow().clone();
        let params = json!([DATABASE, MONITOR, requests(), since]);
        match session.subscribe("monitor_cond_since", params, deadline).await {
            Ok(_) => {
                self.last_txn = Some(last_txn);
                return Ok(session);
            }
            Err(CallError::Refused(error)) => {
                tracing::debug!(%error, "no monitor_cond_since; falling back to monitor");
            }
            Err(CallError::NotSent | CallError::Lost(_)) => return Err(session.ended().await),
        }
        self.last_txn = None;
        let params = json!([DATABASE, MONITOR, requests()]);
        match session.subscribe("monitor", params, deadline).await {
            Ok(_) => Ok(session),
            Err(CallError::Refused(error)) => Err(SessionError::Monitor(error.to_string())),
            Err(CallError::NotSent | CallError::Lost(_)) => Err(session.ended().await),
        }
    }
}

/// The tables and columns to watch.
fn requests() -> Value {
    let tables = Picture::columns();
    let request = |columns: &[&str]| json!([{"columns": columns}]);
    Value::Object(
        tables.iter().map(|(table, columns)| (String::from(*table), request(columns))).collect(),
    )
}

/// Writes what the monitor says into the picture.
struct Feed {
    picture: Arc<watch::Sender<Picture>>,
    last_txn: Arc<watch::Sender<String>>,
}

impl Feed {
    fn apply(&self, tables: &Value, form: Form, anew: bool) -> Result<(), UpdateError> {
        let mut result = Ok(());
        self.picture.send_modify(|picture| {
            if anew {
                *picture = Picture::default();
            }
            result = picture.update(tables, form);
        });
        result
    }

    fn note(&self, txn: &Value) {
        if let Some(txn) = txn.as_str() {
            self.last_txn.send_replace(txn.to_owned());
        }
    }
}

impl Updates for Feed {
    fn notified(&mut self, method: &str, params: &Value) -> Result<(), UpdateError> {
        let params = params.as_array().map(Vec::as_slice).unwrap_or_default();
        match (method, params) {
            ("update3", [_, txn, tables]) => {
                self.apply(tables, Form::Differences, false)?;
                self.note(txn);
            }
            ("update", [_, tables]) => self.apply(tables, Form::Values, false)?,
            ("update3" | "update", _) => return Err(UpdateError::Shape("wrong parameters")),
            _ => tracing::debug!(method, "unknown notification of the OVS database"),
        }
        Ok(())
    }

    fn subscribed(&mut self, answer: &Value) -> Result<(), UpdateError> {
        match answer {
            Value::Array(parts) => match parts.as_slice() {
                // `found`: the server still knew what changed since the transaction we named.
                [Value::Bool(found), txn, tables] => {
                    self.apply(tables, Form::Differences, !found)?;
                    self.note(txn);
                    Ok(())
                }
                _ => Err(UpdateError::Shape("the monitor's answer has other parts")),
            },
            Value::Object(_) => self.apply(answer, Form::Values, true),
            _ => Err(UpdateError::Shape("the monitor's answer is no table")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    #[test]
    fn a_monitor_asks_for_our_columns_only() {
        let requests = requests();
        let tables: Vec<&String> = requests.as_object().map(Map::keys).unwrap().collect();
        assert_eq!(tables.len(), 4);
        let columns = requests["Interface"][0]["columns"].as_array().unwrap();
        assert!(columns.contains(&Value::from("ofport")));
        assert!(!columns.contains(&Value::from("statistics")));
    }
}
