//! Which commands act on other rows than their own, as far as a store knows.

use std::collections::{HashMap, HashSet};

use crate::command::Command;

/// The tables whose upserts and merges may act on other rows, by a trigger or by a foreign key that hands on what changes.
/// Any delete is taken to do so.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// The columns that must be named for it; none where every write does.
    tables: HashMap<String, Option<HashSet<String>>>,
}

impl Reach {
    /// Notes what is known of a table, by its name in commands, in place of what was: whether every write acts on other
    /// rows, else the columns whose writes do.
    pub fn note(&mut self, table: &str, every_write: bool, columns: &HashSet<String>) {
        if every_write {
            self.tables.insert(table.to_owned(), None);
        } else if columns.is_empty() {
            self.tables.remove(table);
        } else {
            self.tables.insert(table.to_owned(), Some(columns.clone()));
        }
    }

    /// Whether an upsert or a merge may act on other rows.
    pub(super) fn has(&self, command: &Command) -> bool {
        if self.tables.is_empty() {
            return false;
        }
        let (Command::RowUpsert(row) | Command::RowMerge(row)) = command else { return false };
        match self.tables.get(&row.table) {
            Some(Some(columns)) => row.values.iter().any(|(name, _)| columns.contains(name)),
            Some(None) => true,
            None => false,
        }
    }
}
