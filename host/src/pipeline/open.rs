//! Opens what a configuration names: the source of a pipeline, the stores, each once, and the place for dead letters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;

use anyhow::{Context, bail};

use super::commit::CommitMetadata;
use super::dead_letter::{DeadLetterFile, DeadLetterTopic, DeadLetters};
use crate::config::{self, Config, DeadLetterStore, Delivery, KafkaClient};
use crate::sink::{self, Sink};
use crate::source::status::Status;
use crate::source::{Control, FileSource, KafkaSource, LaneQueue};

/// Where a pipeline's records come from.
#[derive(Clone)]
pub(super) enum Source {
    /// Recorded events.
    File(FileSource),
    /// A Kafka cluster.
    Kafka(KafkaSource),
}

impl Source {
    /// The metadata of the commits that the pipeline's group has made, empty ones left out.
    pub(super) fn committed(&self, stop: &AtomicBool) -> anyhow::Result<Vec<String>> {
        match self {
            Self::File(_) => Ok(Vec::new()),
            Self::Kafka(source) => source.committed(stop),
        }
    }

    /// What has the lag seen of a pipeline that has stopped.
    pub(super) fn follower(&self) -> Option<KafkaSource> {
        match self {
            Self::File(_) => None,
            Self::Kafka(source) => Some(source.clone()),
        }
    }

    /// Reads until the lanes stop, `stop` is set, or nothing more will ever come.
    pub(super) fn run(
        self,
        lanes: &[Arc<LaneQueue>],
        control: &Receiver<Control>,
        stop: &AtomicBool,
    ) -> anyhow::Result<()> {
        match self {
            Self::File(source) => source.run(lanes, control, stop),
            Self::Kafka(source) => source.run(lanes, control, stop),
        }
    }
}

/// Opens the source of a pipeline. One of the network is not connected yet.
pub(super) fn source(config: &Config, pipeline: &config::Pipeline, seen_by: &Arc<Status>) -> anyhow::Result<Source> {
    match &config.source {
        config::Source::File(files) => {
            // Nobody else shares them.
            seen_by.settle();
            Ok(Source::File(FileSource {
                paths: files.files()?,
                topics: pipeline.topics.iter().map(|topic| topic.as_str().to_owned()).collect(),
            }))
        }
        config::Source::Kafka(source) => {
            let source = KafkaSource::new(source, pipeline).seen_by(seen_by.clone());
            Ok(Source::Kafka(source.counting(CommitMetadata::count)))
        }
    }
}

/// Opens the stores, each once. Those of the network are not connected yet.
pub(super) fn sinks(config: &Config) -> anyhow::Result<BTreeMap<String, Arc<dyn Sink>>> {
    let open = |(name, sink): (&String, &config::Sink)| {
        let opened = match (sink, &config.source) {
            // Exactly once needs no bound on how late a message may come: its ledger fences.
            (config::Sink::Kafka(kafka), config::Source::Kafka(source)) if kafka.delivery == Delivery::AtLeastOnce => {
                let client = sink::kafka::settled_within(source.session() / 2, &kafka.client);
                self::sink(name, &config::Sink::Kafka(config::Kafka::at_least_once(client)))
            }
            _ => self::sink(name, sink),
        };
        let opened = opened.with_context(|| format!("sink `{name}`"))?;
        Ok((name.clone(), opened))
    };
    config.sinks.iter().map(open).collect()
}

/// Opens one store.
pub(super) fn sink(name: &str, sink: &config::Sink) -> anyhow::Result<Arc<dyn Sink>> {
    Ok(match sink {
        config::Sink::Null => Arc::new(sink::null::Null::new()),
        config::Sink::Redis(options) => Arc::new(sink::redis::Redis::open(redis(name, options))?),
        config::Sink::Postgres(options) => Arc::new(sink::postgres::Postgres::open(postgres(name, options))?),
        config::Sink::Kafka(kafka) => match kafka.delivery {
            Delivery::AtLeastOnce => Arc::new(sink::kafka::Kafka::open(&kafka.client)?),
            Delivery::ExactlyOnce => {
                let (client, ledger_topic) = (kafka.client.clone(), kafka.ledger_topic.clone());
                let options = sink::kafka::exactly_once::Options { name: name.to_owned(), client, ledger_topic };
                Arc::new(sink::kafka::exactly_once::ExactlyOnce::open(options)?)
            }
        },
        config::Sink::Elasticsearch(options) => {
            Arc::new(sink::elasticsearch::Elasticsearch::open(elasticsearch(name, options))?)
        }
        config::Sink::Sqlite(options) => Arc::new(sink::sqlite::Sqlite::open(sink::sqlite::Options {
            name: name.to_owned(),
            path: options.path.as_path().to_path_buf(),
            table_prefix: options.table_prefix.to_string(),
            seed: options.seed.as_ref().map(|seed| seed.as_path().to_path_buf()),
        })?),
    })
}

/// How a cache in Redis is opened.
pub(crate) fn redis(name: &str, options: &config::Redis) -> sink::redis::Options {
    sink::redis::Options {
        name: name.to_owned(),
        url: options.url.to_string(),
        ca: options.ca.as_ref().map(|path| path.as_path().to_path_buf()),
        identity: options
            .identity
            .as_ref()
            .map(|(certificate, key)| (certificate.as_path().to_path_buf(), key.as_path().to_path_buf())),
        prefix: options.prefix.to_string(),
        timeout: options.timeout,
    }
}

/// How tables in PostgreSQL are opened.
pub(crate) fn postgres(name: &str, options: &config::Postgres) -> sink::postgres::Options {
    sink::postgres::Options {
        name: name.to_owned(),
        url: options.url.to_string(),
        schema: options.schema.to_string(),
        ledger_schema: options.ledger_schema.to_string(),
        ca: options.ca.as_ref().map(|path| path.as_path().to_path_buf()),
        certificate: options.certificate.as_ref().map(|path| path.as_path().to_path_buf()),
        key: options.key.as_ref().map(|path| path.as_path().to_path_buf()),
        statement_timeout: options.statement_timeout,
    }
}

/// How documents in Elasticsearch are opened.
pub(crate) fn elasticsearch(name: &str, options: &config::Elasticsearch) -> sink::elasticsearch::Options {
    use config::ElasticsearchCredentials as Given;
    use sink::elasticsearch::{Credentials, Options};

    let credentials = options.credentials.as_ref().map(|credentials| match credentials {
        Given::Password { username, password } => {
            Credentials::Password { username: username.to_string(), password: password.to_string() }
        }
        Given::ApiKey(key) => Credentials::ApiKey(key.to_string()),
    });
    Options {
        name: name.to_owned(),
        urls: options.urls.iter().map(|url| url.to_string()).collect(),
        credentials,
        ca: options.ca.as_ref().map(|path| path.as_path().to_path_buf()),
        index_prefix: options.index_prefix.to_string(),
        ledger_index: options.ledger_index.to_string(),
        max_request_bytes: options.max_request_bytes,
        compress: options.compress,
        timeout_ms: options.timeout_ms,
    }
}

/// Opens the place for dead letters.
pub(super) fn dead_letters(config: &Config) -> anyhow::Result<DeadLetters> {
    let letters = &config.dead_letters;
    match &letters.to {
        DeadLetterStore::File(path) => DeadLetterFile::open(path.as_path(), letters.max_value_bytes)
            .map(DeadLetters::File)
            .with_context(|| format!("cannot use {} for dead letters", path.shown())),
        DeadLetterStore::Kafka(to) => DeadLetterTopic::open(cluster(config, to)?, &to.topic, letters.max_value_bytes)
            .map(DeadLetters::Kafka)
            .context(match to.client {
                Some(_) => "cannot use [dead_letters.kafka]",
                None => "cannot use [dead_letters.kafka] with what [source.kafka] says of the cluster",
            }),
    }
}

/// The cluster of a topic of dead letters: its own, or the source's.
pub(super) fn cluster<'a>(config: &'a Config, topic: &'a config::DeadLetterTopic) -> anyhow::Result<&'a KafkaClient> {
    match (&topic.client, &config.source) {
        (Some(client), _) => Ok(client),
        (None, config::Source::Kafka(source)) => Ok(&source.client),
        (None, config::Source::File(_)) => bail!("[dead_letters.kafka] names no `brokers`, and the source has none"),
    }
}
