//! For tests: indexes of their own on a real server, read back, and removed in the end.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Elasticsearch, Options};
use crate::command::Port;
use crate::sink::Sink;
use crate::sink::contract_tests::Bench;
use crate::sink::model::Model;
use crate::sink::testing::service;

/// A prefix and a ledger that no other test has.
pub(crate) struct ElasticBench {
    pub(super) url: String,
    pub(super) prefix: String,
}

impl ElasticBench {
    /// On a server of this name; nothing there yet.
    pub(crate) fn new(server: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let prefix = format!("tidegate-test-{}-{number}-{:x}-", std::process::id(), getrandom::u32().unwrap());
        Self { url: service(server), prefix }
    }

    pub(super) fn options(&self) -> Options {
        Options {
            name: "search".into(),
            urls: vec![self.url.clone()],
            credentials: None,
            ca: None,
            index_prefix: self.prefix.clone(),
            ledger_index: format!("{}ledger", self.prefix),
            max_request_bytes: 5 << 20,
            compress: false,
            timeout_ms: 30_000,
        }
    }

    pub(super) fn open_sink(&self) -> Elasticsearch {
        Elasticsearch::open(self.options()).unwrap()
    }

    /// Asks the server itself.
    pub(super) fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        ask(&self.url, method, path, body)
    }
}

/// On a thread of its own: a test may be inside a runtime or not.
fn ask(url: &str, method: &str, path: &str, body: &Value) -> Value {
    let (url, method) = (format!("{url}/{path}"), method.parse().unwrap());
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = std::thread::spawn(move || {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
        let request = client.request(method, url).header("content-type", "application/json").body(body);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { request.send().await.unwrap().bytes().await.unwrap() })
    });
    serde_json::from_slice(&answer.join().unwrap()).unwrap_or_default()
}

impl Bench for ElasticBench {
    fn ports(&self) -> &'static [Port] {
        &[Port::Documents]
    }

    fn open(&self) -> Arc<dyn Sink> {
        Arc::new(self.open_sink())
    }

    fn contents(&self) -> Model {
        #[derive(Deserialize)]
        struct Answer {
            hits: Hits,
        }
        #[derive(Deserialize)]
        struct Hits {
            hits: Vec<Hit>,
        }
        #[derive(Deserialize)]
        struct Hit {
            _id: String,
            _source: Box<RawValue>,
        }
        self.ask("POST", &format!("{}i/_refresh", self.prefix), &Value::Null);
        // As text: digits count.
        let url = format!("{}/{}i/_search?size=1000", self.url, self.prefix);
        let text = std::thread::spawn(move || get_text(&url)).join().unwrap();
        let answer: Answer = serde_json::from_str(&text).expect(&text);
        let mut model = Model::default();
        for hit in answer.hits.hits {
            model.documents.insert(("i".into(), hit._id), hit._source.get().to_owned());
        }
        model
    }
}

fn get_text(url: &str) -> String {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { client.get(url).send().await.unwrap().text().await.unwrap() })
}

impl Drop for ElasticBench {
    fn drop(&mut self) {
        // Not by a pattern, which a server may forbid.
        let found = self.ask("GET", &format!("{}*", self.prefix), &json!(null));
        for index in found.as_object().into_iter().flatten().map(|(name, _)| name) {
            self.ask("DELETE", index, &Value::Null);
        }
    }
}
