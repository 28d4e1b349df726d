//! The topics that the run itself needs, and their records, by a client that shares nothing with tidegate's.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tidegate_tests::service;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(120);

/// The topics and groups of a run, deleted when it ends.
pub(super) struct Broker {
    run: String,
    admin: AdminClient<DefaultClientContext>,
    runtime: Runtime,
}

/// A record.
pub(super) struct Record {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Record {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

fn consumer() -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", service("kafka")).set("group.id", "tidegate-tests").create().unwrap()
}

impl Broker {
    /// With the topics of these names.
    pub(super) fn new(run: &str, topics: &[&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", service("kafka")).create().unwrap();
        let broker = Self { run: run.to_owned(), admin, runtime };
        let new: Vec<_> = topics.iter().map(|name| NewTopic::new(name, 3, TopicReplication::Fixed(1))).collect();
        for made in broker.runtime.block_on(broker.admin.create_topics(&new, &AdminOptions::new())).unwrap() {
            made.unwrap();
        }
        broker
    }

    /// All records of a topic, those of each partition in order.
    pub(super) fn records(topic: &str) -> Vec<Record> {
        let consumer = consumer();
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        let mut list = TopicPartitionList::new();
        let mut open = BTreeSet::new();
        for partition in metadata.topics()[0].partitions() {
            let (start, end) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE).unwrap();
            if start < end {
                list.add_partition_offset(topic, partition.id(), Offset::Offset(start)).unwrap();
                open.insert((partition.id(), end - 1));
            }
        }
        consumer.assign(&list).unwrap();
        let mut records = Vec::new();
        while !open.is_empty() {
            let record = consumer.poll(PATIENCE).expect("the broker answers").unwrap();
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            let headers = record.headers().map(|headers| {
                headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect::<Vec<_>>()
            });
            records.push(Record {
                key: text(record.key()),
                value: text(record.payload()),
                headers: headers.unwrap_or_default(),
            });
            open.retain(|(partition, last)| *partition != record.partition() || record.offset() < *last);
        }
        records
    }

    fn remove(&self) {
        let consumer = consumer();
        let Ok(metadata) = consumer.fetch_metadata(None, PATIENCE) else { return };
        let topics: Vec<_> = metadata.topics().iter().map(|topic| topic.name()).collect();
        let topics: Vec<_> = topics.into_iter().filter(|name| name.starts_with(&self.run)).collect();
        let options = AdminOptions::new();
        let _ = self.runtime.block_on(self.admin.delete_topics(&topics, &options));
        let groups = consumer.fetch_group_list(None, PATIENCE);
        let Ok(groups) = groups else { return };
        let groups: Vec<_> = groups.groups().iter().map(|group| group.name()).collect();
        let groups: Vec<_> = groups.into_iter().filter(|name| name.contains(&self.run)).collect();
        let _ = self.runtime.block_on(self.admin.delete_groups(&groups, &options));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.remove();
    }
}
