//! What a record means: a change of a row, a truncate, or a control record that only moves the offset.
//!
//! [`Decoder::decode`] finds the parts of a record without copying them; [`Change::project`] then picks what one
//! transform reads. Both work on the wire text: no value ever passes through a number type.

use std::borrow::Cow;
use std::sync::Arc;

use crate::contract::{Column, Inputs, Operation, Rejection};
use crate::source::{Header, Record};

/// How a pipeline's records are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Debezium's envelope: `before`, `after`, `source`, `op`.
    #[default]
    Envelope,
    /// The row itself, as `ExtractNewRecordState` leaves it.
    Flattened,
    /// A guess, record by record.
    Auto,
}

/// How to understand the records of a pipeline.
#[derive(Debug, Clone)]
pub struct Options {
    /// The layout.
    pub format: Format,
    /// Debezium's `unavailable.value.placeholder`.
    pub unavailable_placeholder: String,
    /// `ExtractNewRecordState`'s `add.fields.prefix`, which also names the added headers.
    pub flattened_prefix: String,
    /// The connector's `topic.heartbeat.prefix`.
    pub heartbeat_prefix: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: Format::default(),
            unavailable_placeholder: "__debezium_unavailable_value".into(),
            flattened_prefix: "__".into(),
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
    /// A tombstone, in any of its three shapes.
    Tombstone,
    /// A heartbeat.
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
    /// The table: `source.table`, else the last segment of the topic.
    pub table: Cow<'r, str>,
    /// The key's JSON text, its schema taken off.
    pub key: Option<&'r str>,
    /// The other key of a primary-key change.
    pub moved: Option<&'r str>,
    /// The row before.
    pub before: Option<RowText<'r>>,
    /// The row after.
    pub after: Option<RowText<'r>>,
    /// Debezium's `source` object.
    pub source: Option<&'r str>,
    /// The columns, if the record came with its schema. The same schema is the same `Arc`.
    pub columns: Option<Arc<Vec<Column>>>,
}

/// A row's JSON text.
#[derive(Debug)]
pub struct RowText<'r> {
    /// The object's text.
    pub text: &'r str,
    // to be completed by the implementation: column spans, unsent columns
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
    /// The row before, the declared columns of it.
    pub before: Option<Cow<'r, str>>,
    /// The row after, the declared columns of it without the unsent ones.
    pub after: Option<Cow<'r, str>>,
    /// The unsent columns among the declared ones.
    pub unsent: Vec<Cow<'r, str>>,
    /// Debezium's `source` object.
    pub source: Option<&'r str>,
    /// The headers; empty when they were not asked for.
    pub headers: &'r [Header],
}

/// Understands the records of one pipeline. Keeps the schemas it has seen.
#[derive(Debug)]
pub struct Decoder {
    options: Options,
}

impl Decoder {
    /// A decoder for records laid out like this.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Finds out what a record means.
    ///
    /// # Errors
    /// A record that cannot be understood is a rejection whose reason names the place in it.
    pub fn decode<'r>(&mut self, record: &'r Record) -> Result<Event<'r>, Rejection> {
        let _ = (&self.options, record);
        unimplemented!()
    }
}

impl<'r> Change<'r> {
    /// Picks what a transform with these inputs reads.
    pub fn project(&self, inputs: &Inputs) -> Projected<'r> {
        let _ = inputs;
        unimplemented!()
    }
}
