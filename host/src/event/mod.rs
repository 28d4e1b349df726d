//! What a record means: a change of a row, a truncate, or a control record that only moves the offset.
//!
//! [`Decoder::decode`] finds the parts of a record without copying them; [`Change::project`] then picks what one
//! transform reads. Both work on the wire text: no value ever passes through a number type.

mod block;
mod decode;
mod envelope;
mod flattened;
mod json;
mod layout;
mod malformed;
mod name;
mod project;
mod row;
mod schema;
mod unsent;
mod wrapper;

#[cfg(test)]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

pub use decode::Decoder;
pub use project::Projection;
pub use row::RowText;
use serde::Serialize;

use crate::contract::{Column, Operation};
use crate::source::{Header, Record};

/// How a pipeline's records are laid out. In each layout key and value may come inside Connect's
/// `{"schema":…,"payload":…}` or without it; that is found out record by record: an object of exactly these two
/// members, with a schema that is null or an object with a `type`, is the wrapper, any other is the row itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum Format {
    /// Debezium's envelope: `before`, `after`, `source`, `op`.
    #[default]
    Envelope,
    /// The row itself, as `ExtractNewRecordState` leaves it. A row that says nothing of its operation, neither by
    /// a field nor by a header, is a row as read.
    Flattened,
    /// A guess, record by record. An object whose `op` is a string, and whose `before`, `after` and `source` are
    /// objects or null (and not all absent), is an envelope. Anything else is a flattened row, and one without added
    /// fields a row as read. It errs for a table with columns of those names, and a null value is always taken for a
    /// tombstone: name the format where it is known.
    Auto,
}

/// How to understand the records of a pipeline.
#[derive(Debug, Clone, Serialize)]
pub struct Options {
    /// The layout.
    pub format: Format,
    /// Debezium's `unavailable.value.placeholder`. All the forms are known that it takes by column type; where the
    /// records come without their schema, any of them in any column counts as unsent.
    pub unavailable_placeholder: String,
    /// `ExtractNewRecordState`'s `add.fields.prefix`, which also names the added headers. Every field whose name
    /// begins with it is added, and no column; so is `__deleted`, which Debezium writes whatever the prefix. With an
    /// empty prefix nothing tells added fields from columns: `op` and `deleted` are taken as added where their values
    /// are such, and all others stay in the row.
    pub flattened_prefix: String,
    /// Whether a null value of a flattened topic deletes its row. It is the only sign of a delete under Debezium's
    /// defaults (`delete.tombstone.handling.mode` = `tombstone` or `delete-to-tombstone`), so it is true by default.
    /// Under `rewrite-with-tombstone` a delete then comes twice, which stores do not mind; set it to false where a
    /// transform publishes messages on deletes. Only [`Format::Flattened`] knows it.
    pub flattened_tombstone_is_delete: bool,
    /// The connector's `topic.heartbeat.prefix`.
    pub heartbeat_prefix: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: Format::default(),
            unavailable_placeholder: "__debezium_unavailable_value".into(),
            flattened_prefix: "__".into(),
            flattened_tombstone_is_delete: true,
            heartbeat_prefix: "__debezium-heartbeat".into(),
        }
    }
}

/// What a record means.
#[derive(Debug)]
pub enum Event<'r> {
    /// A row changed.
    Change(Change<'r>),
    /// The table was truncated.
    Truncate,
    /// Nothing to do but move the offset.
    Control(Control),
}

/// The kinds of records that only move the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Control {
    /// A tombstone, in any of its three shapes: no value, the text `null`, a wrapper whose payload is null.
    Tombstone,
    /// A heartbeat, known by its topic.
    Heartbeat,
    /// The begin or end of a transaction.
    Transaction,
    /// A change of a schema.
    SchemaChange,
    /// A logical message.
    Message,
}

/// A change of one row. Its parts lie in the record.
#[derive(Debug)]
pub struct Change<'r> {
    /// The record.
    pub record: &'r Record,
    /// What happened.
    pub operation: Operation,
    /// The table: `source.table` (flattened: an added `source_table` or `table`), else the last segment of the topic.
    pub table: Cow<'r, str>,
    /// The key's JSON text, its schema taken off; none when it is null.
    pub key: Option<&'r str>,
    /// The other key of a primary-key change: of a delete the new one, of a create the old one.
    pub moved: Option<&'r str>,
    /// The row before. Of a flattened delete it is the rewritten row.
    pub before: Option<RowText<'r>>,
    /// The row after; none of a delete, always there otherwise.
    pub after: Option<RowText<'r>>,
    /// Debezium's `source` object.
    pub source: Option<&'r str>,
    /// The columns, if the record came with its schema. The same schema is the same `Arc`; a new `Arc` may hold the
    /// same columns when a topic has had many others in between.
    pub columns: Option<Arc<Vec<Column>>>,
}

/// What one transform is given of a change.
#[derive(Debug, PartialEq, Eq)]
pub struct Projected<'r> {
    /// The record's offset.
    pub offset: u64,
    /// The record's timestamp.
    pub timestamp: Option<i64>,
    /// What happened.
    pub operation: Operation,
    /// The key.
    pub key: Option<Cow<'r, str>>,
    /// The other key of a primary-key change.
    pub moved: Option<Cow<'r, str>>,
    /// The row before, the declared columns of it that were sent.
    pub before: Option<Cow<'r, str>>,
    /// The row after, the declared columns of it that were sent.
    pub after: Option<Cow<'r, str>>,
    /// The unsent columns of `after` among the declared ones.
    pub unsent: Vec<Cow<'r, str>>,
    /// Debezium's `source` object.
    pub source: Option<&'r str>,
    /// The headers; empty when they were not asked for.
    pub headers: &'r [Header],
}
