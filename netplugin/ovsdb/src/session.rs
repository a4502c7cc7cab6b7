//! One connection to the server: calls and their answers, echoes, and the monitor's updates.
//!
//! A reader and a writer task share a table of unanswered calls. A caller that goes away only takes
//! its entry out of the table; its answer is then dropped when it comes. It does not reconnect:
//! that is [`crate::client`]'s.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::codec::{CodecError, Decoder};
use crate::limits;
use crate::picture::UpdateError;
use crate::transaction::Lost;

/// Why a connection ended or could not be made.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SessionError {
    /// The socket could not be connected, read or written.
    #[error("cannot talk to the OVS database: {0}")]
    Io(Arc<std::io::Error>),
    /// The server closed the connection.
    #[error("the OVS database closed the connection")]
    Closed,
    /// The server said nothing for too long.
    #[error("the OVS database is silent")]
    Silent,
    /// The server sent something that is not the protocol.
    #[error("the OVS database does not speak OVSDB: {0}")]
    Codec(Arc<CodecError>),
    /// The monitor sent something unexpected.
    #[error("an update of the OVS database cannot be taken: {0}")]
    Update(Arc<UpdateError>),
    /// The monitor was refused.
    #[error("the OVS database refused to be watched: {0}")]
    Monitor(String),
}

impl From<std::io::Error> for SessionError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// What came of one call.
#[derive(Debug)]
pub(crate) enum CallError {
    /// It was never sent.
    NotSent,
    /// It was sent and not answered.
    Lost(Lost),
    /// The server answered with an error.
    Refused(Value),
}

/// Where updates go. Called in the order of the stream, before later answers are given out.
pub(crate) trait Updates: Send + 'static {
    /// A notification of the server.
    fn notified(&mut self, method: &str, params: &Value) -> Result<(), UpdateError>;
    /// The answer to a call made with [`Session::subscribe`].
    fn subscribed(&mut self, answer: &Value) -> Result<(), UpdateError>;
}

type Answer = Result<Value, Value>;

/// A call that waits for its answer.
struct Waiting {
    caller: oneshot::Sender<Answer>,
    /// Whether the answer starts a monitor: it must be taken before the next message is.
    subscribes: bool,
}

#[derive(Default)]
struct Pending {
    next: u64,
    calls: HashMap<u64, Waiting>,
    closed: bool,
}

/// A live connection. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Session {
    outgoing: mpsc::Sender<Vec<u8>>,
    pending: Calls,
    ended: watch::Receiver<Option<SessionError>>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Pending>>);

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} calls", self.lock().calls.len())
    }
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        // No code panics while it holds the lock, and the table is whole between its lines.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a call, unless the connection has ended.
    fn enter(&self, subscribes: bool) -> Option<(Entered, oneshot::Receiver<Answer>)> {
        let (caller, answer) = oneshot::channel();
        let mut pending = self.lock();
        if pending.closed {
            return None;
        }
        let id = pending.next;
        pending.next += 1;
        pending.calls.insert(id, Waiting { caller, subscribes });
        Some((Entered { calls: self.clone(), id }, answer))
    }

    fn take(&self, id: u64) -> Option<Waiting> {
        self.lock().calls.remove(&id)
    }

    /// Tells all callers that no answer will come.
    fn close(&self) {
        let mut pending = self.lock();
        pending.closed = true;
        pending.calls.clear();
    }
}

/// A call's place in the table, given up when the caller goes away.
struct Entered {
    calls: Calls,
    id: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.calls.take(self.id);
    }
}

impl Session {
    /// Connects. `probe` is the silence after which the server is asked for an echo; after as much
    /// again the connection is given up.
    pub(crate) async fn open(
        socket: &Path,
        probe: Duration,
        updates: impl Updates,
    ) -> Result<Self, SessionError> {
        let (read, write) = UnixStream::connect(socket).await?.into_split();
        let (outgoing, queue) = mpsc::channel(limits::OUTGOING);
        let (ended, end) = watch::channel(None);
        let ended = Arc::new(ended);
        let pending = Calls::default();
        let reader = Reader {
            read,
            probe,
            outgoing: outgoing.downgrade(),
            pending: pending.clone(),
            updates,
            ended: ended.clone(),
        };
        let writer = write_all(write, queue, pending.clone(), ended);
        let tasks = [tokio::spawn(reader.run()), tokio::spawn(writer)];
        Ok(Self { outgoing, pending, ended: end, tasks })
    }

    /// Makes a call and waits for its answer until the deadline.
    pub(crate) async fn call(
        &self,
        method: &str,
        params: Value,
        deadline: Instant,
    ) -> Result<Value, CallError> {
        self.send(method, params, false, deadline).await
    }

    /// Makes a call whose answer is handed to [`Updates::subscribed`] before anything after it.
    pub(crate) async fn subscribe(
        &self,
        method: &str,
        params: Value,
        deadline: Instant,
    ) -> Result<Value, CallError> {
        self.send(method, params, true, deadline).await
    }

    async fn send(
        &self,
        method: &str,
        params: Value,
        subscribes: bool,
        deadline: Instant,
    ) -> Result<Value, CallError> {
        let Some((entered, answer)) = self.pending.enter(subscribes) else {
            return Err(CallError::NotSent);
        };
        let message = json!({"method": method, "params": params, "id": entered.id});
        let sent = self.outgoing.send(message.to_string().into_bytes());
        match tokio::time::timeout_at(deadline, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(CallError::NotSent),
        }
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer.map_err(CallError::Refused),
            Ok(Err(_)) => Err(CallError::Lost(Lost::Connection)),
            Err(_) => Err(CallError::Lost(Lost::Deadline)),
        }
    }

    /// Waits for the connection's end.
    pub(crate) async fn ended(&self) -> SessionError {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or(SessionError::Closed),
            Err(_) => SessionError::Closed,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pending.close();
        for task in &self.tasks {
            task.abort();
        }
    }
}

type Ended = Arc<watch::Sender<Option<SessionError>>>;

/// Notes the first reason for the end and tells the callers.
fn end(ended: &Ended, pending: &Calls, why: SessionError) {
    ended.send_if_modified(|first| {
        let is_first = first.is_none();
        if is_first {
            *first = Some(why);
        }
        is_first
    });
    pending.close();
}

async fn write_all(
    mut write: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Vec<u8>>,
    pending: Calls,
    ended: Ended,
) {
    while let Some(message) = queue.recv().await {
        if let Err(error) = write.write_all(&message).await {
            return end(&ended, &pending, error.into());
        }
    }
}

struct Reader<U> {
    read: OwnedReadHalf,
    probe: Duration,
    outgoing: mpsc::WeakSender<Vec<u8>>,
    pending: Calls,
    updates: U,
    ended: Ended,
}

impl<U: Updates> Reader<U> {
    async fn run(mut self) {
        let why = match self.read_all().await {
            Ok(()) => SessionError::Closed,
            Err(why) => why,
        };
        end(&self.ended, &self.pending, why);
    }

    async fn read_all(&mut self) -> Result<(), SessionError> {
        let mut decoder = Decoder::default();
        let mut chunk = vec![0; limits::CHUNK];
        let mut asked = false;
        loop {
            match tokio::time::timeout(self.probe, self.read.read(&mut chunk)).await {
                Ok(Ok(0)) => return Ok(()),
                Ok(Ok(length)) => {
                    asked = false;
                    decoder.extend(&chunk[..length]);
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if asked => return Err(SessionError::Silent),
                Err(_) => {
                    asked = true;
                    self.post(&json!({"method": "echo", "params": [], "id": "echo"}));
                }
            }
            let codec = |error| SessionError::Codec(Arc::new(error));
            while let Some(message) = decoder.message().map_err(codec)? {
                self.take(message).map_err(|error| SessionError::Update(Arc::new(error)))?;
            }
        }
    }

    /// Sends without waiting: a server so far behind that the queue is full is not answering
    /// either, and the probe will tell.
    fn post(&self, message: &Value) {
        if let Some(outgoing) = self.outgoing.upgrade() {
            let _ = outgoing.try_send(message.to_string().into_bytes());
        }
    }

    fn take(&mut self, mut message: Value) -> Result<(), UpdateError> {
        let id = message.get_mut("id").map(Value::take).unwrap_or_default();
        let Some(method) = message.get("method").and_then(Value::as_str) else {
            return self.answered(&id, &mut message);
        };
        match (method, &id) {
            (_, Value::Null) => {
                let params = message.get("params").unwrap_or(&Value::Null);
                self.updates.notified(method, params)?;
            }
            ("echo", _) => {
                let params = message.get("params").cloned().unwrap_or_default();
                self.post(&json!({"result": params, "error": null, "id": id}));
            }
            _ => self.post(&json!({"result": null, "error": "unknown method", "id": id})),
        }
        Ok(())
    }

    fn answered(&mut self, id: &Value, message: &mut Value) -> Result<(), UpdateError> {
        // Without an entry the caller has gone, or it is the answer to our echo.
        let Some(waiting) = id.as_u64().and_then(|id| self.pending.take(id)) else {
            return Ok(());
        };
        let mut part = |name| message.get_mut(name).map(Value::take).unwrap_or_default();
        let answer = match part("error") {
            Value::Null => Ok(part("result")),
            error => Err(error),
        };
        if waiting.subscribes
            && let Ok(answer) = &answer
        {
            self.updates.subscribed(answer)?;
        }
        // The caller may have gone in this moment.
        let _ = waiting.caller.send(answer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_goes_away_leaves_no_entry() {
        let calls = Calls::default();
        let (entered, answer) = calls.enter(false).unwrap();
        assert_eq!(calls.lock().calls.len(), 1);
        drop((entered, answer));
        assert_eq!(calls.lock().calls.len(), 0);
        calls.close();
        assert!(calls.enter(false).is_none());
    }
}
