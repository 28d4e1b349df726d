//! A topic of a test's own on the real broker, and what the test puts there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Runtime;

use crate::config::{KafkaClient, Text};
use crate::sink::testing::service;

/// How long anything may take that is waited for, on a machine that is busy with other things.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// A name that no other test and no other run has.
pub(super) fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let random = getrandom::u64().expect("the system has random numbers");
    format!("tidegate-test.{what}.{random:x}.{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A client of the real broker that rebalances and refreshes soon.
pub(super) fn client() -> KafkaClient {
    reached_at(service("kafka"))
}

/// Such a client of other brokers.
pub(super) fn reached_at(brokers: String) -> KafkaClient {
    let properties = [
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "200"),
        ("topic.metadata.refresh.interval.ms", "500"),
    ];
    KafkaClient {
        brokers: Text::plain(brokers),
        tls: None,
        sasl: None,
        properties: properties
            .map(|(name, value)| (name.to_owned(), Text::plain(value)))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
    }
}

fn plain() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", service("kafka"));
    config
}

/// A topic, deleted when the test ends.
pub(super) struct Topic {
    pub(super) name: String,
    admin: AdminClient<DefaultClientContext>,
    runtime: Runtime,
}

impl Topic {
    pub(super) fn new(partitions: i32, settings: &[(&str, &str)]) -> Self {
        Self::named(unique("t"), partitions, settings)
    }

    pub(super) fn named(name: String, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let admin: AdminClient<_> = plain().create().unwrap();
        let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let made = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
        made.into_iter().for_each(|one| drop(one.unwrap()));
        let topic = Self { name, admin, runtime };
        topic.wait_for(partitions);
        topic
    }

    /// Deletes it, and makes it again.
    pub(super) fn recreate(&self, partitions: i32) {
        let deleted = self.runtime.block_on(self.admin.delete_topics(&[&self.name], &AdminOptions::new())).unwrap();
        deleted.into_iter().for_each(|one| drop(one.unwrap()));
        let topic = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1));
        let until = std::time::Instant::now() + PATIENCE;
        // The one that was deleted this instant may still be in the way.
        while self.runtime.block_on(self.admin.create_topics([&topic], &AdminOptions::new())).unwrap()[0].is_err() {
            assert!(std::time::Instant::now() < until, "the topic cannot be made again");
        }
        self.wait_for(partitions);
    }

    /// Waits until every partition has a leader that answers.
    fn wait_for(&self, partitions: i32) {
        let consumer: BaseConsumer = plain().create().unwrap();
        let until = std::time::Instant::now() + PATIENCE;
        for partition in 0..partitions {
            while let Err(error) = consumer.fetch_watermarks(&self.name, partition, PATIENCE) {
                assert!(std::time::Instant::now() < until, "the topic does not come up: {error}");
            }
        }
    }

    /// Deletes the records below this offset.
    pub(super) fn delete_below(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(offset)).unwrap();
        self.runtime.block_on(self.admin.delete_records(&list, &AdminOptions::new())).unwrap();
    }

    /// What a group has committed of the first partition.
    pub(super) fn committed(&self, group: &str) -> Option<i64> {
        let consumer: BaseConsumer = plain().set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.name, 0);
        match consumer.committed_offsets(list, PATIENCE).unwrap().elements()[0].offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// Writes one record.
    pub(super) fn send(&self, record: BaseRecord<'_, [u8], [u8]>) {
        let producer: BaseProducer = plain().create().unwrap();
        assert!(producer.send(record).is_ok());
        producer.flush(PATIENCE).unwrap();
    }

    /// Writes these values to a partition, one record each.
    pub(super) fn produce(&self, partition: i32, values: impl IntoIterator<Item = String>) {
        self.produce_with(partition, values, &[]);
    }

    pub(super) fn produce_with(
        &self,
        partition: i32,
        values: impl IntoIterator<Item = String>,
        settings: &[(&str, &str)],
    ) {
        let mut config = plain();
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let producer: BaseProducer = config.create().unwrap();
        let transactional = config.get("transactional.id").is_some();
        if transactional {
            producer.init_transactions(PATIENCE).unwrap();
            producer.begin_transaction().unwrap();
        }
        for value in values {
            let mut record = BaseRecord::to(&self.name).partition(partition).key("k").payload(&value);
            while let Err((_, again)) = producer.send(record) {
                producer.poll(Duration::from_millis(10));
                record = again;
            }
        }
        producer.flush(PATIENCE).unwrap();
        if transactional {
            producer.commit_transaction(PATIENCE).unwrap();
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.admin.delete_topics(&[&self.name], &AdminOptions::new()));
    }
}
