//! What a transform asks for: typed commands, checked against its declaration and the operator's grants, and folded
//! by target before they are written.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::limits::MEMBER_COST;
use crate::source::Header;

pub mod check;
pub mod collapse;
mod declaration;
pub mod grants;
pub(crate) mod json;
pub mod meaning;
pub mod reserved;

/// The four kinds of store that commands go to. A pipeline binds each to one sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// Rows.
    Tables,
    /// Documents.
    Documents,
    /// Cache entries.
    Cache,
    /// Messages.
    Messages,
}

impl Port {
    /// In the order in which a batch is written: what an earlier one rejects goes no further, and nothing is
    /// published before it is stored.
    pub const ALL: [Self; 4] = [Self::Tables, Self::Documents, Self::Cache, Self::Messages];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tables => "tables",
            Self::Documents => "documents",
            Self::Cache => "cache",
            Self::Messages => "messages",
        }
    }
}

/// A JSON object as its members in order, each value as its own text. Names are unique.
pub type Fields = Vec<(String, Box<RawValue>)>;

/// One command. The WIT file says what each means.
#[derive(Debug, Clone)]
pub enum Command {
    /// Sets a cache entry.
    CacheSet {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// Seconds to live, at least 1.
        ttl_seconds: Option<u32>,
    },
    /// Changes fields of a cache entry that is there.
    CacheMerge {
        /// The key.
        key: String,
        /// The fields.
        fields: Fields,
        /// Seconds to live, at least 1; none leaves the expiry.
        ttl_seconds: Option<u32>,
    },
    /// Deletes a cache entry.
    CacheDelete {
        /// The key.
        key: String,
    },
    /// Inserts a row or changes its named columns.
    RowUpsert(Row),
    /// Changes the named columns of a row that is there.
    RowMerge(Row),
    /// Deletes a row; `values` is empty.
    RowDelete(Row),
    /// Sets a document.
    DocumentIndex {
        /// The index.
        index: String,
        /// The id.
        id: String,
        /// The document, an object on one line.
        body: Box<RawValue>,
    },
    /// Replaces fields of a document that is there.
    DocumentMerge {
        /// The index.
        index: String,
        /// The id.
        id: String,
        /// The fields.
        fields: Fields,
    },
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

/// A row: its key in the order of the declared key columns, and its other columns in the order they were given.
#[derive(Debug, Clone)]
pub struct Row {
    /// The table.
    pub table: String,
    /// The key columns, none null.
    pub key: Fields,
    /// The other columns.
    pub values: Fields,
}

/// The one thing that a command writes. Commands of one target keep their order; between targets there is none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target<'a> {
    /// A cache entry, by its key.
    Cache(Cow<'a, str>),
    /// A row.
    Row {
        /// The table.
        table: Cow<'a, str>,
        /// The JSON texts of the key columns, in the declared order.
        key: Vec<Cow<'a, str>>,
    },
    /// A document.
    Document {
        /// The index.
        index: Cow<'a, str>,
        /// The id.
        id: Cow<'a, str>,
    },
}

impl Target<'_> {
    /// The same, independent of the command it was taken from.
    pub fn into_owned(self) -> Target<'static> {
        fn own(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        match self {
            Self::Cache(key) => Target::Cache(own(key)),
            Self::Row { table, key } => Target::Row { table: own(table), key: key.into_iter().map(own).collect() },
            Self::Document { index, id } => Target::Document { index: own(index), id: own(id) },
        }
    }
}

impl Command {
    /// The names of all kinds, in the order of [`Command::kind_index`].
    pub const KINDS: [&'static str; 10] = [
        "cache-set",
        "cache-merge",
        "cache-delete",
        "row-upsert",
        "row-merge",
        "row-delete",
        "document-index",
        "document-merge",
        "document-delete",
        "publish",
    ];

    /// The place of its kind in [`Command::KINDS`], for counting.
    pub fn kind_index(&self) -> usize {
        match self {
            Self::CacheSet { .. } => 0,
            Self::CacheMerge { .. } => 1,
            Self::CacheDelete { .. } => 2,
            Self::RowUpsert(_) => 3,
            Self::RowMerge(_) => 4,
            Self::RowDelete(_) => 5,
            Self::DocumentIndex { .. } => 6,
            Self::DocumentMerge { .. } => 7,
            Self::DocumentDelete { .. } => 8,
            Self::Publish { .. } => 9,
        }
    }

    /// What it writes; none for a message, which replaces nothing.
    pub fn target(&self) -> Option<Target<'_>> {
        match self {
            Self::CacheSet { key, .. } | Self::CacheMerge { key, .. } | Self::CacheDelete { key } => {
                Some(Target::Cache(key.into()))
            }
            Self::RowUpsert(row) | Self::RowMerge(row) | Self::RowDelete(row) => Some(Target::Row {
                table: row.table.as_str().into(),
                key: row.key.iter().map(|(_, value)| value.get().into()).collect(),
            }),
            Self::DocumentIndex { index, id, .. }
            | Self::DocumentMerge { index, id, .. }
            | Self::DocumentDelete { index, id } => Some(Target::Document { index: index.into(), id: id.into() }),
            Self::Publish { .. } => None,
        }
    }

    /// What the host holds for it, bytes: its texts, and what each member of an object takes beside them.
    pub(crate) fn cost(&self) -> usize {
        let fields = |fields: &Fields| {
            fields.iter().map(|(name, value)| name.len() + value.get().len() + MEMBER_COST).sum::<usize>()
        };
        size_of::<Self>()
            + match self {
                Self::CacheSet { key, value, .. } => key.len() + value.len(),
                Self::CacheMerge { key, fields: patch, .. } => key.len() + fields(patch),
                Self::CacheDelete { key } => key.len(),
                Self::RowUpsert(row) | Self::RowMerge(row) | Self::RowDelete(row) => {
                    row.table.len() + fields(&row.key) + fields(&row.values)
                }
                Self::DocumentIndex { index, id, body } => index.len() + id.len() + body.get().len(),
                Self::DocumentMerge { index, id, fields: patch } => index.len() + id.len() + fields(patch),
                Self::DocumentDelete { index, id } => index.len() + id.len(),
                Self::Publish { topic, key, value, headers } => {
                    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
                    let each = |header: &Header| header.name.len() + bytes(&header.value) + MEMBER_COST;
                    topic.len() + bytes(key) + bytes(value) + headers.iter().map(each).sum::<usize>()
                }
            }
    }

    /// The port it goes to.
    pub fn port(&self) -> Port {
        match self {
            Self::CacheSet { .. } | Self::CacheMerge { .. } | Self::CacheDelete { .. } => Port::Cache,
            Self::RowUpsert(_) | Self::RowMerge(_) | Self::RowDelete(_) => Port::Tables,
            Self::DocumentIndex { .. } | Self::DocumentMerge { .. } | Self::DocumentDelete { .. } => Port::Documents,
            Self::Publish { .. } => Port::Messages,
        }
    }

    /// Whether it changes only what is there already.
    pub fn is_merge(&self) -> bool {
        matches!(self, Self::CacheMerge { .. } | Self::RowMerge(_) | Self::DocumentMerge { .. })
    }

    /// Its name in metrics and reports.
    pub fn kind(&self) -> &'static str {
        Self::KINDS[self.kind_index()]
    }
}
