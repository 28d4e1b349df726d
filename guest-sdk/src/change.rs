//! One change of one row, as a transform sees it.

use serde::Deserialize;

use crate::bindings::exports::tidegate::transform::transformer as wire;
use crate::decode::{self, Context};
use crate::inputs::Inputs;
use crate::key;
use crate::reject::{Fault, Reject};
use crate::schema::ColumnType;

/// What happened to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// The row was inserted.
    Create,
    /// The row was read by a snapshot, at the start or in mid-stream. It stands as it is: treat it as an upsert. The
    /// same row may be read again.
    Read,
    /// The row was updated.
    Update,
    /// The row was deleted. It is known by its key.
    Delete,
}

/// One change of one row. The envelope or the flattening of the connector is gone: what is left is the key, the row,
/// and where they come from.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) inputs: &'a Inputs,
    pub(crate) wire: &'a wire::Change,
}

/// What the changes of one call have in common.
#[derive(Debug)]
pub(crate) struct Batch {
    topic: String,
    partition: u32,
    table: String,
    columns: Option<Vec<(String, ColumnType)>>,
}

impl Batch {
    pub(crate) fn from_wire(batch: wire::Batch) -> Self {
        let of = |of: &wire::ValueType, element| {
            ColumnType::new(&of.connect_type, of.logical_type.as_deref(), of.scale, element)
        };
        let columns = batch.columns.map(|columns| {
            columns
                .into_iter()
                .map(|column| {
                    let element = column.element.as_ref().map(|element| of(element, None));
                    (column.name, of(&column.of, element))
                })
                .collect()
        });
        Self { topic: batch.topic, partition: batch.partition, table: batch.table, columns }
    }
}

impl<'a> Change<'a> {
    /// The row after the change; none when it was deleted.
    ///
    /// # Errors
    /// A rejection that names the column and `T`, when a value does not fit, a column is missing, or a column was not
    /// sent and its field is no [`Column`](crate::Column).
    pub fn row<T: Deserialize<'a>>(&self) -> Result<Option<T>, Reject> {
        let Some(text) = &self.wire.after else { return Ok(None) };
        decode::row(text, Context { columns: self.columns(), unsent: self.wire.unsent.as_deref() }).map(Some)
    }

    /// The row before the change; none for a row that was inserted or read. Needs [`Inputs::with_before`].
    ///
    /// Only a table with REPLICA IDENTITY FULL has it. Under any other identity an update comes without it, which is a
    /// rejection here; but a delete comes with a row whose columns beside the key are nulls and defaults *that look
    /// like data*, and nothing tells the difference. To call this is to say that the table is FULL.
    ///
    /// # Errors
    /// As [`row`](Self::row), and [`Fault::NoBefore`] when an update or a delete came without it.
    pub fn before<T: Deserialize<'a>>(&self) -> Result<Option<T>, Reject> {
        if let Some(text) = &self.wire.before {
            return decode::row(text, Context { columns: self.columns(), unsent: None }).map(Some);
        }
        match self.operation() {
            Operation::Create | Operation::Read => Ok(None),
            _ if !self.inputs.before => Err(Reject::new(
                Fault::NoBefore,
                "the transform reads the row before the change, but its `inputs()` does not ask for it: add \
                 `.with_before()`",
            )),
            _ => Err(Reject::new(
                Fault::NoBefore,
                format!(
                    "the row before the change was not sent: run `ALTER TABLE {} REPLICA IDENTITY FULL` in the source \
                     database; changes made from then on have it",
                    self.table()
                ),
            )),
        }
    }

    /// The record's key. A key of one column is read as its bare value (`change.key::<String>()`), one of several as a
    /// tuple in the order of the key's columns or as a struct of them.
    ///
    /// # Errors
    /// [`Fault::NoKey`] when the record has none: its table has no primary key. Otherwise a rejection that shows the
    /// key.
    pub fn key<K: Deserialize<'a>>(&self) -> Result<K, Reject> {
        let text = self.wire.key.as_deref().ok_or_else(|| {
            Reject::new(
                Fault::NoKey,
                format!(
                    "the record has no key: give the table `{}` a primary key, or name one in the connector's \
                     `message.key.columns`",
                    self.table()
                ),
            )
        })?;
        key::key(text, self.columns())
    }

    /// The row's other key, when this change is one half of a change of its primary key. Such a change comes as the
    /// delete of the old key, where this is the new one, and the create of the new key, where this is the old one; the
    /// two may come in either order.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    pub fn moved<K: Deserialize<'a>>(&self) -> Result<Option<K>, Reject> {
        self.wire.moved.as_deref().map(|text| key::key(text, self.columns())).transpose()
    }

    /// Whether this is one half of a change of the row's primary key: a delete or a create that is none to the
    /// application.
    pub fn is_moved(&self) -> bool {
        self.wire.moved.is_some()
    }

    /// What happened.
    pub fn operation(&self) -> Operation {
        match self.wire.operation {
            wire::Operation::Create => Operation::Create,
            wire::Operation::Read => Operation::Read,
            wire::Operation::Update => Operation::Update,
            wire::Operation::Delete => Operation::Delete,
        }
    }

    /// The table: `source.table` of the event where it has one, else the last segment of the topic's name.
    pub fn table(&self) -> &'a str {
        &self.batch.table
    }

    /// The Kafka topic.
    pub fn topic(&self) -> &'a str {
        &self.batch.topic
    }

    /// The partition of the topic.
    pub fn partition(&self) -> u32 {
        self.batch.partition
    }

    /// The record's offset in its partition.
    pub fn offset(&self) -> u64 {
        self.wire.offset
    }

    /// The record's Kafka timestamp in milliseconds since 1970, where it has one.
    pub fn timestamp(&self) -> Option<i64> {
        self.wire.timestamp
    }

    /// Debezium's `source` object; none for a flattened event. Needs [`Inputs::with_source`].
    ///
    /// # Errors
    /// As [`row`](Self::row).
    pub fn source<T: Deserialize<'a>>(&self) -> Result<Option<T>, Reject> {
        self.wire.source.as_deref().map(|text| decode::row(text, Context::default())).transpose()
    }

    /// The headers of the Kafka record, each with its name and its value; names may repeat. Needs
    /// [`Inputs::with_headers`].
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let headers = self.wire.headers.as_deref().unwrap_or_default();
        headers.iter().map(|header| (header.name.as_str(), header.value.as_deref()))
    }

    /// The columns of the row that were not sent. Types know it by [`Column`](crate::Column); this is for transforms
    /// that pass rows on as text.
    pub fn unsent(&self) -> &'a [String] {
        self.wire.unsent.as_deref().unwrap_or_default()
    }

    /// The JSON text of the key, an object of the key columns or a bare scalar.
    pub fn key_text(&self) -> Option<&'a str> {
        self.wire.key.as_deref()
    }

    /// The JSON text of the row after the change. The columns that were not sent are not in it.
    pub fn row_text(&self) -> Option<&'a str> {
        self.wire.after.as_deref()
    }

    /// The JSON text of the row before the change, if it came; see [`before`](Self::before) for what it is worth.
    pub fn before_text(&self) -> Option<&'a str> {
        self.wire.before.as_deref()
    }

    fn columns(&self) -> Option<&'a decode::Columns> {
        self.batch.columns.as_deref()
    }
}
