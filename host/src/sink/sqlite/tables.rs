//! The users' tables: who owns them, which columns they have, and the writing of rows.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Statement, params};
use serde_json::value::RawValue;

use super::error::Problem;
use super::value::bind;
use crate::command::{Fields, Row};
use crate::contract::Table;
use crate::limits::{SQLITE_COLUMNS, STATEMENTS};

/// Longer statements are prepared anew each time: a compiled one takes many times its text.
const KEPT_TEXT: usize = 64 << 10;

/// Names under which SQLite knows the number of every row. A column that is added cannot have them.
const ROW_NUMBER: [&str; 3] = ["rowid", "oid", "_rowid_"];

/// What is remembered of the tables. It holds as long as no transaction is rolled back.
pub(super) struct Tables {
    prefix: String,
    columns: HashMap<String, Vec<String>>,
    /// Statements whose columns are all there.
    ready: HashSet<String>,
    /// How long their texts are together.
    ready_bytes: usize,
}

impl Tables {
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix, columns: HashMap::new(), ready: HashSet::new(), ready_bytes: 0 }
    }

    /// Forgets everything, after a rollback.
    pub(super) fn forget(&mut self) {
        self.columns.clear();
        self.ready.clear();
        self.ready_bytes = 0;
    }

    /// Makes a table on its first declaration, and holds later ones against it.
    pub(super) fn declare(&self, connection: &Connection, sink: &str, table: &Table) -> Result<(), Problem> {
        let name = format!("{}{}", self.prefix, table.name);
        let stop = |problem: String| Err(Problem::Stop(format!("table {name:?} {problem}")));
        if is_taken(&name) {
            return stop("has a name that is taken by SQLite or tidegate: set a table_prefix for the sink".into());
        }
        let key: Vec<&str> = table.key.iter().map(String::as_str).collect();
        let key_text = serde_json::Value::from(key.clone()).to_string();
        let owner: Option<(String, String, String)> = connection
            .query_row(
                "SELECT table_name, sink, key_columns FROM tidegate_tables WHERE table_name = ?1",
                [&name],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()?;
        match owner {
            Some((other, ..)) if other != name => {
                return stop(format!(
                    "and table {other:?} differ by case alone, which SQLite does not tell apart: rename one"
                ));
            }
            Some((_, other, _)) if other != sink => {
                return stop(format!(
                    "belongs to the sink {other}: give this sink a table_prefix or a file of its own"
                ));
            }
            Some((_, _, known)) if known != key_text => {
                return stop(format!(
                    "is written by the key {known}, and the transform declares {key_text}: \
                     set another table_prefix, or begin with a new file"
                ));
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let taken =
            connection.prepare("SELECT 1 FROM sqlite_master WHERE name = ?1 COLLATE NOCASE")?.exists([&name])?;
        if taken {
            return stop("is there and was not made by tidegate: set a table_prefix for the sink".into());
        }
        for (place, column) in key.iter().enumerate() {
            if key.iter().skip(place + 1).any(|other| other.eq_ignore_ascii_case(column)) {
                return stop(format!("has two key columns {column:?} that differ by case alone"));
            }
        }
        let columns = list(key.iter().copied(), |column| format!("{} NOT NULL", quoted(column)), ", ");
        let primary = list(key.iter().copied(), quoted, ", ");
        connection.execute_batch(&format!("CREATE TABLE {} ({columns}, PRIMARY KEY ({primary}))", quoted(&name)))?;
        connection.execute("INSERT INTO tidegate_tables VALUES (?1, ?2, ?3)", params![name, sink, key_text])?;
        Ok(())
    }

    pub(super) fn upsert(&mut self, connection: &Connection, row: &Row) -> Result<(), Problem> {
        let table = self.name(row)?;
        let key = list(names(&row.key), quoted, ", ");
        let columns = list(names(&row.key).chain(names(&row.values)), quoted, ", ");
        let marks = vec!["?"; row.key.len() + row.values.len()].join(", ");
        let set = list(names(&row.values), |name| format!("{0} = excluded.{0}", quoted(name)), ", ");
        let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {set}") };
        let sql =
            format!("INSERT INTO {} ({columns}) VALUES ({marks}) ON CONFLICT ({key}) DO {action}", quoted(&table));
        self.ready(connection, &table, row, &sql, None)?;
        execute(connection, &sql, row.key.iter().chain(&row.values))?;
        Ok(())
    }

    pub(super) fn merge(&mut self, connection: &Connection, row: &Row) -> Result<(), Problem> {
        let table = self.name(row)?;
        let key = list(names(&row.key), |name| format!("{} = ?", quoted(name)), " AND ");
        let mut set = list(names(&row.values), |name| format!("{} = ?", quoted(name)), ", ");
        if set.is_empty() {
            // Nothing to change, but the row must be there all the same.
            set = list(names(&row.key), |name| format!("{0} = {0}", quoted(name)), ", ");
        }
        let sql = format!("UPDATE {} SET {set} WHERE {key}", quoted(&table));
        let is_there = format!("SELECT 1 FROM {} WHERE {key}", quoted(&table));
        self.ready(connection, &table, row, &sql, Some(&is_there))?;
        match execute(connection, &sql, row.values.iter().chain(&row.key))? {
            0 => Err(missed(&table, &row.key)),
            _ => Ok(()),
        }
    }

    pub(super) fn delete(&mut self, connection: &Connection, row: &Row) -> Result<(), Problem> {
        let table = self.name(row)?;
        let key = list(names(&row.key), |name| format!("{} = ?", quoted(name)), " AND ");
        let sql = format!("DELETE FROM {} WHERE {key}", quoted(&table));
        self.ready(connection, &table, row, &sql, None)?;
        execute(connection, &sql, &row.key)?;
        Ok(())
    }

    fn name(&self, row: &Row) -> Result<String, Problem> {
        let name = format!("{}{}", self.prefix, row.table);
        if is_taken(&name) {
            return Err(Problem::Bad(format!(
                "table {name:?} is SQLite's or tidegate's own, which no transform writes"
            )));
        }
        Ok(name)
    }

    /// Adds the columns that a statement names and the table has not. Where a row must be there, this query finds it first,
    /// for a command that comes to nothing adds no columns.
    fn ready(
        &mut self,
        connection: &Connection,
        table: &str,
        row: &Row,
        sql: &str,
        is_there: Option<&str>,
    ) -> Result<(), Problem> {
        if self.ready.contains(sql) {
            return Ok(());
        }
        let known = match self.columns.get_mut(table) {
            Some(known) => known,
            None => self.columns.entry(table.to_owned()).or_insert(read_columns(connection, table)?),
        };
        // Another process may have added what is missing here.
        if names(&row.key).chain(names(&row.values)).any(|column| !known.iter().any(|known| known == column)) {
            *known = read_columns(connection, table)?;
        }
        let added = missing(table, known, row)?;
        if let Some(query) = is_there.filter(|_| !added.is_empty()) {
            let mut statement = connection.prepare_cached(query)?;
            bind_all(&mut statement, &row.key)?;
            if statement.raw_query().next()?.is_none() {
                return Err(missed(table, &row.key));
            }
        }
        for column in added {
            add(connection, table, column)?;
            known.push(column.to_owned());
        }
        // Rows whose sets of columns all differ must not fill the memory.
        self.ready_bytes += sql.len();
        if self.ready.len() >= 4 * super::STATEMENTS || self.ready_bytes > STATEMENTS.most {
            self.ready.clear();
            self.ready_bytes = sql.len();
        }
        self.ready.insert(sql.to_owned());
        Ok(())
    }
}

/// Whether a table of this name is SQLite's own or tidegate's.
fn is_taken(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.starts_with("sqlite_") || lower.starts_with("tidegate_")
}

/// The columns of a row that its table has not; all of them are looked at before the first is added.
fn missing<'r>(table: &str, known: &[String], row: &'r Row) -> Result<Vec<&'r str>, Problem> {
    let mut missing: Vec<&str> = Vec::new();
    for column in names(&row.key).chain(names(&row.values)) {
        let bad = |problem: String| Err(Problem::Bad(format!("table {table:?}: {problem}")));
        let mut others = known.iter().map(String::as_str).chain(missing.iter().copied());
        match others.find(|known| known.eq_ignore_ascii_case(column)) {
            Some(same) if same == column => {}
            Some(other) => {
                return bad(format!(
                    "columns {column:?} and {other:?} differ by case alone, which SQLite does not tell apart: rename one in \
                     the transform"
                ));
            }
            None if ROW_NUMBER.iter().any(|taken| taken.eq_ignore_ascii_case(column)) => {
                return bad(format!(
                    "{column:?} is SQLite's own name for the number of a row: rename it in the transform"
                ));
            }
            None if known.len() + missing.len() >= SQLITE_COLUMNS.most => {
                return bad(format!("column {column:?} would be one above {}", SQLITE_COLUMNS.most));
            }
            None => missing.push(column),
        }
    }
    Ok(missing)
}

/// Adds a column. That SQLite does not take it is the row's fault: nothing but its name is new.
fn add(connection: &Connection, table: &str, column: &str) -> Result<(), Problem> {
    let sql = format!("ALTER TABLE {} ADD COLUMN {}", quoted(table), quoted(column));
    connection.execute_batch(&sql).map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::Unknown) => Problem::Bad(format!("table {table:?}: column {column:?}: {error}")),
        _ => error.into(),
    })
}

fn read_columns(connection: &Connection, table: &str) -> Result<Vec<String>, Problem> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let columns = statement.query_map([table], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    if columns.is_empty() {
        return Err(Problem::Stop(format!(
            "table {table:?} is not there: it was dropped, or never declared; \
             restore it, or delete its row in tidegate_tables and restart"
        )));
    }
    Ok(columns)
}

/// Runs a statement with these values for its marks, in order; the number of rows changed.
fn execute<'a>(
    connection: &Connection,
    sql: &str,
    values: impl IntoIterator<Item = &'a (String, Box<RawValue>)>,
) -> Result<usize, Problem> {
    if sql.len() > KEPT_TEXT {
        return run(&mut connection.prepare(sql)?, values);
    }
    run(&mut *connection.prepare_cached(sql)?, values)
}

fn run<'a>(
    statement: &mut Statement<'_>,
    values: impl IntoIterator<Item = &'a (String, Box<RawValue>)>,
) -> Result<usize, Problem> {
    bind_all(statement, values)?;
    Ok(statement.raw_execute()?)
}

fn bind_all<'a>(
    statement: &mut Statement<'_>,
    values: impl IntoIterator<Item = &'a (String, Box<RawValue>)>,
) -> Result<(), Problem> {
    for ((name, value), place) in values.into_iter().zip(1_usize..) {
        let value = bind(value).map_err(|e| Problem::Bad(format!("column {name:?}: {e}")))?;
        statement.raw_bind_parameter(place, value)?;
    }
    Ok(())
}

fn names(fields: &Fields) -> impl Iterator<Item = &str> {
    fields.iter().map(|(name, _)| name.as_str())
}

/// That there is nothing to merge into.
fn missed(table: &str, key: &Fields) -> Problem {
    Problem::Bad(format!("table {table:?}: there is no row with the key {} to merge into", shown(key)))
}

fn list<'a>(names: impl Iterator<Item = &'a str>, each: impl Fn(&str) -> String, between: &str) -> String {
    names.map(each).collect::<Vec<_>>().join(between)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn shown(key: &Fields) -> String {
    list(key.iter().map(|(_, value)| value.get()), str::to_owned, ", ")
}
