//! The blocks `[sinks.NAME.KIND]`: the stores that commands go to.

mod elasticsearch;
mod kafka;
mod postgres;
mod redis;
mod sqlite;

use std::collections::BTreeMap;

pub use self::elasticsearch::{Elasticsearch, ElasticsearchCredentials};
pub use self::kafka::{Delivery, Kafka};
pub use self::postgres::Postgres;
pub use self::redis::Redis;
pub use self::sqlite::Sqlite;

use super::block::Block;
use super::pipelines::check_name;
use super::text::Text;
use crate::command::Port;

const KINDS: [&str; 6] = ["redis", "postgres", "elasticsearch", "kafka", "sqlite", "null"];

/// A store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// A cache in Redis or Valkey.
    Redis(Redis),
    /// Tables in PostgreSQL.
    Postgres(Postgres),
    /// Documents in Elasticsearch or OpenSearch.
    Elasticsearch(Elasticsearch),
    /// Messages to Kafka.
    Kafka(Kafka),
    /// All four ports in one SQLite file.
    Sqlite(Sqlite),
    /// Takes every command and keeps nothing, for measuring.
    Null,
}

impl Sink {
    /// The ports that this kind of store serves.
    pub fn ports(&self) -> &'static [Port] {
        match self {
            Self::Redis(_) => &[Port::Cache],
            Self::Postgres(_) => &[Port::Tables],
            Self::Elasticsearch(_) => &[Port::Documents],
            Self::Kafka(_) => &[Port::Messages],
            Self::Sqlite(_) | Self::Null => &Port::ALL,
        }
    }
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
        let known = KINDS.map(|kind| format!("`[{}.{kind}]`", place.field)).join(", ");
        document.problem(&place, cause, format!("write one of {known}"));
    }
    let [redis, postgres, elasticsearch, kafka, sqlite, null] = KINDS.map(|kind| block.block(kind));
    block.finish("sink kind");
    let null = null.map(|block| {
        block.finish("key");
        Sink::Null
    });
    redis
        .and_then(redis::read)
        .map(Sink::Redis)
        .or_else(|| postgres.and_then(postgres::read).map(Sink::Postgres))
        .or_else(|| elasticsearch.and_then(elasticsearch::read).map(Sink::Elasticsearch))
        .or_else(|| kafka.and_then(kafka::read).map(Sink::Kafka))
        .or_else(|| sqlite.and_then(sqlite::read).map(Sink::Sqlite))
        .or(null)
}
