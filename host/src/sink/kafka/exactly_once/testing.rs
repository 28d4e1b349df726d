//! For tests: topics and a ledger topic of their own on the real broker, and what those see who read what is committed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{ExactlyOnce, Options};
use crate::command::{Command, Port};
use crate::inspection::Inspection;
use crate::sink::contract_tests::Bench;
use crate::sink::kafka::testing::{Topic, broker, random_name};
use crate::sink::model::Model;
use crate::sink::testing::service;
use crate::sink::{Declared, HistoryRow, LedgerKey, Sink, SinkError, Standing, Step, Token, TopicHead, Write, Written};

/// A topic of one partition, and a ledger.
pub(crate) struct KafkaBench {
    pub(crate) topic: Topic,
    pub(crate) ledger: Topic,
    readers: [BaseConsumer; 2],
}

impl KafkaBench {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// With a topic of these settings.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let settings: Vec<(String, String)> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        // A runtime inside of a runtime is none; another thread may have its own.
        let made = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let settings: Vec<_> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
            runtime.block_on(Topic::make(1, &settings))
        });
        let reader = |isolation: &str| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", service("kafka")).set("group.id", "unused");
            config.set("isolation.level", isolation).set("enable.partition.eof", "true");
            config.set("fetch.wait.max.ms", "10").create().unwrap()
        };
        let readers = [reader("read_committed"), reader("read_uncommitted")];
        // The sink makes it.
        Self { topic: made.join().unwrap(), ledger: Topic(random_name("ledger")), readers }
    }

    /// The sink itself; its messages go to [`KafkaBench::topic`].
    pub(crate) fn sink(&self) -> ExactlyOnce {
        let options = Options { name: "events".into(), client: broker(), ledger_topic: self.ledger.0.clone() };
        ExactlyOnce::open(options).unwrap()
    }

    /// The values that are committed in the topic.
    pub(crate) fn committed(&self) -> Vec<String> {
        let [committed, _] = &self.readers;
        self.values(committed)
    }

    /// All of them, those of aborted and open transactions too.
    pub(crate) fn all(&self) -> Vec<String> {
        let [_, all] = &self.readers;
        self.values(all)
    }

    /// Waits until no transaction is open in the topic.
    pub(crate) fn settle(&self) {
        let begun = Instant::now();
        let ends = || {
            self.readers
                .each_ref()
                .map(|reader| reader.fetch_watermarks(&self.topic.0, 0, Duration::from_secs(10)).unwrap().1)
        };
        while {
            let [committed, all] = ends();
            committed < all
        } {
            assert!(begun.elapsed() < Duration::from_secs(60), "a transaction stays open");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn values(&self, reader: &BaseConsumer) -> Vec<String> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic.0, 0, Offset::Offset(0)).unwrap();
        reader.assign(&list).unwrap();
        let mut values = Vec::new();
        let begun = Instant::now();
        loop {
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => {
                    values.push(String::from_utf8(record.payload().unwrap_or_default().to_vec()).unwrap());
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => panic!("{error}"),
                None => assert!(begun.elapsed() < Duration::from_secs(30), "there is no end"),
            }
        }
        reader.unassign().unwrap();
        values
    }
}

impl Bench for KafkaBench {
    fn ports(&self) -> &'static [Port] {
        &[Port::Messages]
    }

    fn open(&self) -> Arc<dyn Sink> {
        Arc::new(Renamed { sink: self.sink(), topic: self.topic.0.clone() })
    }

    fn contents(&self) -> Model {
        self.settle();
        Model { messages: self.committed(), ..Model::default() }
    }
}

/// The sink with another name for the one topic that the suite publishes to.
struct Renamed {
    sink: ExactlyOnce,
    topic: String,
}

#[async_trait]
impl Sink for Renamed {
    async fn knows(&self, pipeline: &str) -> Result<bool, SinkError> {
        self.sink.knows(pipeline).await
    }

    async fn prepare(&self, pipeline: &str, declared: &Declared) -> Result<(), SinkError> {
        let topics = declared.topics.iter().map(|_| self.topic.clone()).collect();
        self.sink.prepare(pipeline, &Declared { topics, ..declared.clone() }).await
    }

    async fn enter_topic(
        &self,
        pipeline: &str,
        topic: &str,
        head: &TopicHead,
        replace: bool,
    ) -> Result<TopicHead, SinkError> {
        self.sink.enter_topic(pipeline, topic, head, replace).await
    }

    async fn claim(&self, key: &LedgerKey, token: Token, start: u64) -> Result<Standing, SinkError> {
        self.sink.claim(key, token, start).await
    }

    fn release(&self, key: &LedgerKey) {
        self.sink.release(key);
    }

    async fn positions(&self, keys: &[LedgerKey]) -> Result<Vec<Option<(Token, u64)>>, SinkError> {
        self.sink.positions(keys).await
    }

    async fn write(&self, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, SinkError> {
        let renamed = |write: &Write<'_>| {
            let mut command = (*write.command).clone();
            if let Command::Publish { topic, .. } = &mut command {
                topic.clone_from(&self.topic);
            }
            Write { command: std::borrow::Cow::Owned(command), origins: write.origins.clone() }
        };
        let writes: Vec<_> = writes.iter().map(renamed).collect();
        self.sink.write(step, &writes).await
    }

    async fn history(&self, pipeline: &str) -> Result<Vec<HistoryRow>, SinkError> {
        self.sink.history(pipeline).await
    }

    async fn clear_cache(&self, pipeline: &str, keys: &[String]) -> Result<(), SinkError> {
        self.sink.clear_cache(pipeline, keys).await
    }

    async fn inspect(&self, pipeline: &str, declared: &Declared) -> Result<Inspection, SinkError> {
        self.sink.inspect(pipeline, declared).await
    }
}
