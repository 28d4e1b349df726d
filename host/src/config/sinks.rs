//! The blocks `[sinks.NAME.KIND]`: the stores that commands go to.

use std::collections::BTreeMap;

use super::block::Block;
use super::pipelines::check_name;
use super::text::{FilePath, Text};

/// A store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// All four ports in one SQLite file.
    Sqlite(Sqlite),
    /// Takes every command and keeps nothing, for measuring.
    Null,
}

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

/// The sinks of a file.
pub(super) struct Sinks {
    /// Those that could be read.
    pub(super) known: BTreeMap<String, Sink>,
    /// The names of all, so that one mistake in a sink is not a second one where it is bound.
    pub(super) names: Vec<String>,
}

pub(super) fn read(root: &mut Block<'_>) -> Sinks {
    let mut sinks = Sinks { known: BTreeMap::new(), names: Vec::new() };
    let block = root.block("sinks");
    let Some(mut block) = root.required("sinks", block, "add a sink, as `[sinks.store.sqlite]`") else { return sinks };
    sinks.names = block.names();
    for name in sinks.names.clone() {
        if let Some(sink) = block.block(&name) {
            check_name(sink.document(), &sink.place(), &Text::plain(name.clone()));
            if let Some(sink) = read_sink(sink) {
                sinks.known.insert(name, sink);
            }
        }
    }
    sinks
}

fn read_sink(mut block: Block<'_>) -> Option<Sink> {
    let place = block.place();
    let document = block.document();
    let kinds = block.names().len();
    if kinds != 1 {
        let cause = if kinds == 0 { "it has no kind" } else { "it has more than one kind" };
        let remedy = format!("write one of `[{0}.sqlite]`, `[{0}.null]`", place.field);
        document.problem(&place, cause, remedy);
    }
    let sqlite = block.block("sqlite");
    let null = block.block("null");
    block.finish("sink kind");
    let null = null.map(|block| {
        block.finish("key");
        Sink::Null
    });
    let sqlite = sqlite.and_then(read_sqlite).map(Sink::Sqlite);
    sqlite.or(null)
}

fn read_sqlite(mut block: Block<'_>) -> Option<Sqlite> {
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
