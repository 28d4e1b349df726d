//! Changes whose columns were not all sent: what is made of one is a merge, which changes only what is there.
//!
//! After a change of the key that is not so where the target is named by the key: the delete of the old key has taken it
//! away, and the values that were not sent are nowhere. A store tells where a row or a document is missing. A cache does
//! not, since an entry may have expired; there the host refuses the merge itself.

use std::fmt;

use crate::command::Command;
use crate::contract::{Fault, Operation, Rejection};
use crate::event::Projected;

/// What is known of such a change, for the reason of its dead letter.
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

    /// Refuses what would be lost without a word.
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
