//! Names of tables and columns as PostgreSQL takes them.

/// The longest name, bytes. PostgreSQL cuts a longer one off in silence, and might meet another's.
pub(super) const LONGEST: usize = 63;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableName {
    pub(super) schema: String,
    pub(super) table: String,
}

impl TableName {
    /// The table that a transform means: `schema.table`, or a table of the sink's own schema.
    pub(super) fn new(name: &str, default_schema: &str) -> Self {
        let (schema, table) = name.split_once('.').unwrap_or((default_schema, name));
        Self { schema: schema.to_owned(), table: table.to_owned() }
    }

    /// Quoted, with its schema.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
