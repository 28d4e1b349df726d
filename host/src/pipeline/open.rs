//! Opens what a configuration names: the stores, each once, and the place for dead letters.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};

use super::dead_letter::DeadLetterFile;
use crate::config::{self, Config, DeadLetterStore};
use crate::sink::{self, Sink};

/// Opens the stores, each once. Those of the network are not connected yet.
pub(super) fn sinks(config: &Config) -> anyhow::Result<BTreeMap<String, Arc<dyn Sink>>> {
    let open = |(name, sink): (&String, &config::Sink)| {
        let opened = open(name, sink).with_context(|| format!("sink `{name}`"))?;
        Ok((name.clone(), opened))
    };
    config.sinks.iter().map(open).collect()
}

fn open(name: &str, sink: &config::Sink) -> anyhow::Result<Arc<dyn Sink>> {
    Ok(match sink {
        config::Sink::Null => Arc::new(sink::null::Null::new(name)),
        config::Sink::Redis(_) => bail!("Redis cannot be written yet"),
        config::Sink::Postgres(_) => bail!("PostgreSQL cannot be written yet"),
        config::Sink::Elasticsearch(options) => Arc::new(elasticsearch(name, options)?),
        config::Sink::Kafka(_) => bail!("Kafka cannot be written yet"),
        config::Sink::Sqlite(options) => Arc::new(sink::sqlite::Sqlite::open(sink::sqlite::Options {
            name: name.to_owned(),
            path: options.path.as_path().to_path_buf(),
            table_prefix: options.table_prefix.to_string(),
            seed: options.seed.as_ref().map(|seed| seed.as_path().to_path_buf()),
        })?),
    })
}

fn elasticsearch(
    name: &str,
    options: &config::Elasticsearch,
) -> Result<sink::elasticsearch::Elasticsearch, sink::SinkError> {
    use config::ElasticsearchCredentials as Given;
    use sink::elasticsearch::{Credentials, Elasticsearch, Options};

    let credentials = options.credentials.as_ref().map(|credentials| match credentials {
        Given::Password { username, password } => {
            Credentials::Password { username: username.to_string(), password: password.to_string() }
        }
        Given::ApiKey(key) => Credentials::ApiKey(key.to_string()),
    });
    Elasticsearch::open(Options {
        name: name.to_owned(),
        urls: options.urls.iter().map(|url| url.to_string()).collect(),
        credentials,
        ca: options.ca.as_ref().map(|path| path.as_path().to_path_buf()),
        index_prefix: options.index_prefix.to_string(),
        ledger_index: options.ledger_index.to_string(),
        max_request_bytes: options.max_request_bytes,
        compress: options.compress,
        timeout_ms: options.timeout_ms,
    })
}

/// Opens the place for dead letters.
pub(super) fn dead_letters(config: &Config) -> anyhow::Result<DeadLetterFile> {
    let letters = &config.dead_letters;
    match &letters.to {
        DeadLetterStore::File(path) => DeadLetterFile::open(path.as_path(), letters.max_value_bytes)
            .with_context(|| format!("cannot use {} for dead letters", path.shown())),
        DeadLetterStore::Kafka(_) => bail!("dead letters cannot go to Kafka yet"),
    }
}
