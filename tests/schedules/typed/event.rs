//! What an event asks of each store, and which of that a store refuses.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Columns or fields, as texts. `NULL` stands for null.
pub(super) type Fields = BTreeMap<String, String>;

/// A null that is sent.
pub(super) const NULL: &str = "NULL";

/// The stores of a pipeline, in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Port {
    Tables,
    Documents,
    Cache,
    Messages,
}

impl Port {
    /// What the configuration calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tables => "tables",
            Self::Documents => "documents",
            Self::Cache => "cache",
            Self::Messages => "messages",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    /// All of it: a document, an entry, a message.
    Set(Fields),
    /// These columns, of a row that may be new.
    Upsert(Fields),
    /// These fields of what is there.
    Merge(Fields),
    /// That it goes.
    Delete,
}

impl Op {
    pub(super) fn fields(&self) -> Option<&Fields> {
        match self {
            Self::Set(fields) | Self::Upsert(fields) | Self::Merge(fields) => Some(fields),
            Self::Delete => None,
        }
    }

    /// Whether a store of this port cannot hold what it is given.
    pub(super) fn is_bad(&self, port: Port, checked: bool) -> bool {
        let Some(fields) = self.fields() else { return false };
        let is = |name: &str, value: &str| fields.get(name).is_some_and(|is| is == value);
        let amount = fields.get("amount").map_or(0, |amount| amount.parse::<i64>().unwrap());
        let fits = i32::try_from(amount).is_ok() && !is("day", NO_DAY) && !is("day", NOT_A_DAY);
        match port {
            Port::Tables => {
                let long = fields.get("status").is_some_and(|status| status == NULL || status.len() > 12);
                !fits || long || checked && amount < 0 || is("code", TAKEN) || is("parent", NOBODY)
            }
            Port::Documents => !fits || fields.contains_key("ghost"),
            Port::Cache | Port::Messages => false,
        }
    }
}

/// A day that is not in the calendar.
const NO_DAY: &str = "2024-02-30";
/// What is no day at all: Elasticsearch takes the other one.
const NOT_A_DAY: &str = "some day";
/// A code that a row has which no event is about.
pub(super) const TAKEN: &str = "taken";
/// A parent who is not there.
const NOBODY: &str = "99";

/// In what ways a row is refused: the first two clash with what somebody else might still change, so that they take time.
const BAD_ROWS: [(&str, &str); 7] = [
    ("code", TAKEN),
    ("parent", NOBODY),
    ("status", NULL),
    ("status", "round-000000-and-more"),
    ("amount", "-1"),
    ("amount", "99999999999"),
    ("day", NO_DAY),
];
/// In what ways a document is refused.
const BAD_DOCUMENTS: [(&str, &str); 3] = [("amount", "99999999999"), ("day", NOT_A_DAY), ("ghost", "boo")];

/// Makes a store of this port refuse it, in one of the ways that there are.
pub(super) fn spoil(op: &mut Op, port: Port, choice: usize) {
    let (Op::Set(fields) | Op::Upsert(fields) | Op::Merge(fields)) = op else { return };
    let ways: &[_] = if port == Port::Tables { &BAD_ROWS } else { &BAD_DOCUMENTS };
    let (name, value) = ways[choice % ways.len()];
    fields.insert(name.to_owned(), value.to_owned());
}

/// One command of an event.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) port: Port,
    pub(super) target: String,
    pub(super) op: Op,
}

/// An event, by its place in its partition.
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// Its number among all of the stream.
    pub(super) number: u32,
    /// Of its record.
    pub(super) key: String,
    pub(super) asked: Vec<Asked>,
    /// A module that is picky refuses it.
    pub(super) disliked: bool,
    /// It went from the topic before a store had it.
    pub(super) lost: bool,
    /// Whether the table checked what it was given when it came.
    pub(super) checked: bool,
    /// The table has stopped checking it since, and what it had refused was replayed.
    pub(super) mended: bool,
}

impl Event {
    /// Whether a table refused it by what it does not check any more, and by that alone.
    pub(super) fn is_mended(&self) -> bool {
        let rows = self.asked.iter().filter(|asked| asked.port == Port::Tables);
        let is_bad = |checked| rows.clone().any(|asked| asked.op.is_bad(Port::Tables, checked));
        self.mended && self.checked && is_bad(true) && !is_bad(false)
    }

    /// The record's key and value, for a pipeline whose targets have these names.
    pub(super) fn record(&self, names: &Names) -> (String, String) {
        let commands: Vec<Value> = self.asked.iter().map(|asked| asked.command(names)).collect();
        let after = json!({
            "id": self.key, "disliked": self.disliked, "commands": Value::from(commands).to_string(),
        });
        let value = json!({ "op": "u", "before": null, "after": after, "source": { "table": "typed" }, "ts_ms": 1 });
        (json!({ "id": self.key }).to_string(), value.to_string())
    }
}

/// What the targets of a pipeline are called.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) table: String,
    pub(super) index: String,
    /// The beginning of the keys.
    pub(super) cache: String,
    pub(super) topic: String,
}

impl Asked {
    /// As the module takes it.
    fn command(&self, names: &Names) -> Value {
        let target = &self.target;
        let fields = self.op.fields().map_or(Value::Null, |fields| {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), typed(value))).collect())
        });
        let row = || {
            let mut row = fields.as_object().cloned().unwrap_or_default();
            row.insert("id".to_owned(), target.clone().into());
            Value::Object(row)
        };
        let key = format!("{}{target}", names.cache);
        match (self.port, &self.op) {
            (Port::Tables, Op::Merge(_)) => json!(["row-merge", names.table, row()]),
            (Port::Tables, Op::Delete) => json!(["row-delete", names.table, row()]),
            (Port::Tables, _) => json!(["row-upsert", names.table, row()]),
            (Port::Documents, Op::Merge(_)) => json!(["document-merge", names.index, target, fields]),
            (Port::Documents, Op::Delete) => json!(["document-delete", names.index, target]),
            (Port::Documents, _) => json!(["document-index", names.index, target, fields]),
            (Port::Cache, Op::Merge(_)) => json!(["cache-merge", key, fields]),
            (Port::Cache, Op::Delete) => json!(["cache-delete", key]),
            (Port::Cache, _) => json!(["cache-set", key, fields]),
            (Port::Messages, _) => json!(["publish", names.topic, target, fields]),
        }
    }
}

/// A value as JSON.
fn typed(text: &str) -> Value {
    match text.parse::<i64>() {
        _ if text == NULL => Value::Null,
        Ok(number) => number.into(),
        Err(_) => text.into(),
    }
}
