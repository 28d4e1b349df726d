//! Changes in the contract's form, by reference, and answers in the host's form, by move. No text is copied here.

use super::bindings::exports::tidegate::transform::transformer as wit;
use super::{Batch, Outcome};
use crate::contract::{Column, Fault, Operation, RawCommand, RawDocument, RawRow, Rejection, ValueType};
use crate::event::Projected;
use crate::printable::{TEXT_BYTES, printable};
use crate::source::Header;

/// The lists of a batch that the contract's form refers to, each kind in one piece.
pub(super) struct Lists<'a> {
    columns: Option<Vec<wit::Column<'a>>>,
    unsent: Vec<&'a str>,
    headers: Vec<wit::HeaderParam<'a>>,
}

impl<'a> Lists<'a> {
    pub(super) fn new(batch: Batch<'a>, changes: &'a [Projected<'_>]) -> Self {
        Self {
            columns: batch.columns.map(|columns| columns.iter().map(column).collect()),
            unsent: changes.iter().flat_map(|change| &change.unsent).map(|name| &**name).collect(),
            headers: changes.iter().flat_map(|change| change.headers).map(header).collect(),
        }
    }

    pub(super) fn batch<'l>(&'l self, batch: Batch<'l>) -> wit::Batch<'l> {
        let Batch { topic, partition, table, .. } = batch;
        wit::Batch { topic, partition, table, columns: self.columns.as_deref() }
    }

    /// The changes that these lists were made of.
    pub(super) fn changes<'l>(&'l self, changes: &'l [Projected<'_>]) -> Vec<wit::Change<'l>> {
        let (mut unsent, mut headers) = (self.unsent.as_slice(), self.headers.as_slice());
        let lower = |change: &'l Projected<'_>| wit::Change {
            offset: change.offset,
            timestamp: change.timestamp,
            operation: operation(change.operation),
            key: change.key.as_deref(),
            moved: change.moved.as_deref(),
            before: change.before.as_deref(),
            after: change.after.as_deref(),
            unsent: take(&mut unsent, change.unsent.len()),
            source: change.source,
            headers: take(&mut headers, change.headers.len()),
        };
        changes.iter().map(lower).collect()
    }
}

/// The next so many items. None for an empty list: an empty one would cost the guest an allocation.
fn take<'l, T>(list: &mut &'l [T], count: usize) -> Option<&'l [T]> {
    let (first, rest) = list.split_at(count);
    *list = rest;
    (count > 0).then_some(first)
}

fn column(column: &Column) -> wit::Column<'_> {
    wit::Column { name: &column.name, of: value_type(&column.of), element: column.element.as_ref().map(value_type) }
}

fn value_type(of: &ValueType) -> wit::ValueType<'_> {
    wit::ValueType { connect_type: &of.connect_type, logical_type: of.logical_type.as_deref(), scale: of.scale }
}

fn header(header: &Header) -> wit::HeaderParam<'_> {
    wit::HeaderParam { name: &header.name, value: header.value.as_deref() }
}

fn operation(operation: Operation) -> wit::Operation {
    match operation {
        Operation::Create => wit::Operation::Create,
        Operation::Read => wit::Operation::Read,
        Operation::Update => wit::Operation::Update,
        Operation::Delete => wit::Operation::Delete,
    }
}

/// The outcomes of so many changes, appended to `out`.
///
/// A single outcome that breaks a rule becomes a rejection of its change. An answer whose sums are wrong cannot be
/// told apart by change: nothing is appended, and the error says what is wrong.
pub(super) fn outcomes(
    answer: wit::Outcomes,
    changes: usize,
    commands_per_change: usize,
    out: &mut Vec<Outcome>,
) -> Result<(), String> {
    let wit::Outcomes { commands, outcomes } = answer;
    if outcomes.len() != changes {
        return Err(format!("it answered {} outcomes for {changes} changes", outcomes.len()));
    }
    let sum: u64 = outcomes.iter().map(|outcome| u64::from(outcome.commands)).sum();
    if sum != commands.len() as u64 {
        return Err(format!("its outcomes count {sum} commands, and it returned {}", commands.len()));
    }
    let mut commands = commands.into_iter();
    for outcome in outcomes {
        let count = outcome.commands as usize;
        let given = commands.by_ref().take(count);
        let bad = |reason| Rejection::new(Fault::BadAnswer, reason);
        out.push(match outcome.rejection {
            None if count <= commands_per_change => Ok(given.map(command).collect()),
            None => {
                given.for_each(drop);
                Err(bad(format!(
                    "the transform made {count} commands of one change, and {commands_per_change} are allowed: make \
                     fewer, or raise the limit"
                )))
            }
            Some(rejection) if count == 0 => {
                Err(Rejection::new(fault(rejection.fault), printable(&rejection.reason, TEXT_BYTES)))
            }
            Some(rejection) => {
                given.for_each(drop);
                let reason = printable(&rejection.reason, TEXT_BYTES);
                Err(bad(format!("the transform both rejected the change and made {count} commands of it: {reason}")))
            }
        });
    }
    Ok(())
}

fn fault(fault: wit::Fault) -> Fault {
    match fault {
        wit::Fault::Undecodable => Fault::Undecodable,
        wit::Fault::NoKey => Fault::NoKey,
        wit::Fault::NoBefore => Fault::NoBefore,
        wit::Fault::Unsent => Fault::Unsent,
        wit::Fault::Refused => Fault::Refused,
    }
}

fn command(command: wit::Command) -> RawCommand {
    match command {
        wit::Command::CacheSet(wit::CacheEntry { key, value, ttl_seconds }) => {
            RawCommand::CacheSet { key, value, ttl_seconds }
        }
        wit::Command::CacheMerge(wit::CachePatch { key, fields, ttl_seconds }) => {
            RawCommand::CacheMerge { key, fields, ttl_seconds }
        }
        wit::Command::CacheDelete(key) => RawCommand::CacheDelete { key },
        wit::Command::RowUpsert(given) => RawCommand::RowUpsert(row(given)),
        wit::Command::RowMerge(given) => RawCommand::RowMerge(row(given)),
        wit::Command::RowDelete(given) => RawCommand::RowDelete(row(given)),
        wit::Command::DocumentIndex(given) => RawCommand::DocumentIndex(document(given)),
        wit::Command::DocumentMerge(given) => RawCommand::DocumentMerge(document(given)),
        wit::Command::DocumentDelete(wit::DocumentId { index, id }) => RawCommand::DocumentDelete { index, id },
        wit::Command::Publish(wit::Message { topic, key, value, headers }) => {
            let header = |header: wit::HeaderResult| Header { name: header.name, value: header.value };
            let headers = headers.into_iter().flatten().map(header).collect();
            RawCommand::Publish { topic, key, value, headers }
        }
    }
}

fn row(row: wit::Row) -> RawRow {
    RawRow { table: row.table, values: row.values }
}

fn document(document: wit::Document) -> RawDocument {
    RawDocument { index: document.index, id: document.id, body: document.body }
}
