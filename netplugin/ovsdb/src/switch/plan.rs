//! What a change of a port takes, given the picture: pure decisions, and the transaction that
//! carries out several of them at once. No I/O.

use std::collections::BTreeMap;

use super::PortError;
use super::spec::{Marks, PortKind, PortSpec, Target, Until};
use crate::picture::Picture;
use crate::rows::Interface;
use crate::transaction::{Columns, Condition, Mutator, Table, Transaction};
use crate::value::{Datum, Uuid};

/// A change asked for.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    Add(PortSpec),
    Delete { name: String, guard: Marks, until: Until },
    Set { target: Target, name: String, guard: Marks, columns: Columns },
}

impl Work {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Add(spec) => spec.name.as_str(),
            Self::Delete { name, .. } | Self::Set { name, .. } => name,
        }
    }

    /// Whether the caller is content when the database has it.
    pub(crate) fn ends_at_commit(&self) -> bool {
        matches!(self, Self::Delete { until: Until::Committed, .. })
    }
}

/// The rows a change touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    Add { bridge: Uuid },
    Delete { bridge: Uuid, port: Uuid },
    Set { row: Uuid },
}

/// What is left to do.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing: it is as asked.
    Nothing,
    /// Only to wait until ovs-vswitchd has taken it over.
    Wait,
    /// A write.
    Write(Piece),
}

/// Decides.
pub(crate) fn plan(work: &Work, picture: &Picture) -> Result<Plan, PortError> {
    match work {
        Work::Add(spec) => plan_add(spec, picture),
        Work::Delete { name, guard, .. } => plan_delete(name, guard, picture),
        Work::Set { target, name, guard, .. } => {
            let found = match target {
                Target::Port => picture.port(name).map(|(row, port)| (row, &port.external_ids)),
                Target::Interface => {
                    picture.interface(name).map(|(row, device)| (row, &device.external_ids))
                }
            };
            let (row, marks) = found.ok_or_else(|| PortError::NoPort(name.clone()))?;
            owned(name, guard.are_on(marks))?;
            Ok(Plan::Write(Piece::Set { row }))
        }
    }
}

fn conflict(name: &str, what: &'static str) -> PortError {
    PortError::Conflict { name: name.to_owned(), what }
}

fn owned(name: &str, ours: bool) -> Result<(), PortError> {
    if ours { Ok(()) } else { Err(conflict(name, "it bears other marks")) }
}

fn plan_add(spec: &PortSpec, picture: &Picture) -> Result<Plan, PortError> {
    let name = spec.name.as_str();
    let (bridge, row) =
        picture.bridge(&spec.bridge).ok_or_else(|| PortError::NoBridge(spec.bridge.clone()))?;
    let Some((uuid, port)) = picture.port(name) else {
        if picture.interface(name).is_some() {
            return Err(conflict(name, "its device belongs to another port"));
        }
        return Ok(Plan::Write(Piece::Add { bridge }));
    };
    owned(name, spec.marks.are_on(&port.external_ids))?;
    if !row.ports.contains(&uuid) {
        return Err(conflict(name, "it is on another bridge"));
    }
    if !spec.vlan.is_on(port) {
        return Err(conflict(name, "its VLANs"));
    }
    match picture.interface(name) {
        Some((_, device)) if !spec.kind.matches(&device.kind) => Err(conflict(name, "its kind")),
        Some((_, device)) if device.forwarding().is_some() => Ok(Plan::Nothing),
        _ => Ok(Plan::Wait),
    }
}

fn plan_delete(name: &str, guard: &Marks, picture: &Picture) -> Result<Plan, PortError> {
    let Some((port, row)) = picture.port(name) else { return Ok(Plan::Nothing) };
    owned(name, guard.are_on(&row.external_ids))?;
    let holder = picture.bridge_of(port).and_then(|bridge| picture.bridge(&bridge.name));
    let (bridge, _) = holder.ok_or_else(|| conflict(name, "it is on no bridge"))?;
    Ok(Plan::Write(Piece::Delete { bridge, port }))
}

/// What the picture says of a port that ovs-vswitchd was to take over.
pub(crate) fn forwards(name: &str, picture: &Picture) -> Result<u16, PortError> {
    let device = picture.interface(name).map(|(_, device)| device);
    if let Some(ofport) = device.and_then(Interface::forwarding) {
        return Ok(ofport);
    }
    let reason = match device {
        Some(Interface { error: Some(reason), .. }) => reason.clone(),
        Some(Interface { ofport: Some(-1), .. }) => "no reason given".to_owned(),
        _ => return Err(PortError::NotApplied(name.to_owned())),
    };
    Err(PortError::Device { name: name.to_owned(), reason })
}

/// The transaction that does all of it.
///
/// That a name is free is guarded by the unique index of the tables and not by a `wait`: the index
/// is a hash, a `wait` by name walks all rows, once for each port added.
pub(crate) fn transaction<'a>(pieces: impl Iterator<Item = (&'a Work, Piece)>) -> Transaction {
    let mut transaction = Transaction::new();
    let mut bridges: BTreeMap<Uuid, (Vec<Datum>, Vec<Datum>)> = BTreeMap::new();
    for (number, (work, piece)) in pieces.enumerate() {
        match (work, piece) {
            (Work::Add(spec), Piece::Add { bridge }) => {
                let (added, _) = bridges.entry(bridge).or_insert_with(|| {
                    let known = [Condition::row(bridge)];
                    transaction.wait_for(Table::Bridge, &spec.bridge, known);
                    Default::default()
                });
                added.push(insert_port(&mut transaction, number, spec));
            }
            (Work::Delete { name, guard, .. }, Piece::Delete { bridge, port }) => {
                let guard = [Condition::row(port), guard.condition()];
                transaction.wait_for(Table::Port, name, guard);
                bridges.entry(bridge).or_default().1.push(port.into());
            }
            (Work::Set { target, name, guard, columns }, Piece::Set { row }) => {
                let guard = [Condition::row(row), guard.condition()];
                transaction.wait_for(target.table(), name, guard);
                transaction.update(target.table(), Condition::row(row), columns.clone());
            }
            // `plan` makes the piece of its own work only.
            _ => {}
        }
    }
    for (bridge, (added, deleted)) in bridges {
        for (ports, how) in [(added, Mutator::Insert), (deleted, Mutator::Delete)] {
            if !ports.is_empty() {
                let row = Condition::row(bridge);
                transaction.mutate(Table::Bridge, row, "ports", how, Datum::set(ports));
            }
        }
    }
    transaction.announce();
    transaction
}

/// Inserts a port and its interface and gives the reference to the port.
fn insert_port(transaction: &mut Transaction, number: usize, spec: &PortSpec) -> Datum {
    let (port, device) = (format!("port{number}"), format!("interface{number}"));
    let mut columns: Columns = vec![
        ("name", spec.name.as_str().into()),
        ("type", spec.kind.name().into()),
        ("external_ids", spec.marks.datum()),
    ];
    if let Some(mtu) = spec.mtu {
        columns.push(("mtu_request", i64::from(mtu).into()));
    }
    if let (PortKind::Internal, Some(mac)) = (spec.kind, spec.mac) {
        columns.push(("mac", mac.to_string().into()));
    }
    transaction.insert(Table::Interface, &device, columns);
    let mut columns = spec.vlan.columns();
    columns.push(("name", spec.name.as_str().into()));
    columns.push(("interfaces", Datum::new_row(&device)));
    columns.push(("external_ids", spec.marks.datum()));
    transaction.insert(Table::Port, &port, columns);
    Datum::new_row(&port)
}
