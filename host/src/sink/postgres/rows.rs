//! Gathers the rows of a batch into statements that write many at once, and spells these.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::catalog::Facts;
use super::error::Problem;
use super::name::{LONGEST, TableName, is_system_column, quoted};
use crate::command::{Command, Row, json};
use crate::sink::Write;

/// The most JSON in one statement, bytes; a larger row is one by itself.
const MOST_BYTES: usize = 4 << 20;
/// How many statements back a row is looked to be added to. More differ only where every row has columns of its own.
const LOOK_BACK: usize = 32;

/// What is done to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Upsert,
    Merge,
    Delete,
}

/// What is known of the tables of a batch, where there is anything.
pub(super) type Known<'a> = HashMap<&'a str, Arc<Facts>>;

/// A row to write, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    pub(super) kind: Kind,
    pub(super) row: &'a Row,
}

impl<'a> Change<'a> {
    pub(super) fn new(write: &'a Write<'_>) -> Result<Self, Problem> {
        let (kind, row) = match write.command.as_ref() {
            Command::RowUpsert(row) => (Kind::Upsert, row),
            Command::RowMerge(row) => (Kind::Merge, row),
            Command::RowDelete(row) => (Kind::Delete, row),
            other => {
                return Err(Problem::Stop(format!(
                    "a command {} came to a sink for tables; please report this",
                    other.kind()
                )));
            }
        };
        Ok(Self { kind, row })
    }

    /// The columns that a statement for this row names.
    fn columns(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.row.key.iter().chain(&self.row.values).map(|(name, _)| name.as_str())
    }

    fn same_statement(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.row.table == other.row.table
            && self.row.key.len() == other.row.key.len()
            && self.columns().eq(other.columns())
    }

    /// The key as it is compared within a batch: `1` and `"1"` may be one row.
    fn key(&self) -> Vec<&'a str> {
        self.row.key.iter().map(|(_, value)| value.get().trim_matches('"')).collect()
    }

    pub(super) fn facts<'k>(&self, known: &'k Known<'_>) -> Option<&'k Facts> {
        if known.is_empty() { None } else { known.get(self.row.table.as_str()).map(Arc::as_ref) }
    }

    /// Whether it may act on other rows than its own.
    fn reaches(&self, facts: Option<&Facts>) -> bool {
        facts.is_some_and(|facts| match self.kind {
            Kind::Delete => facts.deletes_reach,
            Kind::Upsert | Kind::Merge => {
                facts.writes_reach || self.row.values.iter().any(|(name, _)| facts.handed_on.contains(name))
            }
        })
    }

    /// Whether its names are what PostgreSQL can have, and of a table that may be written.
    pub(super) fn check(&self, facts: Option<&Facts>) -> Result<(), Problem> {
        let bad = |problem: String| Err(Problem::Bad(format!("table {:?}: {problem}", self.row.table)));
        if let Some(what) = facts.and_then(|facts| facts.reserved) {
            return bad(format!("its schema is {what}, which no transform writes"));
        }
        if let Some(name) = self.columns().find(|name| name.len() > LONGEST) {
            return bad(format!(
                "the column name {name:?} is longer than {LONGEST} bytes, which PostgreSQL would cut off"
            ));
        }
        match self.columns().find(|name| is_system_column(name)) {
            Some(name) => bad(format!("the column {name:?} is PostgreSQL's own: rename it in the transform")),
            None => Ok(()),
        }
    }
}

/// Rows of one table that one statement writes. A row occurs once.
pub(super) struct Group<'a> {
    like: Change<'a>,
    reaches: bool,
    keys: HashSet<Vec<&'a str>>,
    json: String,
    rows: u64,
}

impl<'a> Group<'a> {
    fn new(like: Change<'a>, reaches: bool) -> Self {
        Self { like, reaches, keys: HashSet::new(), json: String::new(), rows: 0 }
    }

    fn push(&mut self, key: Vec<&'a str>, row: &str) {
        self.json.push(if self.rows == 0 { '[' } else { ',' });
        self.json.push_str(row);
        self.rows += 1;
        self.keys.insert(key);
    }

    /// How many rows the statement must find: those of a merge.
    pub(super) fn merged(&self) -> Option<u64> {
        (self.like.kind == Kind::Merge).then_some(self.rows)
    }

    pub(super) fn statement(mut self, schema: &str) -> (String, Json) {
        self.json.push(']');
        (sql(self.like, schema), Json(self.json))
    }
}

/// The statements for these rows, to be executed in this order.
///
/// A row joins an earlier statement of its kind, table and columns unless a statement after that one holds the same
/// row. So the writes of one row keep their order, as long as its key is spelt alike. And what may act on other rows
/// passes over nothing, and nothing over it.
pub(super) fn group<'a>(changes: &[Change<'a>], known: &Known<'_>) -> Result<Vec<Group<'a>>, Problem> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut row = String::new();
    for change in changes {
        row.clear();
        let facts = change.facts(known);
        change.check(facts)?;
        write_json(&mut row, *change, facts)?;
        let (key, reaches) = (change.key(), change.reaches(facts));
        let mut place = None;
        for (at, group) in groups.iter().enumerate().rev().take(LOOK_BACK) {
            if group.like.row.table == change.row.table && group.keys.contains(&key) {
                break;
            }
            if group.like.same_statement(change) && group.json.len() + row.len() < MOST_BYTES {
                place = Some(at);
                break;
            }
            if reaches || group.reaches {
                break;
            }
        }
        match place.and_then(|at| groups.get_mut(at)) {
            Some(group) => group.push(key, &row),
            None => {
                let mut group = Group::new(*change, reaches);
                group.push(key, &row);
                groups.push(group);
            }
        }
    }
    Ok(groups)
}

/// The statement for one row.
pub(super) fn single(change: Change<'_>, known: &Known<'_>, schema: &str) -> Result<(String, Json), Problem> {
    change.check(change.facts(known))?;
    let mut json = "[".to_owned();
    write_json(&mut json, change, change.facts(known))?;
    json.push(']');
    Ok((sql(change, schema), Json(json)))
}

/// The statement for one row, given no row: whether it fails is not the row's doing.
pub(super) fn harmless(change: Change<'_>, schema: &str) -> (String, Json) {
    (sql(change, schema), Json("[]".to_owned()))
}

/// For each column of a row a query that does nothing but convert its value, to find the one that cannot be.
pub(super) fn conversions<'a>(
    change: Change<'a>,
    known: &'a Known<'_>,
    schema: &'a str,
) -> impl Iterator<Item = (&'a str, String, Json)> + 'a {
    let table = TableName::new(&change.row.table, schema).quoted();
    let facts = change.facts(known);
    change.row.key.iter().chain(&change.row.values).filter_map(move |(name, value)| {
        let value = converted(name, value, facts).ok()?;
        let json = format!("[{{{}:{value}}}]", serde_json::Value::from(name.as_str()));
        Some((name.as_str(), format!("SELECT s.{} FROM {}", quoted(name), recordset(&table)), Json(json)))
    })
}

/// Writes a row behind what the text holds.
fn write_json(text: &mut String, change: Change<'_>, facts: Option<&Facts>) -> Result<(), Problem> {
    text.push('{');
    for (place, (name, value)) in change.row.key.iter().chain(&change.row.values).enumerate() {
        if place > 0 {
            text.push(',');
        }
        json::write_quoted(text, name);
        text.push(':');
        text.push_str(
            &converted(name, value, facts)
                .map_err(|problem| Problem::Bad(format!("table {:?}: column {name:?}: {problem}", change.row.table)))?,
        );
    }
    text.push('}');
    Ok(())
}

/// The value as PostgreSQL is to read it. What transforms give for bytes is base64, which `bytea` would take for the
/// bytes themselves.
fn converted<'v>(name: &str, value: &'v RawValue, facts: Option<&Facts>) -> Result<Cow<'v, str>, String> {
    let text = value.get();
    match facts {
        Some(facts) if text.starts_with('"') && facts.bytes.contains(name) => hexadecimal(text),
        // A text is an array as PostgreSQL spells it.
        Some(facts) if text.starts_with('[') && facts.byte_arrays.contains(name) => array(value).map(Cow::Owned),
        _ => Ok(Cow::Borrowed(text)),
    }
}

fn array(value: &RawValue) -> Result<String, String> {
    let elements: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
    let each = elements.into_iter().map(|element| match element.get().as_bytes().first() {
        Some(b'[') => array(element).map(Cow::Owned),
        Some(b'"') => hexadecimal(element.get()),
        _ => Ok(Cow::Borrowed(element.get())),
    });
    Ok(format!("[{}]", each.collect::<Result<Vec<_>, _>>()?.join(",")))
}

/// The bytes of a JSON text of base64 as `\x…`, which it may be already.
fn hexadecimal(text: &str) -> Result<Cow<'_, str>, String> {
    if text.starts_with("\"\\\\x") {
        return Ok(Cow::Borrowed(text));
    }
    let plain: String = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let bytes = STANDARD.decode(plain).map_err(|error| format!("neither base64 nor \\x…: {error}"))?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Cow::Owned(format!("\"\\\\x{digits}\"")))
}

/// PostgreSQL converts each member by the column's type; nothing goes through another type on the way. The type is
/// taken from the table when the statement runs, so that it survives ALTER TABLE.
fn recordset(table: &str) -> String {
    format!("pg_catalog.json_populate_recordset(NULL::{table}, $1) AS s")
}

fn sql(change: Change<'_>, schema: &str) -> String {
    let table = TableName::new(&change.row.table, schema).quoted();
    let key: Vec<String> = change.row.key.iter().map(|(name, _)| quoted(name)).collect();
    let values: Vec<String> = change.row.values.iter().map(|(name, _)| quoted(name)).collect();
    let source = recordset(&table);
    let each = |names: &[String], form: fn(&String) -> String, between: &str| {
        names.iter().map(form).collect::<Vec<_>>().join(between)
    };
    let same = each(&key, |name| format!("t.{name} = s.{name}"), " AND ");
    match change.kind {
        Kind::Upsert => {
            let all: Vec<String> = key.iter().chain(&values).cloned().collect();
            let columns = all.join(", ");
            let read = each(&all, |name| format!("s.{name}"), ", ");
            let set = each(&values, |name| format!("{name} = excluded.{name}"), ", ");
            let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {set}") };
            // A value for an identity column is the source's: it is taken as it is.
            format!(
                "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {read} FROM {source} \
                 ON CONFLICT ({}) DO {action}",
                key.join(", ")
            )
        }
        // Nothing to change, but the row must be there all the same.
        Kind::Merge if values.is_empty() => {
            format!("SELECT 1 FROM {table} AS t, {source} WHERE {same} FOR KEY SHARE OF t")
        }
        Kind::Merge => {
            let set = each(&values, |name| format!("{name} = s.{name}"), ", ");
            format!("UPDATE {table} AS t SET {set} FROM {source} WHERE {same}")
        }
        Kind::Delete => format!("DELETE FROM {table} AS t USING {source} WHERE {same}"),
    }
}

/// JSON text as a parameter of type `json`.
#[derive(Debug)]
pub(super) struct Json(String);

impl ToSql for Json {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::JSON
    }

    to_sql_checked!();
}
