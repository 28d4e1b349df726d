//! What a transform asks for: typed commands, checked against its declaration and the operator's grants, and folded
//! by target before they are written.

use serde_json::value::RawValue;

use crate::source::Header;

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

impl Command {
    /// The port it goes to.
    pub fn port(&self) -> Port {
        match self {
            Self::CacheSet { .. } | Self::CacheMerge { .. } | Self::CacheDelete { .. } => Port::Cache,
            Self::RowUpsert(_) | Self::RowMerge(_) | Self::RowDelete(_) => Port::Tables,
            Self::DocumentIndex { .. } | Self::DocumentMerge { .. } | Self::DocumentDelete { .. } => Port::Documents,
            Self::Publish { .. } => Port::Messages,
        }
    }

    /// Its name in metrics and reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CacheSet { .. } => "cache-set",
            Self::CacheMerge { .. } => "cache-merge",
            Self::CacheDelete { .. } => "cache-delete",
            Self::RowUpsert(_) => "row-upsert",
            Self::RowMerge(_) => "row-merge",
            Self::RowDelete(_) => "row-delete",
            Self::DocumentIndex { .. } => "document-index",
            Self::DocumentMerge { .. } => "document-merge",
            Self::DocumentDelete { .. } => "document-delete",
            Self::Publish { .. } => "publish",
        }
    }
}
