//! What the database held when it last spoke: the rows we use, with look-up by name.
//!
//! Fed by a monitor only; nothing here is written before the database has said it. While the
//! connection is down the picture is the last one known.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::rows::{Bridge, Interface, OpenVswitch, Port, Row, RowError};
use crate::value::{Uuid, ValueError};

/// An update that could not be read; the picture is no longer to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Its outline is not that of an update.
    #[error("not an update: {0}")]
    Shape(&'static str),
    /// It names a row by something that is not a UUID.
    #[error("a row without identity")]
    Identity(#[source] ValueError),
    /// A column has a value of the wrong type.
    #[error("a row with an unexpected value")]
    Row(#[source] RowError),
    /// It changes a row that was never announced.
    #[error("a change of the unknown row {0}")]
    UnknownRow(Uuid),
}

/// Which of the two forms an update has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// RFC 7047 section 4.1.6: old and new values.
    Values,
    /// ovsdb-server(7) `update2` and `update3`: differences.
    Differences,
}

/// The rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table<R> {
    rows: HashMap<Uuid, R>,
    names: HashMap<String, Uuid>,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self { rows: HashMap::new(), names: HashMap::new() }
    }
}

impl<R: Row> Table<R> {
    fn named(&self, name: &str) -> Option<(Uuid, &R)> {
        let uuid = self.names.get(name)?;
        Some((*uuid, self.rows.get(uuid)?))
    }

    fn put(&mut self, uuid: Uuid, row: R) {
        self.drop_row(uuid);
        self.names.insert(row.key().to_owned(), uuid);
        self.rows.insert(uuid, row);
    }

    fn drop_row(&mut self, uuid: Uuid) {
        if let Some(row) = self.rows.remove(&uuid) {
            // Within one update another row may have taken the name already.
            if self.names.get(row.key()) == Some(&uuid) {
                self.names.remove(row.key());
            }
        }
    }

    fn update(&mut self, rows: &Value, form: Form) -> Result<(), UpdateError> {
        let rows = rows.as_object().ok_or(UpdateError::Shape("rows are not an object"))?;
        for (uuid, change) in rows {
            let uuid: Uuid = uuid.parse().map_err(UpdateError::Identity)?;
            let change = change.as_object().ok_or(UpdateError::Shape("not a row's change"))?;
            match form {
                Form::Values => self.take_values(uuid, change)?,
                Form::Differences => self.take_differences(uuid, change)?,
            }
        }
        Ok(())
    }

    fn take_values(&mut self, uuid: Uuid, change: &Map<String, Value>) -> Result<(), UpdateError> {
        match change.get("new") {
            None | Some(Value::Null) => self.drop_row(uuid),
            Some(new) => self.put(uuid, fresh(new)?),
        }
        Ok(())
    }

    fn take_differences(
        &mut self,
        uuid: Uuid,
        change: &Map<String, Value>,
    ) -> Result<(), UpdateError> {
        let Some((how, columns)) = change.iter().next() else {
            return Err(UpdateError::Shape("an empty change"));
        };
        match how.as_str() {
            "initial" | "insert" => self.put(uuid, fresh(columns)?),
            "delete" => self.drop_row(uuid),
            "modify" => {
                let mut row = self.rows.remove(&uuid).ok_or(UpdateError::UnknownRow(uuid))?;
                if self.names.get(row.key()) == Some(&uuid) {
                    self.names.remove(row.key());
                }
                row.alter(object(columns)?).map_err(UpdateError::Row)?;
                self.put(uuid, row);
            }
            _ => return Err(UpdateError::Shape("an unknown kind of change")),
        }
        Ok(())
    }
}

fn object(columns: &Value) -> Result<&Map<String, Value>, UpdateError> {
    columns.as_object().ok_or(UpdateError::Shape("columns are not an object"))
}

/// A row as announced: columns that are left out have their type's default.
fn fresh<R: Row>(columns: &Value) -> Result<R, UpdateError> {
    let mut row = R::default();
    row.assign(object(columns)?).map_err(UpdateError::Row)?;
    Ok(row)
}

/// The database's rows in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    connected: bool,
    root: Table<OpenVswitch>,
    bridges: Table<Bridge>,
    ports: Table<Port>,
    interfaces: Table<Interface>,
}

impl Picture {
    /// Whether the database is connected, that is, whether the picture is kept up to date.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The switch as a whole; `None` before the first connection, and in a database that nobody
    /// has initialised.
    pub fn root(&self) -> Option<&OpenVswitch> {
        self.root.rows.values().next()
    }

    /// The bridge of this name.
    pub fn bridge(&self, name: &str) -> Option<(Uuid, &Bridge)> {
        self.bridges.named(name)
    }

    /// The port of this name, on whichever bridge.
    pub fn port(&self, name: &str) -> Option<(Uuid, &Port)> {
        self.ports.named(name)
    }

    /// The interface of this name, of whichever port.
    pub fn interface(&self, name: &str) -> Option<(Uuid, &Interface)> {
        self.interfaces.named(name)
    }

    /// All bridges, in no order.
    pub fn bridges(&self) -> impl Iterator<Item = (Uuid, &Bridge)> {
        self.bridges.rows.iter().map(|(uuid, row)| (*uuid, row))
    }

    /// All ports, in no order.
    pub fn ports(&self) -> impl Iterator<Item = (Uuid, &Port)> {
        self.ports.rows.iter().map(|(uuid, row)| (*uuid, row))
    }

    /// The interfaces of a port.
    pub fn interfaces_of<'a>(&'a self, port: &'a Port) -> impl Iterator<Item = &'a Interface> {
        port.interfaces.iter().filter_map(|uuid| self.interfaces.rows.get(uuid))
    }

    /// The bridge that has this port.
    pub fn bridge_of(&self, port: Uuid) -> Option<&Bridge> {
        self.bridges.rows.values().find(|bridge| bridge.ports.contains(&port))
    }

    /// What a monitor asks for: tables and columns.
    pub(crate) fn columns() -> [(&'static str, &'static [&'static str]); 4] {
        [
            (OpenVswitch::TABLE, OpenVswitch::COLUMNS),
            (Bridge::TABLE, Bridge::COLUMNS),
            (Port::TABLE, Port::COLUMNS),
            (Interface::TABLE, Interface::COLUMNS),
        ]
    }

    pub(crate) fn set_connected(&mut self, connected: bool) {
        self.connected = connected;
    }

    /// Takes one update; after an error the picture is half old, half new.
    pub(crate) fn update(&mut self, tables: &Value, form: Form) -> Result<(), UpdateError> {
        let tables = tables.as_object().ok_or(UpdateError::Shape("tables are not an object"))?;
        for (table, rows) in tables {
            match table.as_str() {
                OpenVswitch::TABLE => self.root.update(rows, form)?,
                Bridge::TABLE => self.bridges.update(rows, form)?,
                Port::TABLE => self.ports.update(rows, form)?,
                Interface::TABLE => self.interfaces.update(rows, form)?,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const A: &str = "00000000-0000-0000-0000-00000000000a";
    const B: &str = "00000000-0000-0000-0000-00000000000b";

    #[test]
    fn both_forms_lead_to_the_same_picture() {
        let mut values = Picture::default();
        let port = json!({"name": "p1", "tag": 7, "trunks": ["set", [1, 2]]});
        values.update(&json!({"Port": {A: {"new": port}}}), Form::Values).unwrap();
        let port = json!({"name": "p1", "tag": ["set", []], "trunks": ["set", [2, 3]]});
        values
            .update(&json!({"Port": {A: {"old": {"tag": 7}, "new": port}}}), Form::Values)
            .unwrap();

        let mut differences = Picture::default();
        let port = json!({"name": "p1", "tag": 7, "trunks": ["set", [1, 2]]});
        differences.update(&json!({"Port": {A: {"initial": port}}}), Form::Differences).unwrap();
        let change = json!({"tag": ["set", []], "trunks": ["set", [1, 3]]});
        differences.update(&json!({"Port": {A: {"modify": change}}}), Form::Differences).unwrap();
        assert_eq!(values, differences);
        assert_eq!(values.port("p1").unwrap().1.trunks, [2, 3].into());
        let deleted = json!({"Port": {A: {"delete": null}}});
        differences.update(&deleted, Form::Differences).unwrap();
        values.update(&json!({"Port": {A: {"old": {}}}}), Form::Values).unwrap();
        assert_eq!(values, Picture::default());
        assert_eq!(differences, Picture::default());
    }

    #[test]
    fn a_name_can_pass_from_one_row_to_another_in_one_update() {
        for (old, new) in [(A, B), (B, A)] {
            let mut picture = Picture::default();
            let port = json!({"initial": {"name": "p"}});
            picture.update(&json!({"Port": {old: port}}), Form::Differences).unwrap();
            let update = json!({"Port": {old: {"delete": null}, new: {"insert": {"name": "p"}}}});
            picture.update(&update, Form::Differences).unwrap();
            assert_eq!(picture.port("p").unwrap().0, new.parse().unwrap());
            assert_eq!(picture.ports().count(), 1);
        }
    }

    #[test]
    fn what_is_not_an_update_is_an_error() {
        for bad in [
            json!(3),
            json!({"Port": 3}),
            json!({"Port": {"x": {}}}),
            json!({"Port": {A: 3}}),
            json!({"Port": {A: {}}}),
            json!({"Port": {A: {"odd": {}}}}),
            json!({"Port": {A: {"modify": {"name": "p"}}}}),
            json!({"Port": {A: {"insert": {"name": 3}}}}),
        ] {
            assert!(Picture::default().update(&bad, Form::Differences).is_err(), "{bad}");
        }
    }
}
