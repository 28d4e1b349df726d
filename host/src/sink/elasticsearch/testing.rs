//! For tests: indexes of their own on a real server, read back, and removed in the end.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

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
        let body = if body.is_null() { String::new() } else { body.to_string() };
        serde_json::from_str(&ask(format!("{}/{path}", self.url), method, body)).unwrap_or_default()
    }
}

/// Forwards to a server, and records what is sent there.
pub(super) struct Proxy {
    pub(super) url: String,
    seen: Arc<Mutex<Vec<u8>>>,
    /// A request that holds this text is lost on its way, as when the process dies before it is sent.
    lost: Arc<Mutex<Option<String>>>,
    /// A request that holds this text is answered as by a server that has no room for it, once.
    busy: Arc<Mutex<Option<String>>>,
    /// What happens before a request that holds this text goes on, once.
    before: Arc<Mutex<Option<(String, Event)>>>,
}

/// As Elasticsearch answers a request that its circuit breaker refuses.
const TOO_MUCH: &str = "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nconnection: close\r\n\
    content-length: 86\r\n\r\n\
    {\"error\":{\"type\":\"circuit_breaking_exception\",\"reason\":\"data too large\"},\"status\":429}";

type Event = Box<dyn FnOnce() + Send>;

impl Proxy {
    pub(super) fn new(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            seen: Arc::default(),
            lost: Arc::default(),
            busy: Arc::default(),
            before: Arc::default(),
        };
        let (server, seen, lost) =
            (url.trim_start_matches("http://").to_owned(), Arc::clone(&proxy.seen), Arc::clone(&proxy.lost));
        let (before, busy) = (Arc::clone(&proxy.before), Arc::clone(&proxy.busy));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(&server).unwrap();
                let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || forward(from, to, |_| true));
                let (seen, lost, before) = (Arc::clone(&seen), Arc::clone(&lost), Arc::clone(&before));
                let (busy, mut back) = (Arc::clone(&busy), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    forward(client, server, |bytes| {
                        let text = String::from_utf8_lossy(bytes);
                        let now = before.lock().unwrap().take_if(|(awaited, _)| text.contains(&*awaited));
                        if let Some((_, event)) = now {
                            event();
                        }
                        seen.lock().unwrap().extend_from_slice(bytes);
                        if busy.lock().unwrap().take_if(|awaited| text.contains(&*awaited)).is_some() {
                            back.write_all(TOO_MUCH.as_bytes()).unwrap();
                            return false;
                        }
                        let lost = lost.lock().unwrap();
                        !lost.as_ref().is_some_and(|lost| text.contains(lost))
                    });
                });
            }
        });
        proxy
    }

    /// Everything that was sent since the last look.
    pub(super) fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.seen.lock().unwrap())).into_owned()
    }

    pub(super) fn before(&self, text: &str, event: impl FnOnce() + Send + 'static) {
        *self.before.lock().unwrap() = Some((text.to_owned(), Box::new(event)));
    }

    pub(super) fn is_busy_for(&self, text: &str) {
        *self.busy.lock().unwrap() = Some(text.to_owned());
    }

    pub(super) fn lose(&self, text: Option<String>) {
        *self.lost.lock().unwrap() = text;
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, mut pass: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 1 << 20];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !pass(&buffer[..length]) || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // Either may be gone already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// The answer's text. On a thread of its own: a test may be inside a runtime or not.
fn ask(url: String, method: &str, body: String) -> String {
    let method = method.parse().unwrap();
    let answer = std::thread::spawn(move || {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
        let request = client.request(method, url).header("content-type", "application/json").body(body);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() })
    });
    answer.join().unwrap()
}

impl Bench for ElasticBench {
    fn ports(&self) -> &'static [Port] {
        &[Port::Documents]
    }

    fn open(&self) -> Arc<dyn Sink> {
        Arc::new(self.open_sink())
    }

    fn strict(&self) -> &'static [Port] {
        &[Port::Documents]
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
        let text = ask(format!("{}/{}i/_search?size=1000", self.url, self.prefix), "GET", String::new());
        let answer: Answer = serde_json::from_str(&text).expect(&text);
        let mut model = Model::default();
        for hit in answer.hits.hits {
            model.documents.insert(("i".into(), hit._id), hit._source.get().to_owned());
        }
        model
    }
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
