//! A transaction (RFC 7047 section 5.2): what is sent, and what came of it.
//!
//! The database carries out all operations of a transaction or none. A `mutate` or `update` that
//! matches no row **succeeds**, and rows that it leaves without a reference vanish silently: guard
//! with [`Transaction::wait_for`], and state how many rows an operation must touch.

use serde_json::{Map, Value, json};

pub use crate::refusal::{Lost, Refusal, RefusalKind, TransactError};
use crate::value::{Datum, Uuid};

/// The tables that are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// The switch as a whole.
    OpenVswitch,
    /// Bridges.
    Bridge,
    /// Ports of bridges.
    Port,
    /// Devices of ports.
    Interface,
    /// Shaping of ports.
    Qos,
    /// Classes of shaping.
    Queue,
}

impl Table {
    /// The table's name in the schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenVswitch => "Open_vSwitch",
            Self::Bridge => "Bridge",
            Self::Port => "Port",
            Self::Interface => "Interface",
            Self::Qos => "QoS",
            Self::Queue => "Queue",
        }
    }
}

/// What a row must be like for an operation to touch it.
#[derive(Debug, Clone)]
pub struct Condition(Value);

impl Condition {
    /// The row with this identity.
    pub fn row(uuid: Uuid) -> Self {
        Self::is("_uuid", uuid)
    }

    /// The column is exactly this.
    pub fn is(column: &str, value: impl Into<Datum>) -> Self {
        Self(json!([column, "==", value.into().into_json()]))
    }

    /// The column, a set or a map, has all of these.
    pub fn includes(column: &str, value: impl Into<Datum>) -> Self {
        Self(json!([column, "includes", value.into().into_json()]))
    }
}

/// How `mutate` changes a column.
#[derive(Debug, Clone, Copy)]
pub enum Mutator {
    /// Adds a number.
    Add,
    /// Adds elements to a set, or pairs with new keys to a map.
    Insert,
    /// Takes elements out of a set, or pairs or keys out of a map.
    Delete,
}

impl Mutator {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "+=",
            Self::Insert => "insert",
            Self::Delete => "delete",
        }
    }
}

/// The columns of a row to write.
pub type Columns = Vec<(&'static str, Datum)>;

fn row(columns: Columns) -> Value {
    let columns = columns.into_iter().map(|(name, value)| (name.to_owned(), value.into_json()));
    Value::Object(columns.collect::<Map<_, _>>())
}

fn conditions(conditions: impl IntoIterator<Item = Condition>) -> Vec<Value> {
    conditions.into_iter().map(|condition| condition.0).collect()
}

/// Operations that are carried out together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    operations: Vec<Value>,
    /// For each operation, how many rows it must touch, where that is known.
    counts: Vec<Option<u64>>,
    /// The operation that reads `next_cfg` back.
    announcement: Option<usize>,
}

impl Transaction {
    /// A transaction without operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many operations it has.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether it has no operation.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Adds a row. `name` is what [`Datum::new_row`] calls it in this transaction: letters, digits
    /// and `_`.
    pub fn insert(&mut self, table: Table, name: &str, columns: Columns) -> &mut Self {
        let insert =
            json!({"op": "insert", "table": table.name(), "uuid-name": name, "row": row(columns)});
        self.push(insert, None)
    }

    /// Changes a set, map or number in the one row that meets the condition.
    pub fn mutate(
        &mut self,
        table: Table,
        condition: Condition,
        column: &str,
        mutator: Mutator,
        value: impl Into<Datum>,
    ) -> &mut Self {
        let mutation = json!([column, mutator.name(), value.into().into_json()]);
        let mutate = json!({"op": "mutate", "table": table.name(), "where": [condition.0],
            "mutations": [mutation]});
        self.push(mutate, Some(1))
    }

    /// Overwrites columns of the one row that meets the condition.
    pub fn update(&mut self, table: Table, condition: Condition, columns: Columns) -> &mut Self {
        let update = json!({"op": "update", "table": table.name(), "where": [condition.0],
            "row": row(columns)});
        self.push(update, Some(1))
    }

    /// Deletes rows of a root table (`QoS`, `Queue`); others vanish with their last reference.
    pub fn delete(&mut self, table: Table, condition: Condition) -> &mut Self {
        self.push(json!({"op": "delete", "table": table.name(), "where": [condition.0]}), None)
    }

    /// Aborts the transaction unless the row with this name meets the other conditions too.
    pub fn wait_for(
        &mut self,
        table: Table,
        name: &str,
        others: impl IntoIterator<Item = Condition>,
    ) -> &mut Self {
        // Clauses are tried in order and only `_uuid` is indexed, so a caller who knows the row
        // gives its UUID among `others`, which then goes first.
        let mut clauses = conditions(others);
        clauses.push(Condition::is("name", name).0);
        let wait = json!({"op": "wait", "table": table.name(), "where": clauses, "timeout": 0,
            "columns": ["name"], "until": "==", "rows": [{"name": name}]});
        self.push(wait, None)
    }

    /// Makes the single row of the switch unless it is there.
    pub(crate) fn initialise(&mut self) -> &mut Self {
        let wait = json!({"op": "wait", "table": "Open_vSwitch", "where": [], "timeout": 0,
            "columns": ["next_cfg"], "until": "==", "rows": []});
        self.push(wait, None);
        self.insert(Table::OpenVswitch, "root", Vec::new())
    }

    /// Changes the single row of the switch: its set of bridges.
    pub(crate) fn mutate_bridges(&mut self, mutator: Mutator, bridge: Datum) -> &mut Self {
        let mutate = json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
            "mutations": [["bridges", mutator.name(), bridge.into_json()]]});
        self.push(mutate, Some(1))
    }

    /// Asks ovs-vswitchd to say when it has put the transaction into effect: raises `next_cfg` and
    /// reads it back into [`Committed::next_cfg`].
    pub fn announce(&mut self) -> &mut Self {
        let raise = json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
            "mutations": [["next_cfg", "+=", 1]]});
        self.push(raise, Some(1));
        self.announcement = Some(self.operations.len());
        let read = json!({"op": "select", "table": "Open_vSwitch", "where": [],
            "columns": ["next_cfg"]});
        self.push(read, None)
    }

    /// Leaves a line in the database's log.
    pub fn comment(&mut self, text: &str) -> &mut Self {
        self.push(json!({"op": "comment", "comment": text}), None)
    }

    fn push(&mut self, operation: Value, count: Option<u64>) -> &mut Self {
        self.operations.push(operation);
        self.counts.push(count);
        self
    }

    /// The parameters of the JSON-RPC call.
    pub(crate) fn params(&self, database: &str) -> Value {
        let mut params = vec![Value::from(database)];
        params.extend(self.operations.iter().cloned());
        Value::Array(params)
    }

    /// What the server's answer says about it.
    pub(crate) fn outcome(&self, answer: &Value) -> Result<Committed, TransactError> {
        let results = answer.as_array().ok_or(TransactError::Answer("not a list of results"))?;
        let failed = |result: &Value| result.get("error").is_some_and(|error| !error.is_null());
        if let Some(index) = results.iter().position(failed) {
            let refusal = Refusal::read(&results[index]);
            return Err(match index < self.operations.len() {
                true => TransactError::Operation { index, refusal },
                false => TransactError::Commit { refusal },
            });
        }
        if results.len() != self.operations.len() {
            return Err(TransactError::Answer("not one result for each operation"));
        }
        for (index, (result, expected)) in results.iter().zip(&self.counts).enumerate() {
            let touched = result.get("count").and_then(Value::as_u64);
            if let Some(expected) = *expected
                && touched != Some(expected)
            {
                return Err(TransactError::Count { index, expected, touched });
            }
        }
        let next_cfg = match self.announcement {
            None => None,
            Some(index) => {
                let number = results[index].pointer("/rows/0/next_cfg").and_then(Value::as_i64);
                Some(number.ok_or(TransactError::Answer("no next_cfg"))?)
            }
        };
        let inserted = results.iter().map(|result| {
            let text = result.pointer("/uuid/1")?.as_str()?;
            text.parse().ok()
        });
        Ok(Committed { next_cfg, inserted: inserted.collect() })
    }
}

/// A transaction that is in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// What `cur_cfg` will reach when ovs-vswitchd has put it into effect, if announced.
    pub next_cfg: Option<i64>,
    /// For each operation, the row it inserted.
    pub inserted: Vec<Option<Uuid>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced() -> Transaction {
        let mut transaction = Transaction::new();
        transaction.mutate_bridges(Mutator::Insert, Datum::new_row("b")).announce();
        transaction
    }

    #[test]
    fn success_gives_the_number_to_wait_for() {
        let answer = json!([{"count": 1}, {"count": 1}, {"rows": [{"next_cfg": 8}]}]);
        assert_eq!(announced().outcome(&answer).unwrap().next_cfg, Some(8));
    }

    #[test]
    fn a_count_that_differs_is_no_success() {
        let answer = json!([{"count": 0}, {"count": 1}, {"rows": [{"next_cfg": 8}]}]);
        let error = announced().outcome(&answer).unwrap_err();
        assert!(matches!(error, TransactError::Count { index: 0, expected: 1, touched: Some(0) }));
    }

    #[test]
    fn refusals_carry_their_place_and_kind() {
        let refused = json!({"error": "timed out", "details": "\"wait\" timed out"});
        let answer = json!([{"count": 1}, refused, null]);
        let error = announced().outcome(&answer).unwrap_err();
        assert!(matches!(error, TransactError::Operation { index: 1, .. }));
        assert_eq!(error.refusal().unwrap().kind, RefusalKind::Guard);
        let taken = json!({"error": "constraint violation", "details": "the name is taken"});
        let answer = json!([{}, {}, {}, taken]);
        let error = announced().outcome(&answer).unwrap_err();
        assert!(matches!(error, TransactError::Commit { .. }));
        assert_eq!(error.refusal().unwrap().to_string(), "the name is taken");
    }

    #[test]
    fn an_answer_of_another_shape_leaves_the_outcome_unknown() {
        for answer in [json!(null), json!([]), json!([{"count": 1}, {"count": 1}, {}])] {
            assert!(announced().outcome(&answer).unwrap_err().is_unknown(), "{answer}");
        }
    }
}
