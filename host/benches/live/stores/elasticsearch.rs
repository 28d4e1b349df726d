//! Elasticsearch: `_bulk` of whole documents.

use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tidegate::command::Command;
use tidegate::contract::Description;

use super::{Client, Store, Turn};
use crate::Addresses;

struct Elasticsearch {
    url: String,
    ledger: String,
    http: reqwest::Client,
}

pub(super) async fn open(addresses: &Addresses) -> Box<dyn Store> {
    let url = addresses.get("elasticsearch").to_owned();
    let ledger = format!("tidegate-bench-{}-ledger", std::process::id());
    // The first that chooses a provider in this process chooses it for all.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Box::new(Elasticsearch { url, ledger, http: reqwest::Client::new() })
}

/// Each turn has indexes of its own: what tidegate writes into must be new.
fn prefix(turn: &Turn) -> String {
    format!("{}-", turn.pipeline)
}

async fn ask(http: &reqwest::Client, method: Method, url: &str, kind: &'static str, body: String) -> (u16, Value) {
    let answer = http.request(method, url).header(CONTENT_TYPE, kind).body(body).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

impl Elasticsearch {
    /// Removes the indexes whose names begin so.
    async fn remove_all(&self, prefix: &str) {
        let url = format!("{}/_cat/indices/{prefix}*?format=json&expand_wildcards=all", self.url);
        let (_, found) = ask(&self.http, Method::GET, &url, "application/json", String::new()).await;
        for index in found.as_array().unwrap() {
            let url = format!("{}/{}", self.url, index["index"].as_str().unwrap());
            let (status, answer) = ask(&self.http, Method::DELETE, &url, "application/json", String::new()).await;
            assert_eq!(status, 200, "{answer}");
        }
    }
}

#[async_trait]
impl Store for Elasticsearch {
    async fn empty(&self, _: &Turn) {
        self.remove_all(&format!("tidegate-bench-{}-elasticsearch", std::process::id())).await;
    }

    async fn declare(&self, turn: &Turn, description: &Description) {
        for index in &description.indexes {
            let url = format!("{}/{}{}", self.url, prefix(turn), index.name);
            let (status, answer) =
                ask(&self.http, Method::PUT, &url, "application/json", index.definition.clone()).await;
            assert_eq!(status, 200, "{answer}");
        }
    }

    fn sink(&self, turn: &Turn) -> String {
        format!(
            "[sinks.store.elasticsearch]\nurl = \"{}\"\nindex_prefix = \"{}\"\nledger_index = \"{}\"",
            self.url,
            prefix(turn),
            self.ledger
        )
    }

    async fn durable(&self, turn: &Turn) -> u64 {
        let row = |partition| json!({"_id": format!("partition/store/{}/{}/{partition}", turn.pipeline, turn.topic)});
        let rows: Vec<Value> = (0..turn.partitions).map(row).collect();
        let url = format!("{}/{}/_mget", self.url, self.ledger);
        let body = json!({"docs": rows}).to_string();
        let (_, found) = ask(&self.http, Method::POST, &url, "application/json", body).await;
        let next = |row: &Value| row["_source"]["next"].as_u64().unwrap_or_default();
        found["docs"].as_array().map_or(0, |rows| rows.iter().map(next).sum())
    }

    async fn connect(&self, turn: &Turn) -> Box<dyn Client> {
        let http = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
        Box::new(Connection { url: self.url.clone(), prefix: prefix(turn), http })
    }

    async fn remove(&self) {
        self.remove_all(&format!("tidegate-bench-{}-", std::process::id())).await;
    }
}

struct Connection {
    url: String,
    prefix: String,
    http: reqwest::Client,
}

#[async_trait]
impl Client for Connection {
    async fn send(&self, batch: &[Command]) {
        let mut lines = String::with_capacity(1000 * batch.len());
        for command in batch {
            let Command::DocumentIndex { index, id, body } = command else { panic!("{command:?}") };
            let action = json!({"index": {"_index": format!("{}{index}", self.prefix), "_id": id}});
            lines.push_str(&action.to_string());
            lines.push('\n');
            lines.push_str(body.get());
            lines.push('\n');
        }
        let url = format!("{}/_bulk?filter_path=errors,items.*.error", self.url);
        let (_, answer) = ask(&self.http, Method::POST, &url, "application/x-ndjson", lines).await;
        assert_eq!(answer["errors"], false, "{answer}");
    }

    async fn has(&self, command: &Command) -> bool {
        let Command::DocumentIndex { index, id, .. } = command else { panic!("{command:?}") };
        // By its id, which is in real time: a search would see it after the next refresh.
        let url = format!("{}/{}{index}/_doc/{id}?_source=false", self.url, self.prefix);
        ask(&self.http, Method::GET, &url, "application/json", String::new()).await.0 == 200
    }
}
