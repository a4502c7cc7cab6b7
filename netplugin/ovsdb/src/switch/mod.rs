//! Bridges and ports: what a driver of container ports asks of Open vSwitch.
//!
//! Every verb may be repeated: it says whether it changed anything, refuses to touch what does not
//! bear the caller's marks, and returns when ovs-vswitchd has put the change into effect. Changes
//! of ports that are asked for at the same time share one transaction and one reconfiguration of
//! ovs-vswitchd, whose cost grows with the ports of the switch, not with those that change.

mod bridge;
mod plan;
mod queue;
mod spec;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use bridge::{BridgeDone, BridgeError, BridgeSpec, FailMode};
pub use spec::{Marks, Native, PortKind, PortSpec, Target, Until, VlanMode};

use crate::client::Client;
use crate::limits;
use crate::transaction::{Columns, TransactError};
use plan::Work;
use queue::{Entry, Queue};

/// What adding a port came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// Whether this call made it, or it was there already just as asked.
    pub outcome: Outcome,
    /// Its OpenFlow number.
    pub ofport: u16,
}

/// Whether a port was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// This call made it.
    Created,
    /// It was there, with the same marks, kind and VLANs on the same bridge.
    AlreadyThere,
}

/// Whether a port was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// This call deleted it.
    Deleted,
    /// There was none of that name.
    Absent,
}

/// Why a change of a port did not plainly succeed.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Undone: a port or interface of that name is there and is not what was meant.
    #[error("port {name} of Open vSwitch is there already and differs: {what}")]
    Conflict {
        /// The port.
        name: String,
        /// In what it differs.
        what: &'static str,
    },
    /// Undone: there is no such bridge.
    #[error("Open vSwitch has no bridge {0}")]
    NoBridge(String),
    /// Undone: there is no such port.
    #[error("Open vSwitch has no port {0}")]
    NoPort(String),
    /// Undone: ovs-vswitchd could not use the device, and the port was taken out again if this call
    /// had made it.
    #[error("Open vSwitch cannot use device {name}: {reason}")]
    Device {
        /// The port.
        name: String,
        /// What ovs-vswitchd says.
        reason: String,
    },
    /// Undone: it was still waiting for its turn, or for a connection.
    #[error(
        "the change of port {0} did not get its turn in time; do ovsdb-server and ovs-vswitchd run?"
    )]
    NotStarted(String),
    /// **Done in the database**, but ovs-vswitchd has not taken it over in time.
    #[error("ovs-vswitchd has not taken over the change of port {0} in time; is it running?")]
    NotApplied(String),
    /// **Unknown**: it may or may not be in the database.
    #[error("it is not known whether the change of port {0} is in the OVS database")]
    Unknown(String),
    /// Undone: the database refused it.
    #[error("port {name}")]
    Refused {
        /// The port.
        name: String,
        /// Why.
        #[source]
        source: TransactError,
    },
}

/// The switch. Clones share one queue of changes.
#[derive(Debug, Clone)]
pub struct Switch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    changes: mpsc::Sender<Entry>,
    queue: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.abort();
    }
}

impl Switch {
    /// The switch behind this database. Must be called within a tokio runtime.
    pub fn new(client: Client) -> Self {
        let (changes, incoming) = mpsc::channel(limits::QUEUE);
        let queue = tokio::spawn(Queue::new(client.clone(), incoming).run());
        Self(Arc::new(Inner { client, changes, queue }))
    }

    /// The database.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Prepares an empty database, as `ovs-vsctl init` does: until then ovs-vswitchd does not say
    /// what it can do.
    pub async fn initialise(&self, deadline: Instant) -> Result<(), TransactError> {
        bridge::initialise(&self.0.client, deadline).await
    }

    /// Makes the bridge, or brings what may change of it to what is asked.
    pub async fn ensure_bridge(
        &self,
        spec: &BridgeSpec,
        deadline: Instant,
    ) -> Result<BridgeDone, BridgeError> {
        bridge::ensure(&self.0.client, spec, deadline).await
    }

    /// Deletes the bridge with all its ports if it bears these marks.
    pub async fn delete_bridge(
        &self,
        name: &str,
        guard: &Marks,
        deadline: Instant,
    ) -> Result<Deleted, BridgeError> {
        bridge::delete(&self.0.client, name, guard, deadline).await
    }

    /// Adds a port and waits until ovs-vswitchd forwards on it.
    ///
    /// If this fails with [`PortError::NotApplied`] or [`PortError::Unknown`], the port may be
    /// there: [`Self::delete_port`] is the undo, also when it never was.
    pub async fn add_port(&self, spec: PortSpec, deadline: Instant) -> Result<Added, PortError> {
        let name = spec.name.to_string();
        let done = self.change(Work::Add(spec), deadline).await?;
        let outcome = if done.changed { Outcome::Created } else { Outcome::AlreadyThere };
        let ofport = done.ofport.ok_or(PortError::NotApplied(name))?;
        Ok(Added { outcome, ofport })
    }

    /// Adds ports together; one result each, in their order. One that fails does not stop others.
    pub async fn add_ports(
        &self,
        specs: Vec<PortSpec>,
        deadline: Instant,
    ) -> Vec<Result<Added, PortError>> {
        all(specs.into_iter().map(|spec| self.add_port(spec, deadline))).await
    }

    /// Deletes the port of this name if it bears these marks.
    pub async fn delete_port(
        &self,
        name: &str,
        guard: &Marks,
        until: Until,
        deadline: Instant,
    ) -> Result<Deleted, PortError> {
        let work = Work::Delete { name: name.to_owned(), guard: guard.clone(), until };
        let done = self.change(work, deadline).await?;
        Ok(if done.changed { Deleted::Deleted } else { Deleted::Absent })
    }

    /// Deletes ports together; one result each, in their order.
    pub async fn delete_ports(
        &self,
        names: &[String],
        guard: &Marks,
        until: Until,
        deadline: Instant,
    ) -> Vec<Result<Deleted, PortError>> {
        all(names.iter().map(|name| self.delete_port(name, guard, until, deadline))).await
    }

    /// Overwrites columns of a port or interface that bears these marks.
    pub async fn set_columns(
        &self,
        target: Target,
        name: &str,
        guard: &Marks,
        columns: Columns,
        deadline: Instant,
    ) -> Result<(), PortError> {
        let work = Work::Set { target, name: name.to_owned(), guard: guard.clone(), columns };
        self.change(work, deadline).await.map(drop)
    }

    async fn change(&self, work: Work, deadline: Instant) -> Result<queue::Done, PortError> {
        let name = work.name().to_owned();
        let (entry, ticket) = Entry::new(work, deadline);
        let queued = tokio::time::timeout_at(deadline, self.0.changes.send(entry)).await;
        if !matches!(queued, Ok(Ok(()))) {
            return Err(PortError::NotStarted(name));
        }
        ticket.wait(name, deadline).await
    }
}

/// Runs futures at once and gives their results in order.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    futures_util::future::join_all(futures).await
}
