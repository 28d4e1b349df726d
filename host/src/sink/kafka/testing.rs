//! For tests: topics of their own on the real broker, and what is in them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::config::{KafkaClient, Text};
use crate::sink::testing::service;
use crate::source::Header;

/// A topic of a random name, removed at the end.
pub(crate) struct Topic(pub(crate) String);

/// A message as it lies in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lying {
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<Header>,
}

impl Lying {
    /// The last header of this name, as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().rev().find(|header| header.name == name)?;
        Some(std::str::from_utf8(header.value.as_deref()?).unwrap())
    }

    pub(crate) fn value(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().unwrap()).unwrap()
    }
}

/// The broker of the tests.
pub(crate) fn broker() -> KafkaClient {
    reached_at(&service("kafka"), &[])
}

pub(crate) fn reached_at(brokers: &str, properties: &[(&str, &str)]) -> KafkaClient {
    let properties: BTreeMap<_, _> =
        properties.iter().map(|(name, value)| ((*name).to_owned(), Text::plain(*value))).collect();
    KafkaClient { brokers: Text::plain(brokers), tls: None, sasl: None, properties }
}

pub(crate) fn random_name(what: &str) -> String {
    format!("sink-{what}-{:016x}", getrandom::u64().unwrap())
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", service("kafka")).create().unwrap()
}

impl Topic {
    /// Makes a topic and waits until the broker knows it.
    pub(crate) async fn make(partitions: i32, settings: &[(&str, &str)]) -> Self {
        let name = random_name("topic");
        let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
        let admin = admin();
        let made = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
        assert_eq!(made, [Ok(name.clone())]);
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let metadata = admin.inner().fetch_metadata(Some(&name), Duration::from_secs(10)).unwrap();
            let known = metadata.topics().iter().any(|topic| topic.partitions().iter().any(|of| of.leader() >= 0));
            if known {
                return Self(name);
            }
            assert!(Instant::now() < until, "the broker never knew the topic");
        }
    }

    /// Everything that lies in it, in the order of each partition.
    pub(crate) fn read(&self) -> Vec<Lying> {
        read(&service("kafka"), &self.0)
    }
}

/// Everything that lies in a topic of these brokers, in the order of each partition.
pub(crate) fn read(brokers: &str, topic: &str) -> Vec<Lying> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "unused")
        .set("fetch.message.max.bytes", "50000000")
        .create()
        .unwrap();
    let within = Duration::from_secs(30);
    let metadata = consumer.fetch_metadata(Some(topic), within).unwrap();
    let mut list = TopicPartitionList::new();
    let mut left = 0;
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), within).unwrap();
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        left += high - low;
    }
    consumer.assign(&list).unwrap();
    let mut lying = Vec::new();
    while left > 0 {
        let message = consumer.poll(within).expect("a message before the end").unwrap();
        left -= 1;
        let headers = message.headers().map(|headers| {
            let own = |header: rdkafka::message::Header<'_, &[u8]>| Header {
                name: header.key.to_owned(),
                value: header.value.map(<[u8]>::to_vec),
            };
            headers.iter().map(own).collect()
        });
        lying.push(Lying {
            partition: message.partition(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        });
    }
    lying
}

impl Drop for Topic {
    fn drop(&mut self) {
        let name = self.0.clone();
        // A runtime inside of a runtime is none; another thread may have its own.
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { admin().delete_topics(&[&name], &AdminOptions::new()).await.map(drop) }).unwrap();
        });
        let _ = removed.join();
    }
}
