//! What `delivery = "exactly-once"` costs beside `at-least-once`, on one broker, in turns.
//!
//! Both publish the same messages from memory, with a key and 300 bytes, in batches of one size, as one lane or as four do;
//! the number is messages a second, and the ratio what is left of it. Then what the producers of so many partitions take
//! in memory and threads. The broker is found as the tests find it.
//!
//! `TIDEGATE_SERVICES=target/services/addresses.json cargo bench --workspace --bench kafka_delivery`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tidegate::command::Command;
use tidegate::command::collapse::Origin;
use tidegate::config::{KafkaClient, Text};
use tidegate::sink::kafka::Kafka;
use tidegate::sink::kafka::exactly_once::{ExactlyOnce, Options};
use tidegate::sink::{Declared, LedgerKey, Sink, Step, Token, Write, Written};
use tidegate::source::TopicPartition;

/// How many messages a batch has, and how many batches a lane writes.
const SIZES: [(usize, u64); 3] = [(1, 150), (100, 100), (1000, 30)];
const TURNS: usize = 3;
/// How many partitions are acquired to see what they take.
const PARTITIONS: u32 = 50;

fn main() {
    // Each benchmark gets the filter for all of them.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    if !"kafka".starts_with(&filter) || std::env::var_os("TIDEGATE_SERVICES").is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let brokers = brokers();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let [topic, ledger] = ["messages", "ledger"].map(|name| format!("bench-{name}-{}", std::process::id()));
    let new = NewTopic::new(&topic, 4, TopicReplication::Fixed(1));
    runtime.block_on(admin.create_topics([&new], &AdminOptions::new())).unwrap();

    let client = KafkaClient { brokers: Text::plain(&brokers), tls: None, sasl: None, properties: BTreeMap::default() };
    let options = Options { name: "events".into(), client: client.clone(), ledger_topic: ledger.clone() };
    let once = Arc::new(ExactlyOnce::open(options).unwrap());
    runtime.block_on(once.prepare("orders", &Declared::default())).unwrap();
    let sinks: [(&str, Arc<dyn Sink>); 2] =
        [("at least once", Arc::new(Kafka::open(&client).unwrap())), ("exactly once", once.clone())];
    for turn in 0..TURNS {
        for (size, batches) in SIZES {
            for lanes in [1, 4] {
                let [least, exactly] =
                    sinks.each_ref().map(|(_, sink)| runtime.block_on(run(sink, &topic, size, batches, lanes)));
                println!(
                    "turn {turn}: batches of {size}, {lanes} lanes: at least once {least:.0}/s, exactly once \
                     {exactly:.0}/s = {:.2}",
                    exactly / least
                );
            }
        }
    }
    let before = resources();
    runtime.block_on(async {
        for partition in 100..100 + PARTITIONS {
            once.claim(&key(partition), Token(1), 0).await.unwrap();
        }
    });
    let after = resources();
    println!(
        "a partition: {} kB of memory, {:.1} threads",
        (after.0 - before.0) / u64::from(PARTITIONS),
        (after.1 - before.1) as f64 / f64::from(PARTITIONS)
    );
    runtime.block_on(admin.delete_topics(&[&topic, &ledger], &AdminOptions::new())).unwrap();
}

/// Messages a second.
async fn run(sink: &Arc<dyn Sink>, topic: &str, size: usize, batches: u64, lanes: u32) -> f64 {
    let mut next = Vec::new();
    for partition in 0..lanes {
        let start = if sink.keeps_ledger() { sink.claim(&key(partition), Token(1), 0).await.unwrap().next } else { 0 };
        next.push((partition, start));
    }
    let started = Instant::now();
    let tasks: Vec<_> = next
        .into_iter()
        .map(|(partition, start)| {
            let (sink, writes) = (sink.clone(), writes(topic, size));
            tokio::spawn(async move {
                let key = key(partition);
                for from in start..start + batches {
                    let step = Step { key: &key, token: Token(1), from, to: from + 1, epoch: 0, digest: "d", note: "" };
                    assert_eq!(sink.write(&step, &writes).await.unwrap(), Written::Applied);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    size as f64 * batches as f64 * f64::from(lanes) / started.elapsed().as_secs_f64()
}

fn key(partition: u32) -> LedgerKey {
    LedgerKey { pipeline: "orders".into(), partition: TopicPartition { topic: "db.public.orders".into(), partition } }
}

fn writes(topic: &str, size: usize) -> Vec<Write<'static>> {
    let write = |n: usize| Write {
        command: Cow::Owned(Command::Publish {
            topic: topic.to_owned(),
            key: Some(format!("{{\"id\":{n}}}").into_bytes()),
            value: Some(format!("{{\"id\":{n},\"text\":\"{}\"}}", "x".repeat(280)).into_bytes()),
            headers: Vec::new(),
        }),
        origins: vec![Origin { offset: n as u64, transform: 0 }],
    };
    (0..size).map(write).collect()
}

/// Resident memory in kB, and threads.
fn resources() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
    };
    (of("VmRSS:"), of("Threads:"))
}

fn brokers() -> String {
    let file = std::env::var("TIDEGATE_SERVICES").expect("TIDEGATE_SERVICES names the file of the servers' addresses");
    let addresses: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    addresses["kafka"].as_str().unwrap().to_owned()
}
