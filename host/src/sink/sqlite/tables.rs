//! The users' tables: who owns them, which columns they have, and the writing of rows.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::value::RawValue;

use super::error::Problem;
use super::value::bind;
use crate::command::{Fields, Row};
use crate::contract::Table;

/// SQLite's own bound for the columns of a table.
const COLUMNS: usize = 2000;

/// What is remembered of the tables. It holds as long as no transaction is rolled back.
pub(super) struct Tables {
    prefix: String,
    columns: HashMap<String, Vec<String>>,
    /// Statements whose columns are all there.
    ready: HashSet<String>,
}

impl Tables {
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix, columns: HashMap::new(), ready: HashSet::new() }
    }

    /// Forgets everything, after a rollback.
    pub(super) fn forget(&mut self) {
        self.columns.clear();
        self.ready.clear();
    }

    /// Makes a table on its first declaration, and holds later ones against it.
    pub(super) fn declare(&self, connection: &Connection, sink: &str, table: &Table) -> Result<(), Problem> {
        let name = format!("{}{}", self.prefix, table.name);
        let stop = |problem: String| Err(Problem::Stop(format!("table {name:?} {problem}")));
        let lower = name.to_ascii_lowercase();
        if lower.starts_with("sqlite_") || lower.starts_with("tidegate_") {
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
        let table = self.name(row);
        let key = list(names(&row.key), quoted, ", ");
        let columns = list(names(&row.key).chain(names(&row.values)), quoted, ", ");
        let marks = vec!["?"; row.key.len() + row.values.len()].join(", ");
        let set = list(names(&row.values), |name| format!("{0} = excluded.{0}", quoted(name)), ", ");
        let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {set}") };
        let sql =
            format!("INSERT INTO {} ({columns}) VALUES ({marks}) ON CONFLICT ({key}) DO {action}", quoted(&table));
        self.ready(connection, &table, row, &sql)?;
        execute(connection, &sql, row.key.iter().chain(&row.values))?;
        Ok(())
    }

    pub(super) fn merge(&mut self, connection: &Connection, row: &Row) -> Result<(), Problem> {
        let table = self.name(row);
        let key = list(names(&row.key), |name| format!("{} = ?", quoted(name)), " AND ");
        let mut set = list(names(&row.values), |name| format!("{} = ?", quoted(name)), ", ");
        if set.is_empty() {
            // Nothing to change, but the row must be there all the same.
            set = list(names(&row.key), |name| format!("{0} = {0}", quoted(name)), ", ");
        }
        let sql = format!("UPDATE {} SET {set} WHERE {key}", quoted(&table));
        self.ready(connection, &table, row, &sql)?;
        match execute(connection, &sql, row.values.iter().chain(&row.key))? {
            0 => Err(Problem::Bad(format!(
                "table {table:?}: there is no row with the key {} to merge into",
                shown(&row.key)
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn delete(&mut self, connection: &Connection, row: &Row) -> Result<(), Problem> {
        let table = self.name(row);
        let key = list(names(&row.key), |name| format!("{} = ?", quoted(name)), " AND ");
        let sql = format!("DELETE FROM {} WHERE {key}", quoted(&table));
        self.ready(connection, &table, row, &sql)?;
        execute(connection, &sql, &row.key)?;
        Ok(())
    }

    fn name(&self, row: &Row) -> String {
        format!("{}{}", self.prefix, row.table)
    }

    /// Adds the columns that a statement names and the table has not.
    fn ready(&mut self, connection: &Connection, table: &str, row: &Row, sql: &str) -> Result<(), Problem> {
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
        for column in names(&row.key).chain(names(&row.values)) {
            match known.iter().find(|known| known.eq_ignore_ascii_case(column)) {
                Some(same) if same == column => {}
                Some(other) => {
                    return Err(Problem::Bad(format!(
                        "table {table:?}: columns {column:?} and {other:?} differ by case alone, \
                         which SQLite does not tell apart: rename one in the transform"
                    )));
                }
                None if known.len() >= COLUMNS => {
                    return Err(Problem::Bad(format!(
                        "table {table:?}: column {column:?} would be one above {COLUMNS}"
                    )));
                }
                None => {
                    connection.execute_batch(&format!(
                        "ALTER TABLE {} ADD COLUMN {}",
                        quoted(table),
                        quoted(column)
                    ))?;
                    known.push(column.to_owned());
                }
            }
        }
        // Rows whose sets of columns all differ must not fill the memory.
        if self.ready.len() >= 4 * super::STATEMENTS {
            self.ready.clear();
        }
        self.ready.insert(sql.to_owned());
        Ok(())
    }
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
    let mut statement = connection.prepare_cached(sql)?;
    for ((name, value), place) in values.into_iter().zip(1_usize..) {
        let value = bind(value).map_err(|e| Problem::Bad(format!("column {name:?}: {e}")))?;
        statement.raw_bind_parameter(place, value)?;
    }
    Ok(statement.raw_execute()?)
}

fn names(fields: &Fields) -> impl Iterator<Item = &str> {
    fields.iter().map(|(name, _)| name.as_str())
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
