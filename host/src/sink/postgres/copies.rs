//! Copies of tables, made like them and filled in their place, and which of their columns were written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::error::Problem;
use super::name::TableName;
use super::rows::{Change, Kind};
use super::session::Session;
use crate::contract::Table;
use crate::sink::Write;

/// The tables that are copied.
pub(super) struct Copies {
    /// The schema of the tables.
    of: String,
    tables: Mutex<BTreeMap<String, Copied>>,
}

/// What is known of one copy.
#[derive(Debug, Clone, Default)]
pub(super) struct Copied {
    /// The columns that its rows are written by.
    pub(super) key: Vec<String>,
    /// The other columns that were ever written.
    pub(super) written: BTreeSet<String>,
}

impl Copies {
    /// Copies of tables in this schema.
    pub(super) fn new(of: &str) -> Self {
        Self { of: of.to_owned(), tables: Mutex::default() }
    }

    /// The tables that were copied, and what is known of each.
    pub(super) fn tables(&self) -> Vec<(String, Copied)> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).clone().into_iter().collect()
    }

    /// Makes the copies that are not there yet.
    pub(super) async fn make(&self, session: &mut Session, tables: &[Table], schema: &str) -> Result<(), Problem> {
        for table in tables {
            if table.name.contains('.') {
                return Err(Problem::Stop(format!(
                    "the transform names the table {0} together with its schema, so that it cannot be filled beside the \
                     one in use: write `schema = \"{1}\"` on the sink, and have the transform and its grants name the \
                     table {2}; then rewind",
                    table.name,
                    table.name.split_once('.').map_or("", |(schema, _)| schema),
                    table.name.split_once('.').map_or("", |(_, name)| name),
                )));
            }
            let (copy, real) = (TableName::new(&table.name, schema), TableName::new(&table.name, &self.of));
            let sql = format!("CREATE TABLE IF NOT EXISTS {} (LIKE {} INCLUDING ALL)", copy.quoted(), real.quoted());
            session.run(&sql).await?;
            let mut known = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            known.entry(table.name.clone()).or_default().key.clone_from(&table.key);
        }
        Ok(())
    }

    /// Notes which columns are written.
    pub(super) fn note(&self, writes: &[Write<'_>]) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        for change in writes.iter().filter_map(|write| Change::new(write).ok()) {
            let Some(copied) = tables.get_mut(&change.row.table).filter(|_| change.kind != Kind::Delete) else {
                continue;
            };
            for (name, _) in &change.row.values {
                if !copied.written.contains(name) {
                    copied.written.insert(name.clone());
                }
            }
        }
    }
}
