//! The topics of a benchmark: made, filled, and removed.

use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use tidegate::source::Record;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Broker {
    pub(crate) address: String,
    admin: AdminClient<DefaultClientContext>,
    made: Vec<String>,
}

impl Broker {
    pub(crate) fn new(address: &str) -> Self {
        let admin = ClientConfig::new().set("bootstrap.servers", address).create().unwrap();
        Self { address: address.to_owned(), admin, made: Vec::new() }
    }

    pub(crate) async fn make(&mut self, topic: &str, partitions: u32) {
        let partitions = i32::try_from(partitions).unwrap();
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let made = self.admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
        made.into_iter().for_each(|topic| drop(topic.unwrap()));
        self.made.push(topic.to_owned());
    }

    /// Publishes records to their topics and waits until the broker has them.
    pub(crate) fn fill(&self, records: impl Iterator<Item = Record>) {
        let producer: ThreadedProducer<_> = ClientConfig::new()
            .set("bootstrap.servers", &self.address)
            .set("partitioner", "murmur2_random")
            .create()
            .unwrap();
        for record in records {
            send(&producer, &record);
        }
        producer.flush(PATIENCE).unwrap();
    }

    /// Removes the topics.
    pub(crate) async fn remove(&mut self) {
        let made = std::mem::take(&mut self.made);
        let topics: Vec<&str> = made.iter().map(String::as_str).collect();
        if !topics.is_empty() {
            self.admin.delete_topics(&topics, &AdminOptions::new()).await.unwrap();
        }
    }
}

fn send<C: ProducerContext<DeliveryOpaque = ()>>(producer: &ThreadedProducer<C>, record: &Record) {
    let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, header| {
        headers.insert(Header { key: &header.name, value: header.value.as_ref() })
    });
    let mut message = BaseRecord::<[u8], [u8]>::to(&record.partition.topic).headers(headers);
    (message.key, message.payload) = (record.key.as_deref(), record.value.as_deref());
    while let Err((error, unsent)) = producer.send(message) {
        assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
        message = unsent;
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Publishes one record at a time.
pub(crate) struct OneByOne {
    producer: ThreadedProducer<Acknowledged>,
    acknowledged: mpsc::Receiver<Instant>,
}

struct Acknowledged(Sender<Instant>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let now = Instant::now();
        assert!(result.is_ok(), "the broker does not take a record");
        self.0.send(now).unwrap();
    }
}

impl OneByOne {
    pub(crate) fn new(broker: &Broker) -> Self {
        let (sender, acknowledged) = mpsc::channel();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &broker.address)
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "0")
            .set("acks", "1")
            .create_with_context(Acknowledged(sender))
            .unwrap();
        Self { producer, acknowledged }
    }

    /// When the broker acknowledged it.
    pub(crate) fn publish(&self, record: &Record) -> Instant {
        send(&self.producer, record);
        self.acknowledged.recv_timeout(PATIENCE).expect("the broker acknowledges a record")
    }
}
