//! Kafka: an idempotent producer that enqueues everything and waits for the last acknowledgment.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use tidegate::command::Command;
use tokio::sync::Notify;

use super::{Client, Store, Turn};
use crate::Addresses;
use crate::broker::PATIENCE;

/// As in the settings of the case.
const TOPIC: &str = "tidegate-bench-order-events";
const PARTITIONS: i32 = 3;

struct Kafka {
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
    watcher: BaseConsumer,
    /// How many messages there were before the turn.
    before: Mutex<u64>,
}

pub(super) async fn open(addresses: &Addresses) -> Box<dyn Store> {
    let brokers = addresses.get("kafka").to_owned();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let new = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(1));
    for made in admin.create_topics([&new], &AdminOptions::new()).await.unwrap() {
        // A run that was killed has left it; messages are counted from where they end.
        assert!(matches!(made, Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))), "{made:?}");
    }
    let watcher = ClientConfig::new().set("bootstrap.servers", &brokers).set("group.id", TOPIC).create().unwrap();
    Box::new(Kafka { brokers, admin, watcher, before: Mutex::new(0) })
}

impl Kafka {
    /// How many messages there are.
    fn count(&self) -> u64 {
        let end = |partition| {
            // A topic that was made this instant has no leader yet.
            std::iter::repeat_with(|| self.watcher.fetch_watermarks(TOPIC, partition, PATIENCE))
                .find_map(Result::ok)
                .map_or(0, |(_, end)| u64::try_from(end).unwrap())
        };
        (0..PARTITIONS).map(end).sum()
    }
}

#[async_trait]
impl Store for Kafka {
    async fn empty(&self, _: &Turn) {
        *self.before.lock().unwrap() = self.count();
    }

    fn sink(&self, _: &Turn) -> String {
        format!("[sinks.store.kafka]\nbrokers = \"{}\"", self.brokers)
    }

    /// There is no ledger: what the broker has is durable.
    async fn durable(&self, _: &Turn) -> u64 {
        let count = tokio::task::block_in_place(|| self.count());
        count - *self.before.lock().unwrap()
    }

    async fn connect(&self, _: &Turn) -> Box<dyn Client> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            // What gathers while a batch is on its way is enough, and one that is alone goes at once.
            .set("linger.ms", "0")
            .create_with_context(Deliveries::default())
            .unwrap();
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", TOPIC)
            .set("fetch.wait.max.ms", "10")
            .create()
            .unwrap();
        let mut ends = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            let (_, end) = self.watcher.fetch_watermarks(TOPIC, partition, PATIENCE).unwrap();
            ends.add_partition_offset(TOPIC, partition, Offset::Offset(end)).unwrap();
        }
        Box::new(Connection { producer, consumer, from: Mutex::new(Some(ends)), seen: Mutex::default() })
    }

    async fn remove(&self) {
        self.admin.delete_topics(&[TOPIC], &AdminOptions::new()).await.unwrap();
    }
}

/// How many messages are on their way. (The producer's own `flush` looks every 100 ms alone.)
#[derive(Default)]
struct Deliveries {
    open: AtomicUsize,
    done: Notify,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "the broker does not take a message");
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }
}

struct Connection {
    producer: ThreadedProducer<Deliveries>,
    consumer: BaseConsumer,
    /// Where to look from, until it is looked for the first time.
    from: Mutex<Option<TopicPartitionList>>,
    /// The keys of the messages that came.
    seen: Mutex<HashSet<Vec<u8>>>,
}

#[async_trait]
impl Client for Connection {
    async fn send(&self, batch: &[Command]) {
        self.producer.client().context().open.fetch_add(batch.len(), Ordering::AcqRel);
        for command in batch {
            let Command::Publish { topic, key, value, .. } = command else { panic!("{command:?}") };
            let mut record = BaseRecord::<[u8], [u8]>::to(topic);
            (record.key, record.payload) = (key.as_deref(), value.as_deref());
            while let Err((error, unsent)) = self.producer.send(record) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
                record = unsent;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn flush(&self) {
        let deliveries = self.producer.client().context();
        while deliveries.open.load(Ordering::Acquire) > 0 {
            deliveries.done.notified().await;
        }
    }

    async fn has(&self, command: &Command) -> bool {
        let Command::Publish { key, .. } = command else { panic!("{command:?}") };
        if let Some(from) = self.from.lock().unwrap().take() {
            self.consumer.assign(&from).unwrap();
        }
        let came = tokio::task::block_in_place(|| self.consumer.poll(Duration::from_millis(100)));
        let mut seen = self.seen.lock().unwrap();
        if let Some(message) = came {
            seen.insert(message.unwrap().key().unwrap().to_vec());
        }
        seen.remove(key.as_deref().unwrap())
    }
}
