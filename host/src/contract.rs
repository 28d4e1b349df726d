//! What a transform declares of itself: the host's own form of the contract's records in `wit/transform.wit`, so
//! that nothing but the engine names wasmtime. The WIT file is the reference; here stands what the host adds.

use crate::limits;
use crate::source::Header;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Inserted.
    Create,
    /// Read by a snapshot.
    Read,
    /// Updated.
    Update,
    /// Deleted.
    Delete,
}

/// The Kafka Connect type of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueType {
    /// `int32`, `string`, `bytes`, `array`, …
    pub connect_type: String,
    /// The semantic type's name.
    pub logical_type: Option<String>,
    /// The scale of a Decimal.
    pub scale: Option<i32>,
}

/// A column of a table, from the schema that came with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub of: ValueType,
    /// The type of an array's elements.
    pub element: Option<ValueType>,
}

/// What `start` answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The transform's name.
    pub name: String,
    /// The transform's version.
    pub version: String,
    /// What `apply` looks at.
    pub inputs: Inputs,
    /// Patterns of cache keys: a literal with at most one `*`, at its end.
    pub cache_keys: Vec<String>,
    /// Tables with their key columns.
    pub tables: Vec<Table>,
    /// Indexes with their definitions.
    pub indexes: Vec<Index>,
    /// Topics.
    pub topics: Vec<String>,
}

/// Which parts of a change a transform looks at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inputs {
    /// Pass the row before the change.
    pub before: bool,
    /// Pass Debezium's `source` object.
    pub source: bool,
    /// Pass the record's headers.
    pub headers: bool,
    /// The columns by table; a table that is not listed is passed whole.
    pub reads: Vec<Reads>,
}

/// The columns that a transform reads of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reads {
    /// The table.
    pub table: String,
    /// Its columns; none = all.
    pub columns: Option<Vec<String>>,
}

/// A table that a transform writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The columns of the key that rows are written by.
    pub key: Vec<String>,
}

/// An index that a transform writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Mappings and settings, as JSON text.
    pub definition: String,
}

/// Why a record is a dead letter: a stable label. The first five are a transform's own words, the others the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// A value, or the whole record, is not what it should be.
    Undecodable,
    /// The record has no key.
    NoKey,
    /// The row before the change was not sent.
    NoBefore,
    /// A column was not sent.
    Unsent,
    /// The transform refused the change.
    Refused,
    /// The transform trapped.
    Trapped,
    /// The transform did not answer before the deadline.
    Deadline,
    /// The transform's answer does not add up, or holds what cannot be executed.
    BadAnswer,
    /// A command lies outside the transform's declaration or the pipeline's grants.
    NotGranted,
    /// The store refused the command.
    Store,
}

impl Fault {
    /// The labels of all faults.
    pub const LABELS: [&'static str; 10] = [
        Self::Undecodable.label(),
        Self::NoKey.label(),
        Self::NoBefore.label(),
        Self::Unsent.label(),
        Self::Refused.label(),
        Self::Trapped.label(),
        Self::Deadline.label(),
        Self::BadAnswer.label(),
        Self::NotGranted.label(),
        Self::Store.label(),
    ];

    /// The label, as it stands in dead letters and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::NoKey => "no-key",
            Self::NoBefore => "no-before",
            Self::Unsent => "unsent",
            Self::Refused => "refused",
            Self::Trapped => "trapped",
            Self::Deadline => "deadline",
            Self::BadAnswer => "bad-answer",
            Self::NotGranted => "not-granted",
            Self::Store => "store",
        }
    }
}

/// Why one change cannot be handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The label.
    pub fault: Fault,
    /// For the operator: place, cause and remedy.
    pub reason: String,
}

impl Rejection {
    /// A rejection with this label and reason. A longer one than anybody reads is cut: what a store says may quote a value
    /// of many megabytes.
    pub fn new(fault: Fault, reason: impl Into<String>) -> Self {
        Self { fault, reason: limits::cut(reason.into(), limits::REASON) }
    }
}

/// A command as a transform gave it: its JSON is text that nobody has looked at yet. [`crate::command`] checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawCommand {
    /// Sets a cache entry.
    CacheSet {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// Seconds to live.
        ttl_seconds: Option<u32>,
    },
    /// Changes fields of a cache entry.
    CacheMerge {
        /// The key.
        key: String,
        /// An object.
        fields: String,
        /// Seconds to live.
        ttl_seconds: Option<u32>,
    },
    /// Deletes a cache entry.
    CacheDelete {
        /// The key.
        key: String,
    },
    /// Upserts a row.
    RowUpsert(RawRow),
    /// Merges into a row.
    RowMerge(RawRow),
    /// Deletes a row.
    RowDelete(RawRow),
    /// Sets a document.
    DocumentIndex(RawDocument),
    /// Merges into a document.
    DocumentMerge(RawDocument),
    /// Deletes a document.
    DocumentDelete {
        /// The index.
        index: String,
        /// The id.
        id: String,
    },
    /// Publishes a message.
    Publish {
        /// The topic.
        topic: String,
        /// The key.
        key: Option<Vec<u8>>,
        /// The value.
        value: Option<Vec<u8>>,
        /// The headers.
        headers: Vec<Header>,
    },
}

/// A row as a transform gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRow {
    /// The table.
    pub table: String,
    /// An object.
    pub values: String,
}

/// A document as a transform gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawDocument {
    /// The index.
    pub index: String,
    /// The id.
    pub id: String,
    /// An object.
    pub body: String,
}

/// As much of a module's name for something as a message has room for, and what stands for the rest.
pub(crate) fn beginning(name: &str) -> (&str, &'static str) {
    const LONGEST: usize = 120;
    name.char_indices().nth(LONGEST).map_or((name, ""), |(end, _)| (&name[..end], "…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_quotes_a_huge_value_is_cut_between_characters() {
        let reason = Rejection::new(Fault::Store, format!("x{}", "é".repeat(1 << 20))).reason;
        assert_eq!(reason, format!("x{}…", "é".repeat(limits::REASON.most / 2 - 1)));
        assert_eq!(Rejection::new(Fault::Store, "short").reason, "short");
    }
}
