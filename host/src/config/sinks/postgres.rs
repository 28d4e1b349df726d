//! `[sinks.NAME.postgres]`.

use crate::config::block::Block;
use crate::config::text::Text;

/// `[sinks.NAME.postgres]`: tables in PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// Where it is.
    pub url: Text,
}

pub(super) fn read(mut block: Block<'_>) -> Option<Postgres> {
    let url = block.text("url");
    let url = block.required("url", url, "give it, as `url = \"postgres://user@localhost/database\"`");
    block.finish("key");
    Some(Postgres { url: url?.value })
}
