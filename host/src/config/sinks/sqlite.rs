//! `[sinks.NAME.sqlite]`.

use crate::config::block::Block;
use crate::config::text::{FilePath, Text};

/// `[sinks.NAME.sqlite]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sqlite {
    /// The file; made on the first start. Several sinks may share one.
    pub path: FilePath,
    /// What the names of this sink's tables begin with; empty for nothing.
    pub table_prefix: Text,
    /// A file of cache entries that are written in the transaction which makes this sink's first ledger, and never
    /// again. The sink's own documentation has its format.
    pub seed: Option<FilePath>,
}

pub(super) fn read(mut block: Block<'_>) -> Option<Sqlite> {
    let document = block.document();
    let path = block.path("path");
    let path = block.required("path", path, "name the file, as `path = \"store.db\"`");
    let prefix = block.text("table_prefix");
    if let Some(prefix) = prefix.as_ref() {
        let plain = prefix.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !plain || prefix.value.len() > 64 {
            let cause = format!("`{}` is no prefix of a table's name", prefix.value.shown());
            document.problem(&prefix.place, cause, "use at most 64 letters, digits and `_`");
        }
    }
    let seed = block.path("seed");
    if let Some(seed) = seed.as_ref().filter(|seed| !seed.value.is_file()) {
        let cause = format!("there is no file `{}`", seed.value.shown());
        document.problem(&seed.place, cause, "correct the path, or leave the key out");
    }
    block.finish("key");
    let table_prefix = prefix.map(|prefix| prefix.value).unwrap_or_default();
    Some(Sqlite { path: path?.value, table_prefix, seed: seed.map(|seed| seed.value) })
}
