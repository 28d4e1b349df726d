//! Which sinks can be filled anew, and how.

use anyhow::{Context as _, bail};

use crate::config::{self, Config};
use crate::pipeline::open;
use crate::sink::replace::Replacement;
use crate::sink::{elasticsearch, postgres, redis};

/// What is to be replaced.
pub(super) type Target = Box<dyn Replacement>;

/// Whether a sink can be filled anew.
pub(super) fn can_be_replaced(sink: &config::Sink) -> bool {
    match sink {
        config::Sink::Redis(_) | config::Sink::Postgres(_) | config::Sink::Elasticsearch(_) => true,
        config::Sink::Kafka(_) | config::Sink::Sqlite(_) | config::Sink::Null => false,
    }
}

/// Opens a sink, to be filled anew, without connecting.
pub(super) fn open(config: &Config, pipeline: &config::Pipeline, sink: &str) -> anyhow::Result<Target> {
    let Some(options) = config.sinks.get(sink) else { bail!("there is no sink `{sink}`") };
    let place = || format!("sink `{sink}`");
    Ok(match options {
        config::Sink::Elasticsearch(options) => Box::new(
            elasticsearch::Rewind::open(open::elasticsearch(sink, options), &pipeline.name).with_context(place)?,
        ),
        config::Sink::Postgres(options) => {
            Box::new(postgres::Rewind::open(open::postgres(sink, options), &pipeline.name).with_context(place)?)
        }
        config::Sink::Redis(options) => {
            Box::new(redis::Rewind::open(open::redis(sink, options), &pipeline.name).with_context(place)?)
        }
        config::Sink::Kafka(_) => bail!("sink `{sink}` is Kafka: messages are never published again"),
        config::Sink::Sqlite(options) => bail!(
            "sink `{sink}` is a SQLite file: stop what runs, remove {0}, {0}-wal and {0}-shm, and start again: it is filled \
             from the start",
            options.path.shown()
        ),
        config::Sink::Null => bail!("sink `{sink}` keeps nothing"),
    })
}
