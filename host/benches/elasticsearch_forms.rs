//! Bulk throughput of the Elasticsearch sink against a bare client that sends the same documents, in one run: by batch
//! size, compressed and not; and what it costs that documents of answers with several commands are read before the bulk.
//!
//! `TIDEGATE_ELASTICSEARCH=http://localhost:9200 cargo bench -p tidegate --bench elasticsearch_forms`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use tidegate::command::Command;
use tidegate::command::collapse::Origin;
use tidegate::contract::Index;
use tidegate::sink::elasticsearch::{Elasticsearch, Options};
use tidegate::sink::{Declared, LedgerKey, Sink, Step, Token, Write, Written};
use tidegate::source::TopicPartition;

const DEFINITION: &str = r#"{"settings":{"number_of_shards":1,"number_of_replicas":0},"mappings":{"properties":{
    "name":{"type":"text"},"status":{"type":"keyword"},"total":{"type":"double"},"at":{"type":"date"}}}}"#;
/// Documents that are set again and again.
const SET_AGAIN: u64 = 4000;
/// How long each form runs, once the index is warm.
const TURN: Duration = Duration::from_secs(4);

fn main() {
    let Ok(url) = std::env::var("TIDEGATE_ELASTICSEARCH") else {
        println!("TIDEGATE_ELASTICSEARCH names no server: nothing is measured");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        println!("{:>6} {:>12} {:>12} {:>12} {:>7} {:>7}", "batch", "bare /s", "sink /s", "gzip /s", "ratio", "gzip");
        for size in [64, 500, 2000] {
            // Turn and turn about, so that a slow minute is everybody's.
            let (mut bare_rate, mut plain, mut packed) = (0.0, 0.0, 0.0);
            for _ in 0..2 {
                bare_rate += bare(&url, size).await / 2.0;
                plain += sink(&url, size, false).await / 2.0;
                packed += sink(&url, size, true).await / 2.0;
            }
            println!(
                "{size:>6} {bare_rate:>12.0} {plain:>12.0} {packed:>12.0} {:>7.2} {:>7.2}",
                plain / bare_rate,
                packed / bare_rate
            );
        }
        println!("\nanswers of two commands against answers of one");
        println!("{:>6} {:>10} {:>12} {:>12} {:>7}", "batch", "documents", "one /s", "two /s", "ratio");
        for size in [64, 500, 2000] {
            for (name, ids) in [("new", u64::MAX), ("set again", SET_AGAIN)] {
                let [one, two] = answers(&url, size, ids).await;
                println!("{size:>6} {name:>10} {one:>12.0} {two:>12.0} {:>7.2}", two / one);
            }
        }
    });
}

fn body(n: u64) -> String {
    format!(
        "{{\"id\":{n},\"name\":\"Order {n} of the customer {}\",\"status\":\"shipped\",\"total\":{}.50,\"at\":\"2026-11-21T10:00:00Z\",\
         \"note\":\"leave the parcel at the door of number {} and ring twice, please; thank you\"}}",
        n % 997,
        n % 1000,
        n % 89
    )
}

fn client() -> reqwest::Client {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

fn name() -> String {
    format!("tidegate-bench-{:x}-", getrandom::u32().unwrap())
}

async fn bare(url: &str, size: u64) -> f64 {
    let (client, index) = (client(), format!("{}i", name()));
    let put = client.put(format!("{url}/{index}")).header("content-type", "application/json").body(DEFINITION);
    put.send().await.unwrap().error_for_status().unwrap();
    let mut next = 0;
    let rate = measure(size, async || {
        let mut text = String::new();
        for n in next..next + size {
            text.push_str(&format!("{{\"index\":{{\"_index\":\"{index}\",\"_id\":\"{n}\"}}}}\n{}\n", body(n)));
        }
        next += size;
        let post = client.post(format!("{url}/_bulk")).header("content-type", "application/x-ndjson").body(text);
        let answer = post.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap();
        assert!(!String::from_utf8_lossy(&answer).contains("\"errors\":true"));
    })
    .await;
    client.delete(format!("{url}/{index}")).send().await.unwrap();
    rate
}

/// The sink with one partition of its own, and the prefix of its indexes.
async fn open(url: &str, compress: bool) -> (Elasticsearch, LedgerKey, String) {
    let prefix = name();
    let sink = Elasticsearch::open(Options {
        name: "bench".into(),
        urls: vec![url.to_owned()],
        credentials: None,
        ca: None,
        index_prefix: prefix.clone(),
        ledger_index: format!("{prefix}ledger"),
        max_request_bytes: 5 << 20,
        compress,
        timeout_ms: 30_000,
    })
    .unwrap();
    let indexes = vec![Index { name: "i".into(), definition: DEFINITION.into() }];
    sink.prepare("p", &Declared { indexes, ..Declared::default() }).await.unwrap();
    let key = LedgerKey { pipeline: "p".into(), partition: TopicPartition { topic: "t".into(), partition: 0 } };
    sink.claim(&key, Token(1), 0).await.unwrap();
    (sink, key, prefix)
}

async fn remove(url: &str, prefix: &str) {
    for index in ["i", "ledger"] {
        client().delete(format!("{url}/{prefix}{index}-000001")).send().await.unwrap();
    }
}

/// Writes documents from `from` on, by answers of so many commands, and says how long the write took.
async fn write(sink: &Elasticsearch, key: &LedgerKey, (from, size): (u64, u64), ids: u64, commands: u64) -> Duration {
    let writes: Vec<_> = (from..from + size)
        .map(|n| {
            let body = RawValue::from_string(body(n)).unwrap();
            let command = Command::DocumentIndex { index: "i".into(), id: (n % ids).to_string(), body };
            let offset = n - n % commands;
            Write { command: Cow::Owned(command), origins: vec![Origin { offset, transform: 0 }] }
        })
        .collect();
    let step = Step { key, token: Token(1), from, to: from + size, epoch: 0, digest: "d", note: "" };
    let begun = Instant::now();
    assert_eq!(sink.write(&step, &writes).await.unwrap(), Written::Applied);
    begun.elapsed()
}

async fn sink(url: &str, size: u64, compress: bool) -> f64 {
    let (sink, key, prefix) = open(url, compress).await;
    let mut next = 0;
    let rate = measure(size, async || {
        write(&sink, &key, (next, size), u64::MAX, 1).await;
        next += size;
    })
    .await;
    remove(url, &prefix).await;
    rate
}

/// Documents a second by answers of one command and of two, a batch of these after a batch of those: the median batch.
async fn answers(url: &str, size: u64, ids: u64) -> [f64; 2] {
    let (sink, key, prefix) = open(url, false).await;
    let (start, mut next) = (Instant::now(), 0);
    let mut took = [Vec::new(), Vec::new()];
    while start.elapsed() < 3 * TURN || next < 20 * size {
        for (commands, took) in (1..).zip(&mut took) {
            took.push(write(&sink, &key, (next, size), ids, commands).await);
            next += size;
        }
    }
    remove(url, &prefix).await;
    took.map(|mut took| {
        took.sort_unstable();
        size as f64 / took[took.len() / 2].as_secs_f64()
    })
}

/// Documents a second.
async fn measure(size: u64, mut batch: impl AsyncFnMut()) -> f64 {
    let warm = Instant::now();
    while warm.elapsed() < TURN / 4 {
        batch().await;
    }
    let (start, mut batches) = (Instant::now(), 0_u32);
    while start.elapsed() < TURN {
        batch().await;
        batches += 1;
    }
    f64::from(batches) * size as f64 / start.elapsed().as_secs_f64()
}
