//! Changes of which some columns are unavailable: their commands are merges, which only change what is stored.
//!
//! After a key change there is nothing to merge into: the delete of the old key has removed the values that are unavailable.
//! Tables and indexes refuse a merge into a missing row or document. A cache does not, since an entry may have expired, so there
//! the host refuses the merge.

use std::fmt;

use crate::command::Command;
use crate::contract::{Fault, Operation, Rejection};
use crate::event::Projected;

/// Which columns of a change are unavailable, for the reason of its dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partial {
    table: String,
    columns: Vec<String>,
    /// Whether it is the create that a change of the key comes with.
    is_new_key: bool,
}

impl Partial {
    /// That of a change of a table; none where all that the transform reads was sent.
    pub(super) fn of(change: &Projected<'_>, table: &str) -> Option<Self> {
        if change.unsent.is_empty() {
            return None;
        }
        let columns = change.unsent.iter().map(|column| column.clone().into_owned()).collect();
        // Nothing else than a change of the key makes a create without all of its columns.
        Some(Self { table: table.to_owned(), columns, is_new_key: change.operation == Operation::Create })
    }

    /// Refuses a merge that would be lost silently.
    pub(super) fn check(&self, commands: &[Command]) -> Result<(), Rejection> {
        let lost = |command: &&Command| matches!(command, Command::CacheMerge { .. });
        match commands.iter().find(lost) {
            Some(_) if self.is_new_key => Err(Rejection::new(
                Fault::Unsent,
                format!("there is no cache entry of the new key to merge into{self}"),
            )),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, columns, is_new_key } = self;
        let columns = columns.join("`, `");
        let when = if *is_new_key { " when its key was changed" } else { "" };
        write!(
            f,
            "; the source did not send `{columns}`{when}, so that this is a merge: run `ALTER TABLE {table} REPLICA \
             IDENTITY FULL` there, and it will"
        )
    }
}
