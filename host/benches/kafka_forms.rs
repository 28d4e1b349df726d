//! The Kafka sink against a bare producer of the same library, on one broker, in turns.
//!
//! Both publish the same messages from memory, with a key and 300 bytes, and wait until each is acknowledged by all.
//! `bare` enqueues all of them and flushes; `sink` writes batches of 500 as lanes do, so many lanes at once. `alone` is
//! how long one message takes by itself. The broker is found as the tests find it.
//!
//! `TIDEGATE_SERVICES=target/services/addresses.json cargo bench -p tidegate --bench kafka_forms`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use tidegate::command::Command;
use tidegate::command::collapse::Origin;
use tidegate::config::{KafkaClient, Text};
use tidegate::sink::kafka::Kafka;
use tidegate::sink::{LedgerKey, Sink, Step, Token, Write, Written};
use tidegate::source::TopicPartition;

const MESSAGES: usize = 200_000;
const BATCH: usize = 500;
const TURNS: usize = 3;

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
    let topic = format!("bench-kafka-forms-{}", std::process::id());
    let new = NewTopic::new(&topic, 4, TopicReplication::Fixed(1));
    runtime.block_on(admin.create_topics([&new], &AdminOptions::new())).unwrap();

    let client = KafkaClient { brokers: Text::plain(&brokers), tls: None, sasl: None, properties: BTreeMap::default() };
    let sink = Arc::new(Kafka::open(&client).unwrap());
    let bare: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    // Connections, and the first batches of a topic, cost once.
    let warm = lanes(&topic, 4, 10_000);
    publish_bare(&bare, &topic, &messages(10_000));
    runtime.block_on(publish(&sink, warm));

    for turn in 0..TURNS {
        let work = messages(MESSAGES);
        let started = Instant::now();
        publish_bare(&bare, &topic, &work);
        let reference = rate(started, MESSAGES);
        println!("turn {turn}: bare {reference:.0}/s");
        for count in [1, 2, 4] {
            let work = lanes(&topic, count, MESSAGES);
            let started = Instant::now();
            runtime.block_on(publish(&sink, work));
            let reached = rate(started, MESSAGES);
            println!("turn {turn}: sink, {count} lanes {reached:.0}/s = {:.2} of bare", reached / reference);
        }
        let mut took = runtime.block_on(alone(&sink, &topic));
        took.sort_unstable();
        println!("turn {turn}: alone, median {:?}, p99 {:?}", took[took.len() / 2], took[took.len() * 99 / 100]);
    }
    runtime.block_on(admin.delete_topics(&[&topic], &AdminOptions::new())).unwrap();
}

fn rate(started: Instant, messages: usize) -> f64 {
    messages as f64 / started.elapsed().as_secs_f64()
}

fn key(n: usize) -> Vec<u8> {
    format!("{{\"id\":{}}}", n % 10_000).into_bytes()
}

fn value(n: usize) -> Vec<u8> {
    format!("{{\"id\":{n},\"text\":\"{}\"}}", "x".repeat(280)).into_bytes()
}

/// Key and value of so many messages.
fn messages(count: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..count).map(|n| (key(n), value(n))).collect()
}

fn publish_bare(producer: &ThreadedProducer<DefaultProducerContext>, topic: &str, messages: &[(Vec<u8>, Vec<u8>)]) {
    for (n, (key, value)) in messages.iter().enumerate() {
        let id = format!("orders/db.public.orders-0@{n}/0/0");
        let headers = OwnedHeaders::new().insert(Header { key: "tidegate.id", value: Some(&id) });
        let mut record = BaseRecord::to(topic).key(key).payload(value).headers(headers);
        while let Err((error, unsent)) = producer.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
            record = unsent;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    producer.flush(Duration::from_secs(60)).unwrap();
}

/// The batches of each lane.
type Lane = (LedgerKey, Vec<Vec<Write<'static>>>);

fn lanes(topic: &str, lanes: u32, messages: usize) -> Vec<Lane> {
    let lane = |partition| {
        let share = messages / lanes as usize;
        let write = |n: usize| Write {
            command: Cow::Owned(Command::Publish {
                topic: topic.to_owned(),
                key: Some(key(n)),
                value: Some(value(n)),
                headers: Vec::new(),
            }),
            origins: vec![Origin { offset: n as u64, transform: 0 }],
        };
        let batches = (0..share / BATCH).map(|batch| (batch * BATCH..(batch + 1) * BATCH).map(write).collect());
        let partition = TopicPartition { topic: "db.public.orders".into(), partition };
        (LedgerKey { pipeline: "orders".into(), partition }, batches.collect())
    };
    (0..lanes).map(lane).collect()
}

async fn publish(sink: &Arc<Kafka>, lanes: Vec<Lane>) {
    let tasks: Vec<_> = lanes
        .into_iter()
        .map(|(key, batches)| {
            let sink = sink.clone();
            tokio::spawn(async move {
                for writes in batches {
                    write(&sink, &key, &writes).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn write(sink: &Kafka, key: &LedgerKey, writes: &[Write<'_>]) {
    let step = Step { key, token: Token(1), from: 0, to: 1, epoch: 0, digest: "", note: "" };
    assert_eq!(sink.write(&step, writes).await.unwrap(), Written::Applied);
}

/// How long each of some messages takes that come one by one.
async fn alone(sink: &Kafka, topic: &str) -> Vec<Duration> {
    let (key, batches) = lanes(topic, 1, BATCH).remove(0);
    let mut took = Vec::new();
    for one in batches.into_iter().flatten() {
        let started = Instant::now();
        write(sink, &key, &[one]).await;
        took.push(started.elapsed());
    }
    took
}

fn brokers() -> String {
    let file = std::env::var("TIDEGATE_SERVICES").expect("TIDEGATE_SERVICES names the file of the servers' addresses");
    let addresses: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    addresses["kafka"].as_str().unwrap().to_owned()
}
