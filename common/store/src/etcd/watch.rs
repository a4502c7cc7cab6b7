//! Following changes, on one member after the other.

use std::sync::Arc;

use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::watch;

use super::error::Failure;
use super::link::{ATTEMPT, Link, pause};
use super::wire;
use crate::{Batch, Event, Key, Prefix, Revision, StoreError, Watch};

/// A stream of one member.
#[derive(Debug)]
struct Stream {
    turn: u64,
    endpoint: String,
    stream: WatchStream,
}

/// What a message of a member means.
enum Told {
    Batch(Batch),
    /// Nothing that matters.
    Nothing,
    /// The stream is of no use any more.
    Broken(Failure),
}

/// A watch on etcd. It goes on at another member when one fails.
#[derive(Debug)]
pub struct EtcdWatch {
    link: Arc<Link>,
    prefix: Prefix,
    after: Revision,
    stream: Option<Stream>,
    turns: watch::Receiver<Option<u64>>,
}

impl EtcdWatch {
    pub(super) fn new(link: Arc<Link>, prefix: Prefix, after: Revision) -> Self {
        let turns = link.turns();
        Self { link, prefix, after, stream: None, turns }
    }

    async fn open(&self) -> Result<Stream, Failure> {
        let connected = self.link.connected().await?;
        let (turn, endpoint, mut watch) = (connected.turn, connected.endpoint, connected.watch);
        let (from, to) = self.link.options().namespace.watched();
        let after = wire::number(self.after).saturating_add(1);
        let options = WatchOptions::new().with_range(to).with_start_revision(after);
        match tokio::time::timeout(ATTEMPT, watch.watch(from, Some(options))).await {
            Ok(Ok(stream)) => Ok(Stream { turn, endpoint, stream }),
            Ok(Err(source)) => {
                let failure = Failure::Member { endpoint, source: Arc::new(source) };
                Err(self.link.give_up(turn, failure))
            }
            Err(_) => {
                let failure = Failure::Silent { endpoint, ms: ATTEMPT.as_millis() };
                Err(self.link.give_up(turn, failure))
            }
        }
    }

    fn read(&self, message: &WatchResponse, endpoint: &str) -> Result<Told, StoreError> {
        if message.compact_revision() > 0 {
            return Err(StoreError::Compacted { after: self.after });
        }
        if message.canceled() {
            let reason = message.cancel_reason().to_owned();
            let source = Arc::new(etcd_client::Error::WatchError(reason));
            return Ok(Told::Broken(Failure::Member { endpoint: endpoint.to_owned(), source }));
        }
        let mut batch = Batch { revision: self.after, events: Vec::new() };
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            let revision = wire::revision(kv.mod_revision());
            if revision <= self.after {
                continue;
            }
            batch.revision = batch.revision.max(revision);
            let namespace = &self.link.options().namespace;
            let Some(key) = namespace.inner(kv.key()).filter(|key| self.prefix.holds(key)) else {
                continue;
            };
            batch.events.extend(match event.event_type() {
                EventType::Put => wire::entry(namespace, kv).map(Event::Put),
                EventType::Delete => {
                    Some(Event::Delete { key: Key::stored(key.to_vec()), revision })
                }
            });
        }
        Ok(if batch.revision > self.after { Told::Batch(batch) } else { Told::Nothing })
    }
}

impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        loop {
            let Some(turn) = *self.turns.borrow_and_update() else {
                return Err(Failure::Closed.into());
            };
            if self.stream.as_ref().is_none_or(|stream| stream.turn != turn) {
                self.stream = None;
                match self.open().await {
                    Ok(stream) => self.stream = Some(stream),
                    Err(_) => pause().await,
                }
                continue;
            }
            let Some(Stream { endpoint, stream, .. }) = &mut self.stream else { continue };
            let endpoint = endpoint.clone();
            let message = tokio::select! {
                message = stream.message() => message,
                _ = self.turns.changed() => continue,
            };
            let told = match message {
                Ok(Some(message)) => self.read(&message, &endpoint)?,
                Ok(None) => Told::Broken(Failure::Member {
                    endpoint,
                    source: Arc::new(etcd_client::Error::WatchError("it ended".into())),
                }),
                Err(source) => Told::Broken(Failure::Member { endpoint, source: Arc::new(source) }),
            };
            match told {
                Told::Batch(batch) => {
                    self.after = batch.revision;
                    return Ok(batch);
                }
                Told::Nothing => {}
                Told::Broken(failure) => {
                    self.link.give_up(turn, failure);
                    pause().await;
                }
            }
        }
    }
}
