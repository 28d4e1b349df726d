//! Names of tables and columns as PostgreSQL takes them.

use crate::sink::replace::COPIES;

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

/// What a schema is that a transform names and may not write: the database's own, the ledger's, or that of copies. In any
/// spelling, since nobody else has a table there.
pub(super) fn reserved(name: &str, ledger_schema: &str) -> Option<&'static str> {
    let (schema, _) = name.split_once('.')?;
    let schema = schema.replace('"', "").trim().to_lowercase();
    match schema.as_str() {
        schema if schema.starts_with("pg_") || schema == "information_schema" => Some("the database's own"),
        schema if schema == ledger_schema.to_lowercase() => Some("the ledger's"),
        schema if schema.starts_with(COPIES) => Some("that of a replacement which is being filled"),
        _ => None,
    }
}

/// Whether PostgreSQL has a column of this name in every table, which nobody can write.
pub(super) fn is_system_column(name: &str) -> bool {
    ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"].contains(&name)
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
