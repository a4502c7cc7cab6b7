//! Bridges: made once per host, so each change is a transaction of its own.

use dockline_types::MacAddr;
use tokio::time::Instant;

use super::Deleted;
use super::spec::Marks;
use crate::client::Client;
use crate::limits;
use crate::picture::Picture;
use crate::rows::{Bridge, StringMap};
use crate::transaction::{Columns, Condition, Mutator, Table, TransactError, Transaction};
use crate::value::{Datum, Uuid};

/// What a bridge does with packets when no controller tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailMode {
    /// It learns addresses like any Ethernet switch.
    Standalone,
    /// It forwards only what a rule says.
    Secure,
}

impl FailMode {
    fn name(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Secure => "secure",
        }
    }
}

/// A bridge to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    /// Its name, which is that of its local device too.
    pub name: String,
    /// `system` for the kernel's datapath, `netdev` for userspace. Cannot be changed later.
    pub datapath_type: String,
    /// What it does without a controller.
    pub fail_mode: FailMode,
    /// The address of its local device. Without one it takes the lowest of its ports', which
    /// changes as they come and go.
    pub mac: Option<MacAddr>,
    /// Further settings (`other_config`); those it has and that are not named here stay.
    pub other_config: StringMap,
    /// Whose it is.
    pub marks: Marks,
}

impl BridgeSpec {
    fn settings(&self) -> StringMap {
        let mut settings = self.other_config.clone();
        if let Some(mac) = self.mac {
            settings.insert("hwaddr".to_owned(), mac.to_string());
        }
        settings
    }
}

/// What ensuring a bridge came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BridgeDone {
    /// It was made.
    Created,
    /// Its settings were changed to what is asked.
    Changed,
    /// It was as asked.
    AlreadyThere,
}

/// Why a bridge is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// Undone: a bridge, port or device of that name is there and is not ours.
    #[error("Open vSwitch has a bridge or port {0} that is not Dockline's; choose another name")]
    NotOurs(String),
    /// Undone: its datapath differs, which cannot be changed while it has ports.
    #[error("bridge {name} has datapath type {found:?}, not {wanted:?}; delete the bridge first")]
    Datapath {
        /// The bridge.
        name: String,
        /// What it has.
        found: String,
        /// What was asked.
        wanted: String,
    },
    /// ovs-vswitchd could not make its local device; the bridge stays in the database.
    #[error("ovs-vswitchd cannot make bridge {name}: {reason}")]
    Device {
        /// The bridge.
        name: String,
        /// What ovs-vswitchd says.
        reason: String,
    },
    /// **Done in the database**, but ovs-vswitchd has not taken it over in time.
    #[error("ovs-vswitchd has not taken over bridge {0} in time; is it running?")]
    NotApplied(String),
    /// The database refused it, or what became of it is unknown ([`TransactError::is_unknown`]).
    #[error("bridge {name}")]
    Database {
        /// The bridge.
        name: String,
        /// What happened.
        #[source]
        source: TransactError,
    },
}

/// What is to be written, if anything.
fn plan(spec: &BridgeSpec, picture: &Picture) -> Result<(BridgeDone, Transaction), BridgeError> {
    let mut transaction = Transaction::new();
    let Some((uuid, bridge)) = picture.bridge(&spec.name) else {
        if picture.port(&spec.name).is_some() || picture.interface(&spec.name).is_some() {
            return Err(BridgeError::NotOurs(spec.name.clone()));
        }
        if picture.root().is_none() {
            transaction.initialise();
        }
        insert(&mut transaction, spec);
        return Ok((BridgeDone::Created, transaction));
    };
    if !spec.marks.are_on(&bridge.external_ids) {
        return Err(BridgeError::NotOurs(spec.name.clone()));
    }
    // An empty type is the kernel's.
    let kernel = |kind: &str| matches!(kind, "" | "system");
    let same = bridge.datapath_type == spec.datapath_type
        || (kernel(&bridge.datapath_type) && kernel(&spec.datapath_type));
    if !same {
        return Err(BridgeError::Datapath {
            name: spec.name.clone(),
            found: bridge.datapath_type.clone(),
            wanted: spec.datapath_type.clone(),
        });
    }
    let columns = changed(spec, bridge);
    if columns.is_empty() {
        return Ok((BridgeDone::AlreadyThere, transaction));
    }
    let row = Condition::row(uuid);
    transaction.wait_for(Table::Bridge, &spec.name, [row.clone(), spec.marks.condition()]);
    transaction.update(Table::Bridge, row, columns).announce();
    Ok((BridgeDone::Changed, transaction))
}

fn insert(transaction: &mut Transaction, spec: &BridgeSpec) {
    let device: Columns = vec![
        ("name", spec.name.as_str().into()),
        ("type", "internal".into()),
        ("external_ids", spec.marks.datum()),
    ];
    transaction.insert(Table::Interface, "device", device);
    let port: Columns = vec![
        ("name", spec.name.as_str().into()),
        ("interfaces", Datum::new_row("device")),
        ("external_ids", spec.marks.datum()),
    ];
    transaction.insert(Table::Port, "port", port);
    let bridge: Columns = vec![
        ("name", spec.name.as_str().into()),
        ("ports", Datum::new_row("port")),
        ("datapath_type", spec.datapath_type.as_str().into()),
        ("fail_mode", spec.fail_mode.name().into()),
        ("other_config", Datum::map(spec.settings())),
        ("external_ids", spec.marks.datum()),
    ];
    transaction.insert(Table::Bridge, "bridge", bridge);
    transaction.mutate_bridges(Mutator::Insert, Datum::new_row("bridge")).announce();
}

fn changed(spec: &BridgeSpec, bridge: &Bridge) -> Columns {
    let mut columns = Columns::new();
    if bridge.fail_mode.as_deref() != Some(spec.fail_mode.name()) {
        columns.push(("fail_mode", spec.fail_mode.name().into()));
    }
    let mut settings = bridge.other_config.clone();
    settings.extend(spec.settings());
    if settings != bridge.other_config {
        columns.push(("other_config", Datum::map(settings)));
    }
    columns
}

/// Makes the single row of the switch, without which ovs-vswitchd does nothing and says nothing.
pub(crate) async fn initialise(client: &Client, deadline: Instant) -> Result<(), TransactError> {
    client.connected(deadline).await?;
    let mut attempt = 1;
    while client.look(|picture| picture.root().is_none()) {
        let mut transaction = Transaction::new();
        transaction.initialise();
        match client.transact(&transaction, deadline).await {
            Ok(_) => break,
            Err(error) if attempt < limits::ATTEMPTS && worth_another(&error, deadline) => {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(crate) async fn ensure(
    client: &Client,
    spec: &BridgeSpec,
    deadline: Instant,
) -> Result<BridgeDone, BridgeError> {
    let database = |source| BridgeError::Database { name: spec.name.clone(), source };
    let mut attempt = 1;
    let done = loop {
        client.connected(deadline).await.map_err(database)?;
        let (done, transaction) = client.look(|picture| plan(spec, picture))?;
        if transaction.is_empty() {
            break done;
        }
        match client.transact(&transaction, deadline).await {
            Ok(_) => break done,
            // Somebody was faster, or the answer was lost: the next look tells.
            Err(error) if attempt < limits::ATTEMPTS && worth_another(&error, deadline) => {
                attempt += 1;
            }
            Err(source) => return Err(database(source)),
        }
    };
    let next_cfg = client.look(|picture| picture.root().map_or(0, |root| root.next_cfg));
    let applied = client.applied(next_cfg, deadline).await;
    applied.map_err(|_| BridgeError::NotApplied(spec.name.clone()))?;
    let reason = client
        .look(|picture| picture.interface(&spec.name).and_then(|(_, device)| device.error.clone()));
    match reason {
        Some(reason) => Err(BridgeError::Device { name: spec.name.clone(), reason }),
        None => Ok(done),
    }
}

fn worth_another(error: &TransactError, deadline: Instant) -> bool {
    let may_differ = error.is_unknown() || error.refusal().is_some();
    may_differ && Instant::now() < deadline
}

pub(crate) async fn delete(
    client: &Client,
    name: &str,
    guard: &Marks,
    deadline: Instant,
) -> Result<Deleted, BridgeError> {
    let database = |source| BridgeError::Database { name: name.to_owned(), source };
    let mut attempt = 1;
    loop {
        client.connected(deadline).await.map_err(database)?;
        let found: Option<(Uuid, bool)> = client.look(|picture| {
            let (uuid, bridge) = picture.bridge(name)?;
            Some((uuid, guard.are_on(&bridge.external_ids)))
        });
        let uuid = match found {
            None => return Ok(if attempt > 1 { Deleted::Deleted } else { Deleted::Absent }),
            Some((_, false)) => return Err(BridgeError::NotOurs(name.to_owned())),
            Some((uuid, true)) => uuid,
        };
        let mut transaction = Transaction::new();
        transaction.wait_for(Table::Bridge, name, [Condition::row(uuid), guard.condition()]);
        transaction.mutate_bridges(Mutator::Delete, Datum::set([uuid])).announce();
        match client.transact(&transaction, deadline).await {
            Ok(committed) => {
                let applied = client.applied(committed.next_cfg.unwrap_or(0), deadline).await;
                applied.map_err(|_| BridgeError::NotApplied(name.to_owned()))?;
                return Ok(Deleted::Deleted);
            }
            Err(error) if attempt < limits::ATTEMPTS && worth_another(&error, deadline) => {
                attempt += 1;
            }
            Err(source) => return Err(database(source)),
        }
    }
}
