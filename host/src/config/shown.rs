//! The configuration as it is in effect, for whoever asks the running program: every key under its name in the file,
//! defaults filled in, nothing that is secret.

use serde_json::{Map, Value, json};

use super::secret::{shown as secret, shown_address, shown_settings};
use super::text::{FilePath, Text};
use super::transforms::Promote;
use super::{
    AdminAddress, Assignment, Config, DeadLetterStore, Delivery, ElasticsearchCredentials, KafkaClient, KafkaSasl,
    OnLost, OnLostCache, OnTruncate, Pipeline, Sink, Source,
};
use crate::command::Port;
use crate::event::Format;

impl Config {
    /// The whole of it as JSON. References are shown as they are written, never what they stand for; passwords, keys
    /// and tokens that stand in the file itself are left out, of settings of transforms those whose names say so.
    pub fn shown(&self) -> Value {
        let source = match &self.source {
            Source::File(source) => json!({ "file": { "paths": texts(&source.paths) } }),
            Source::Kafka(source) => {
                let mut kafka = client(&source.client);
                let assignment = match source.assignment {
                    Assignment::Eager => "eager",
                    Assignment::Cooperative => "cooperative",
                };
                kafka.insert("assignment".into(), assignment.into());
                kafka.insert("instance".into(), optional(source.instance.as_ref()));
                json!({ "kafka": kafka })
            }
        };
        let sinks: Map<_, _> = self.sinks.iter().map(|(name, one)| (name.clone(), sink(one))).collect();
        let limits = &self.engine.limits;
        json!({
            "file": self.file.display().to_string(),
            "source": source,
            "sinks": sinks,
            "dead_letters": self.shown_dead_letters(),
            "engine": {
                "cache": self.engine.cache.as_ref().map_or(Value::Bool(false), |path| path.shown().into()),
                "deadline_ms": limits.call_deadline.as_millis(),
                "memory_mb": limits.memory_bytes >> 20,
                "max_module_mb": limits.module_bytes >> 20,
                "compile_seconds": limits.compile_time.as_secs(),
                "compile_memory_mb": limits.compile_memory_bytes >> 20,
                "calls_per_instance": limits.calls_per_instance,
                "max_commands_per_change": limits.commands_per_change,
                "max_answer_mb": limits.answer_bytes >> 20,
                "shutdown_seconds": self.engine.shutdown.as_secs(),
            },
            "admin": self.admin.as_ref().map(|admin| json!({
                "listen": match &admin.listen {
                    AdminAddress::Tcp(address) => address.to_string(),
                    AdminAddress::Unix(path) => format!("unix:{}", path.shown()),
                },
                "token": admin.token.as_ref().map(secret),
                "max_body_mb": admin.max_body_bytes >> 20,
                "timeout_seconds": admin.timeout.as_secs(),
            })),
            "pipelines": self.pipelines.iter().map(pipeline).collect::<Vec<_>>(),
        })
    }

    fn shown_dead_letters(&self) -> Value {
        let mut shown = Map::new();
        shown.insert("max_value_bytes".into(), self.dead_letters.max_value_bytes.into());
        match &self.dead_letters.to {
            DeadLetterStore::File(path) => {
                shown.insert("path".into(), path.shown().into());
                json!({ "file": shown })
            }
            DeadLetterStore::Kafka(to) => {
                shown.insert("topic".into(), to.topic.as_str().into());
                shown.extend(to.client.iter().flat_map(client));
                json!({ "kafka": shown })
            }
        }
    }
}

fn pipeline(pipeline: &Pipeline) -> Value {
    let transforms = pipeline.transforms.iter().map(|transform| {
        let grants: Map<_, _> =
            Port::ALL.iter().map(|port| (port.name().to_owned(), texts(transform.grants.of(*port)))).collect();
        let settings = transform.settings.shown();
        json!({
            "name": transform.name,
            "module": transform.module.shown(),
            "settings": serde_json::from_str::<Value>(settings).map_or(Value::Null, shown_settings),
            "grants": grants,
            "shadow": transform.shadow.as_ref().map(|shadow| json!({
                "events": shadow.events,
                "seconds": shadow.time.as_secs(),
                "promote": if shadow.promote == Promote::ByRule { "by-rule" } else { "by-hand" },
                "differences": shadow.differences,
                "times_slower": shadow.times_slower,
            })),
            "digest": transform.digest.as_ref().map(|digest| format!("sha256:{digest}")),
        })
    });
    let on_lost = |policy| match policy {
        OnLost::Stop => "stop",
        OnLost::Continue => "continue",
    };
    let sinks: Map<_, _> =
        pipeline.sinks.iter().map(|(port, sink)| (port.name().into(), sink.clone().into())).collect();
    json!({
        "name": pipeline.name,
        "topics": pipeline.topics,
        "group": pipeline.group,
        "format": match pipeline.format {
            Format::Envelope => "debezium-envelope",
            Format::Flattened => "debezium-flattened",
            Format::Auto => "auto",
        },
        "on_truncate": match pipeline.on_truncate {
            OnTruncate::Stop => "stop",
            OnTruncate::Ignore => "ignore",
            OnTruncate::RefuseFill => "refuse",
        },
        "on_lost_records": on_lost(pipeline.on_lost_records),
        "on_changed_topic": on_lost(pipeline.on_changed_topic),
        "on_lost_cache": match pipeline.on_lost_cache {
            OnLostCache::Rebuild => "rebuild",
            OnLostCache::Stop => "stop",
        },
        "clash_patience_seconds": pipeline.clash_patience.as_secs(),
        "breaker": { "in_a_row": pipeline.breaker.in_a_row, "percent": pipeline.breaker.percent },
        "unavailable_placeholder": pipeline.unavailable_placeholder.shown(),
        "flattened_prefix": pipeline.flattened_prefix.shown(),
        "flattened_tombstone_is_delete": pipeline.flattened_tombstone_is_delete,
        "heartbeat_prefix": pipeline.heartbeat_prefix.shown(),
        "lanes": pipeline.lanes,
        "batch": { "max_events": pipeline.batch.max_events, "max_bytes": pipeline.batch.max_bytes },
        "sinks": sinks,
        "transforms": transforms.collect::<Vec<_>>(),
    })
}

fn sink(sink: &Sink) -> Value {
    match sink {
        Sink::Redis(redis) => json!({ "redis": {
            "url": shown_address(&redis.url),
            "ca": path(redis.ca.as_ref()),
            "certificate": path(redis.identity.as_ref().map(|(certificate, _)| certificate)),
            "key": path(redis.identity.as_ref().map(|(_, key)| key)),
            "prefix": redis.prefix.shown(),
            "timeout_ms": redis.timeout.as_millis(),
        } }),
        Sink::Postgres(postgres) => json!({ "postgres": {
            "url": shown_address(&postgres.url),
            "schema": postgres.schema.shown(),
            "ledger_schema": postgres.ledger_schema.shown(),
            "ca": path(postgres.ca.as_ref()),
            "certificate": path(postgres.certificate.as_ref()),
            "key": path(postgres.key.as_ref()),
            "statement_timeout_ms": postgres.statement_timeout.as_millis(),
        } }),
        Sink::Elasticsearch(search) => {
            let (username, password, api_key) = match &search.credentials {
                None => (None, None, None),
                Some(ElasticsearchCredentials::Password { username, password }) => {
                    (Some(username.shown()), Some(secret(password)), None)
                }
                Some(ElasticsearchCredentials::ApiKey(key)) => (None, None, Some(secret(key))),
            };
            json!({ "elasticsearch": {
                "url": search.urls.iter().map(shown_address).collect::<Vec<_>>(),
                "username": username,
                "password": password,
                "api_key": api_key,
                "ca": path(search.ca.as_ref()),
                "index_prefix": search.index_prefix.shown(),
                "ledger_index": search.ledger_index.shown(),
                "max_request_bytes": search.max_request_bytes,
                "compress": search.compress,
                "timeout_ms": search.timeout_ms,
            } })
        }
        Sink::Kafka(kafka) => {
            let word = Delivery::ALL.iter().find(|(_, delivery)| *delivery == kafka.delivery).map(|(word, _)| *word);
            let mut shown = client(&kafka.client);
            shown.insert("delivery".into(), word.into());
            shown.insert("ledger_topic".into(), kafka.ledger_topic.as_str().into());
            json!({ "kafka": shown })
        }
        Sink::Sqlite(sqlite) => json!({ "sqlite": {
            "path": sqlite.path.shown(),
            "table_prefix": sqlite.table_prefix.shown(),
            "seed": path(sqlite.seed.as_ref()),
        } }),
        Sink::Null => json!({ "null": {} }),
    }
}

fn client(client: &KafkaClient) -> Map<String, Value> {
    // Among librdkafka's properties are passwords, keys as text, and whatever a plugin takes.
    let properties: Map<_, _> =
        client.properties.iter().map(|(name, value)| (name.clone(), secret(value).into())).collect();
    let tls = client.tls.as_ref().map_or(Value::Bool(false), |tls| {
        json!({ "ca": path(tls.ca.as_ref()), "certificate": path(tls.certificate.as_ref()), "key": path(tls.key.as_ref()) })
    });
    let sasl = client.sasl.as_ref().map(|sasl| match sasl {
        KafkaSasl::Password { mechanism, username, password } => {
            json!({ "mechanism": mechanism, "username": username.shown(), "password": secret(password) })
        }
        KafkaSasl::Token { file } => json!({ "mechanism": "OAUTHBEARER", "token_file": file.shown() }),
    });
    let all = [
        ("brokers", client.brokers.shown().into()),
        ("tls", tls),
        ("sasl", sasl.unwrap_or_default()),
        ("properties", properties.into()),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn texts(texts: &[Text]) -> Value {
    texts.iter().map(Text::shown).collect::<Vec<_>>().into()
}

fn optional(text: Option<&Text>) -> Value {
    text.map(Text::shown).into()
}

fn path(path: Option<&FilePath>) -> Value {
    path.map(FilePath::shown).into()
}
