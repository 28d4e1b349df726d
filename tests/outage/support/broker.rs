//! A broker's topics: made, filled, grown, cut off, deleted.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tokio::runtime::{Builder, Runtime};

use super::{Event, PATIENCE, service, unique, until};

/// A cluster, by the address of a broker.
#[derive(Debug, Clone)]
pub(crate) struct Broker(pub(crate) String);

impl Broker {
    /// The one that the tests share.
    pub(crate) fn shared() -> Self {
        Self(service("kafka"))
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.0);
        config
    }

    /// A name for a topic: its last part is the table that the transforms know.
    pub(crate) fn name(table: &str) -> String {
        format!("{}.public.{table}", unique("t"))
    }

    /// A topic with these events, each on the partition on which it was captured.
    pub(crate) fn topic(&self, table: &str, partitions: i32, events: &[Event]) -> Topic {
        let topic = self.create(&Self::name(table), partitions);
        topic.produce(events);
        topic
    }

    /// A topic of this name.
    pub(crate) fn create(&self, name: &str, partitions: i32) -> Topic {
        let topic = self.named(name);
        topic.make(partitions);
        topic
    }

    /// A topic of this name, which somebody else makes.
    pub(crate) fn named(&self, name: &str) -> Topic {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let admin: AdminClient<_> = self.config().create().unwrap();
        Topic { broker: self.clone(), name: name.to_owned(), admin, runtime }
    }
}

/// A topic, deleted when the test ends.
pub(crate) struct Topic {
    broker: Broker,
    pub(crate) name: String,
    admin: AdminClient<DefaultClientContext>,
    runtime: Runtime,
}

impl Topic {
    /// Makes it, or makes it anew.
    pub(crate) fn make(&self, partitions: i32) {
        let topic = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1));
        // One that was deleted this instant may still be in the way.
        until("the topic can be made", || {
            let made = self.runtime.block_on(self.admin.create_topics([&topic], &AdminOptions::new())).unwrap();
            made.into_iter().all(|one| one.is_ok()).then_some(())
        });
        self.wait_for(partitions);
    }

    /// Waits until every partition has a leader that answers.
    fn wait_for(&self, partitions: i32) {
        for partition in 0..partitions {
            until("the partition has a leader", || {
                // A client that has seen the topic before may not look again soon.
                let consumer: BaseConsumer = self.broker.config().create().unwrap();
                consumer.fetch_watermarks(&self.name, partition, Duration::from_secs(5)).ok()
            });
        }
    }

    pub(crate) fn produce(&self, events: &[Event]) {
        // Whatever happens to the broker, each event is in the topic once and in its place.
        let producer: BaseProducer = self.broker.config().set("enable.idempotence", "true").create().unwrap();
        for event in events {
            let mut record = BaseRecord::<str, str>::to(&self.name).partition(event.partition);
            record.key = event.key.as_deref();
            record.payload = event.value.as_deref();
            while let Err((_, again)) = producer.send(record) {
                producer.poll(Duration::from_millis(10));
                record = again;
            }
        }
        producer.flush(PATIENCE).unwrap();
    }

    pub(crate) fn grow(&self, partitions: usize) {
        let grown = NewPartitions::new(&self.name, partitions);
        let made = self.runtime.block_on(self.admin.create_partitions([&grown], &AdminOptions::new())).unwrap();
        made.into_iter().for_each(|one| drop(one.unwrap()));
        self.wait_for(i32::try_from(partitions).unwrap());
    }

    /// Deletes the records of a partition below this offset.
    pub(crate) fn delete_below(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(offset)).unwrap();
        self.runtime.block_on(self.admin.delete_records(&list, &AdminOptions::new())).unwrap();
    }

    pub(crate) fn delete(&self) {
        let deleted = self.runtime.block_on(self.admin.delete_topics(&[&self.name], &AdminOptions::new())).unwrap();
        deleted.into_iter().for_each(|one| drop(one.unwrap()));
    }

    /// Where each partition ends.
    pub(crate) fn ends(&self) -> Vec<i64> {
        let consumer: BaseConsumer = self.broker.config().create().unwrap();
        until("the broker tells where the topic ends", || {
            let metadata = consumer.fetch_metadata(Some(&self.name), PATIENCE).ok()?;
            let partitions = i32::try_from(metadata.topics()[0].partitions().len()).unwrap();
            // A topic that was made this instant has none for a moment.
            let partitions = Some(partitions).filter(|partitions| *partitions > 0)?;
            let end = |number| Some(consumer.fetch_watermarks(&self.name, number, PATIENCE).ok()?.1);
            (0..partitions).map(end).collect()
        })
    }

    /// What the group of a pipeline has committed of each partition; nothing while the broker cannot tell.
    pub(crate) fn committed(&self, pipeline: &str) -> Vec<Option<i64>> {
        let mut config = self.broker.config();
        let consumer: BaseConsumer = config.set("group.id", format!("tidegate.{pipeline}")).create().unwrap();
        let mut list = TopicPartitionList::new();
        (0..self.ends().len()).for_each(|number| {
            list.add_partition(&self.name, i32::try_from(number).unwrap());
        });
        let Ok(committed) = consumer.committed_offsets(list, PATIENCE) else { return Vec::new() };
        let offset = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
        committed.elements().iter().map(|element| offset(element.offset())).collect()
    }

    /// Has the group of a pipeline, without members, say that this much more of a partition is done than is.
    pub(crate) fn commit_further(&self, pipeline: &str, partition: i32, by: i64) {
        let mut config = self.broker.config();
        let consumer: BaseConsumer = config.set("group.id", format!("tidegate.{pipeline}")).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.name, partition);
        let list = consumer.committed_offsets(list, PATIENCE).unwrap();
        let mut element = list.find_partition(&self.name, partition).unwrap();
        let Offset::Offset(end) = element.offset() else { panic!("nothing is committed") };
        let mut metadata: serde_json::Value = serde_json::from_str(element.metadata()).unwrap();
        for position in metadata["positions"].as_object_mut().unwrap().values_mut() {
            *position = (end + by).into();
        }
        element.set_offset(Offset::Offset(end + by)).unwrap();
        element.set_metadata(metadata.to_string());
        consumer.commit(&list, CommitMode::Sync).unwrap();
    }

    /// Deletes what the group of a pipeline, without members, has committed.
    pub(crate) fn delete_commits(&self, pipeline: &str) {
        let group = format!("tidegate.{pipeline}");
        until("the group can be deleted", || {
            let deleted = self.runtime.block_on(self.admin.delete_groups(&[&group], &AdminOptions::new())).unwrap();
            deleted.into_iter().all(|one| one.is_ok()).then_some(())
        });
    }

    /// Reads all of it, in the order of each partition, by `take`.
    pub(crate) fn read<T>(&self, mut take: impl FnMut(&BorrowedMessage<'_>) -> T) -> Vec<T> {
        let mut config = self.broker.config();
        config.set("group.id", unique("reader"));
        let mut read = Vec::new();
        for (partition, end) in (0..).zip(self.ends()) {
            let consumer: BaseConsumer = config.create().unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&self.name, partition, Offset::Beginning).unwrap();
            consumer.assign(&list).unwrap();
            let mut next = 0;
            while next < end {
                let message = consumer.poll(PATIENCE).expect("the topic gives its records").unwrap();
                next = message.offset() + 1;
                read.push(take(&message));
            }
        }
        read
    }

    /// Every record that is committed, in the order of each partition; those of aborted transactions are none.
    pub(crate) fn read_committed<T>(&self, mut take: impl FnMut(&BorrowedMessage<'_>) -> T) -> Vec<T> {
        let reader = |isolation: &str| -> BaseConsumer {
            let mut config = self.broker.config();
            config.set("group.id", unique("reader")).set("enable.partition.eof", "true");
            config.set("isolation.level", isolation).create().unwrap()
        };
        let (committed, any) = (reader("read_committed"), reader("read_uncommitted"));
        let mut read = Vec::new();
        for partition in 0..i32::try_from(self.ends().len()).unwrap() {
            let end = |reader: &BaseConsumer| reader.fetch_watermarks(&self.name, partition, PATIENCE).unwrap().1;
            until("no transaction is open", || (end(&committed) == end(&any)).then_some(()));
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&self.name, partition, Offset::Beginning).unwrap();
            committed.assign(&list).unwrap();
            until("the topic gives its records", || {
                loop {
                    match committed.poll(Duration::from_millis(100)) {
                        Some(Ok(message)) => read.push(take(&message)),
                        Some(Err(KafkaError::PartitionEOF(_))) => return Some(()),
                        Some(Err(error)) => panic!("{error}"),
                        None => return None,
                    }
                }
            });
        }
        read
    }

    /// The identities of the dead letters that it holds, each once.
    pub(crate) fn dead_letters(&self) -> Vec<String> {
        let mut ids = self.read(|message| {
            let headers = message.headers().unwrap();
            let id = headers.iter().find(|header| header.key == "tidegate.id").unwrap();
            String::from_utf8(id.value.unwrap().to_vec()).unwrap()
        });
        ids.sort();
        ids.dedup();
        ids
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // The broker may be gone by now.
        let soon = AdminOptions::new().operation_timeout(Some(Duration::from_secs(1)));
        let soon = soon.request_timeout(Some(Duration::from_secs(2)));
        let _ = self.runtime.block_on(self.admin.delete_topics(&[&self.name], &soon));
    }
}
