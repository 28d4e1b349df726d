//! What of a configuration is secret, wherever it was written: values of keys that are passwords, keys or tokens, and the
//! parts of an address that are.

use std::ops::Range;

use serde_json::Value;

use super::text::{Reference, Text, redact};
use super::{Config, DeadLetterStore, ElasticsearchCredentials, KafkaClient, KafkaSasl, Sink, Source};

/// What stands in the place of a secret.
pub(super) const HIDDEN: &str = "…";
/// A shorter secret is not looked for in the words of others: it may be a part of any word.
const SHORTEST: usize = 6;

/// Parts of the names of parameters and properties whose values are secret.
const WORDS: [&str; 7] = ["pass", "pwd", "secret", "token", "key", "auth", "cred"];
/// The same for settings, where a key is mostly one of a table or a cache.
const WORDS_OF_SETTINGS: [&str; 9] =
    ["pass", "pwd", "secret", "token", "apikey", "privatekey", "accesskey", "authorization", "credential"];

/// The secrets of a configuration, for what others write about it: an error of a driver, a line of the log.
#[derive(Clone)]
pub struct Secrets(Vec<Reference>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Secrets").field(&self.0.len()).finish()
    }
}

impl Secrets {
    /// A text without the secrets in it.
    pub fn hide(&self, text: &str) -> String {
        redact(&self.0, text)
    }
}

impl Config {
    /// Its secrets, from references or not. One of less than six bytes is not among them, nor one that is also a name in
    /// the configuration: hiding a name would tell what it is.
    pub fn secrets(&self) -> Secrets {
        let mut found = Vec::new();
        if let Source::Kafka(source) = &self.source {
            of_client(&source.client, &mut found);
        }
        if let DeadLetterStore::Kafka(topic) = &self.dead_letters.to {
            topic.client.iter().for_each(|client| of_client(client, &mut found));
        }
        for sink in self.sinks.values() {
            match sink {
                Sink::Redis(redis) => of_address(&redis.url, &mut found),
                Sink::Postgres(postgres) => of_address(&postgres.url, &mut found),
                Sink::Elasticsearch(search) => {
                    search.urls.iter().for_each(|url| of_address(url, &mut found));
                    match &search.credentials {
                        None => {}
                        Some(ElasticsearchCredentials::Password { password, .. }) => whole(password, &mut found),
                        Some(ElasticsearchCredentials::ApiKey(key)) => whole(key, &mut found),
                    }
                }
                Sink::Kafka(kafka) => of_client(&kafka.client, &mut found),
                Sink::Sqlite(_) | Sink::Null => {}
            }
        }
        found.extend(self.admin.iter().filter_map(|admin| admin.token.as_ref()).map(reference));
        for transform in self.pipelines.iter().flat_map(|pipeline| &pipeline.transforms) {
            if let Ok(settings) = serde_json::from_str(transform.settings.as_str()) {
                of_settings(&settings, &mut found);
            }
        }
        let named = format!("tidegate postgres {}", self.shown());
        found.retain(|secret| secret.value.len() >= SHORTEST && !named.contains(&secret.value));
        Secrets(found)
    }
}

fn reference(text: &Text) -> Reference {
    Reference { written: shown(text).to_owned(), value: text.as_str().to_owned() }
}

fn hidden(value: &str) -> Reference {
    Reference { written: HIDDEN.to_owned(), value: value.to_owned() }
}

fn whole(text: &Text, found: &mut Vec<Reference>) {
    found.push(reference(text));
}

fn of_client(client: &KafkaClient, found: &mut Vec<Reference>) {
    if let Some(KafkaSasl::Password { password, .. }) = &client.sasl {
        whole(password, found);
    }
    for (name, value) in &client.properties {
        if is_secret(name, &WORDS) && !name.ends_with(".location") {
            whole(value, found);
            // A list of pairs, such as `sasl.oauthbearer.config`, is quoted in part.
            of_address(value, found);
        }
    }
}

/// The parts of an address, as they are written there and as they are decoded.
fn of_address(text: &Text, found: &mut Vec<Reference>) {
    let address = text.as_str();
    for part in parts(address) {
        let value = address[part].trim_matches('\'');
        found.push(hidden(value));
        found.push(hidden(&decoded(value)));
        found.push(hidden(&value.replace("\\'", "'").replace("\\\\", "\\")));
    }
}

fn of_settings(settings: &Value, found: &mut Vec<Reference>) {
    match settings {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if is_secret(name, &WORDS_OF_SETTINGS) => found.push(hidden(text)),
                    other => of_settings(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| of_settings(item, found)),
        _ => {}
    }
}

/// A text that is one reference and nothing else is shown as that reference, any other not at all.
pub(super) fn shown(text: &Text) -> &str {
    if is_reference(text.shown()) { text.shown() } else { HIDDEN }
}

/// An address without what is secret in it.
pub(super) fn shown_address(text: &Text) -> String {
    let mut shown = text.shown().to_owned();
    for part in parts(&shown).into_iter().rev() {
        if !is_reference(&shown[part.clone()]) {
            shown.replace_range(part, HIDDEN);
        }
    }
    shown
}

/// Settings without the texts whose names say that they are secret.
pub(super) fn shown_settings(settings: Value) -> Value {
    match settings {
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| match value {
                Value::String(text) if is_secret(&name, &WORDS_OF_SETTINGS) && !is_reference(&text) => {
                    (name, HIDDEN.into())
                }
                other => (name, shown_settings(other)),
            });
            Value::Object(members.collect())
        }
        Value::Array(items) => items.into_iter().map(shown_settings).collect(),
        other => other,
    }
}

fn is_reference(shown: &str) -> bool {
    let inside = shown.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inside.is_some_and(|inside| !inside.contains(['$', '{', '}']))
}

/// Whether a name is one of a secret, however it is spelled: `api_key`, `apiKey`, `API-KEY`.
fn is_secret(name: &str, words: &[&str]) -> bool {
    let plain: String = decoded(name).chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    words.iter().any(|word| plain.contains(word))
}

/// The secret parts of an address, in order and apart: the password before the host, and the values of parameters,
/// whether in a query or in a list of pairs.
fn parts(address: &str) -> Vec<Range<usize>> {
    let masked = without_references(address);
    let mut parts: Vec<Range<usize>> = Vec::new();
    let begin = masked.find("://").map_or(0, |at| at + 3);
    // A password may hold an @ that nobody has encoded.
    if let Some(at) = masked[begin..].rfind('@').map(|at| begin + at)
        && let Some(colon) = masked[begin..at].find(':').map(|colon| begin + colon)
    {
        parts.push(colon + 1..at);
    }
    for (equals, _) in masked.match_indices('=') {
        let before = masked[..equals].trim_end();
        let name =
            before.rfind(['?', '&', ';', '#', '/', ' ', '\t', '\n', '\'', '"']).map_or(before, |at| &before[at + 1..]);
        if !is_secret(name, &WORDS) {
            continue;
        }
        let value = masked[equals + 1..].trim_start();
        let from = masked.len() - value.len();
        let length = if value.starts_with('\'') {
            // What a quoted value holds is not looked at; nothing of what follows is worth the risk.
            value.len()
        } else if masked.contains("://") {
            value.find('&').unwrap_or(value.len())
        } else {
            value.find(char::is_whitespace).unwrap_or(value.len())
        };
        parts.push(from..from + length);
    }
    parts.retain(|part| !part.is_empty());
    parts.sort_by_key(|part| part.start);
    let mut apart: Vec<Range<usize>> = Vec::new();
    for part in parts {
        match apart.last_mut() {
            Some(last) if part.start < last.end => last.end = last.end.max(part.end),
            _ => apart.push(part),
        }
    }
    apart
}

/// The same text, as long, in which no sign within a reference means anything.
fn without_references(text: &str) -> String {
    let mut masked = text.to_owned();
    let mut from = 0;
    while let Some(begin) = masked[from..].find("${").map(|at| from + at) {
        let Some(end) = masked[begin..].find('}').map(|at| begin + at + 1) else { break };
        masked.replace_range(begin..end, &"r".repeat(end - begin));
        from = end;
    }
    masked
}

/// A text whose percent signs stand for bytes; as it is where they do not.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_shown_without_its_secrets() {
        for (written, expected) in [
            ("redis://localhost:6379/1", "redis://localhost:6379/1"),
            ("redis://:geheim@localhost", "redis://:…@localhost"),
            ("unix:///r.sock?user=alice&pass=geheim", "unix:///r.sock?user=alice&pass=…"),
            ("unix:///r.sock?pass=ge heim&db=1", "unix:///r.sock?pass=…&db=1"),
            ("unix:///r.sock?p%61ss=geheim", "unix:///r.sock?p%61ss=…"),
            ("unix:///r.sock?pass=${env:P&Q}&db=1", "unix:///r.sock?pass=${env:P&Q}&db=1"),
            ("unix:///r.sock?pass=${env:P}geheim", "unix:///r.sock?pass=…"),
            ("postgres://me:ge@heim@db/shop", "postgres://me:…@db/shop"),
            ("postgres://db/shop?password=geheim&sslmode=require", "postgres://db/shop?password=…&sslmode=require"),
            (
                "postgres://db/shop?user=me&sslpassword=geheim&sslkey=k",
                "postgres://db/shop?user=me&sslpassword=…&sslkey=…",
            ),
            ("postgres://${env:U}:${env:P}@db/shop", "postgres://${env:U}:${env:P}@db/shop"),
            ("host=db PASSWORD = geheim user=me", "host=db PASSWORD = … user=me"),
            ("host=db password=ge&heim user=me", "host=db password=… user=me"),
            ("host=db password='a b' user=me", "host=db password=…"),
            ("host=db password=${file:a} user=me", "host=db password=${file:a} user=me"),
            ("me:geheim@db/shop", "me:…@db/shop"),
            ("postgres://me@db/shop", "postgres://me@db/shop"),
            ("redis://:${env:A}x@localhost", "redis://:…@localhost"),
            ("redis://:${env:A}@localhost", "redis://:${env:A}@localhost"),
            ("http://search:9200/?ApiKey=geheim", "http://search:9200/?ApiKey=…"),
            ("http://search:9200/?api_key=geheim&access-token=geheim", "http://search:9200/?api_key=…&access-token=…"),
        ] {
            assert_eq!(shown_address(&Text::plain(written)), expected);
        }
    }

    #[test]
    fn secret_is_shown_as_a_reference_alone() {
        for (written, expected) in
            [("${env:TOKEN}", "${env:TOKEN}"), ("geheim", "…"), ("a${env:TOKEN}", "…"), ("${env:A}geheim}", "…")]
        {
            assert_eq!(shown(&Text::plain(written)), expected);
        }
    }

    #[test]
    fn settings_are_shown_without_what_their_names_call_secret() {
        let settings = serde_json::json!({
            "key": ["id"], "cache_key": "order:{id}", "apiKey": "geheim", "deep": [{ "Auth-Token": "geheim", "n": 1 }],
            "password": "${env:P}",
        });
        let expected = serde_json::json!({
            "key": ["id"], "cache_key": "order:{id}", "apiKey": "…", "deep": [{ "Auth-Token": "…", "n": 1 }],
            "password": "${env:P}",
        });
        assert_eq!(shown_settings(settings), expected);
    }
}
