//! Records from a Kafka cluster, one consumer group a pipeline.
//!
//! Two clients share the work. The *member* belongs to the group: it takes part in rebalances and commits. The
//! *fetcher* belongs to none, and fetches what the lanes have claimed, from the offsets that they name. Both are
//! served by the one thread that runs the source, which waits neither for a lane nor for a store.

mod claimed;
pub(crate) mod client;
mod commit;
mod committed;
mod committer;
mod consumer;
mod context;
mod ends;
mod extent;
mod fetch;
mod follow;
mod inspect;
pub(crate) mod metadata;
mod prove;
mod read;
mod revoking;
#[cfg(test)]
mod tests;
mod topic_id;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;

use self::client::{check_token, client_config, refused};
use self::context::{Context, Noted};
pub use self::extent::{Ends, Extent};
pub use self::read::read_all;
use super::status::Status;
use super::{Control, Counted, LaneQueue};
use crate::config::{self, Assignment};

/// What a request brings of a partition at the most, unless one record is larger: librdkafka's own default.
const FETCH: usize = 1 << 20;

/// What a pipeline reads from a cluster.
#[derive(Debug, Clone)]
pub struct KafkaSource {
    config: config::KafkaSource,
    group: String,
    topics: Vec<String>,
    status: Arc<Status>,
    count: fn(&str, Counted) -> String,
}

impl KafkaSource {
    /// The topics and the group of a pipeline. Nothing is connected yet.
    pub fn new(config: &config::KafkaSource, pipeline: &config::Pipeline) -> Self {
        Self {
            config: config.clone(),
            group: pipeline.group.clone(),
            topics: pipeline.topics.clone(),
            status: Arc::default(),
            count: |metadata, _| metadata.to_owned(),
        }
    }

    /// Has each claim of a partition with records to give, and each trial, counted in the metadata of its commit, before
    /// one is given, and taken out again when it is let go of: this makes the new metadata of the old.
    #[must_use]
    pub fn counting(self, count: fn(&str, Counted) -> String) -> Self {
        Self { count, ..self }
    }

    /// Has what it knows of its partitions told there.
    #[must_use]
    pub fn seen_by(self, status: Arc<Status>) -> Self {
        Self { status, ..self }
    }

    /// Serves the lanes until `stop` is set or they stop, however long the cluster is away. Then every lane is told to
    /// release its partitions, what is durable is committed, and the group is left.
    ///
    /// # Errors
    /// When the cluster refuses this client, or the client cannot go on; the text names the brokers and the remedy.
    pub fn run(self, lanes: &[Arc<LaneQueue>], control: &Receiver<Control>, stop: &AtomicBool) -> anyhow::Result<()> {
        consumer::run(&self, lanes, control, stop)
    }

    /// The client that is the group's member.
    fn member(&self, noted: &Arc<Noted>) -> anyhow::Result<BaseConsumer<Context>> {
        let mut config = self.consumer();
        config.set(
            "partition.assignment.strategy",
            match self.config.assignment {
                // `range` would give every topic of one partition to the same member.
                Assignment::Eager => "roundrobin",
                Assignment::Cooperative => "cooperative-sticky",
            },
        );
        if let Some(instance) = &self.config.instance {
            config.set("group.instance.id", instance.as_str());
        }
        self.create(&config, noted, true)
    }

    /// The client that fetches. It names the group too, since librdkafka asks for one, and never joins it.
    /// `share` is how many bytes it may hold of each partition.
    fn fetcher(&self, noted: &Arc<Noted>, share: usize) -> anyhow::Result<BaseConsumer<Context>> {
        let mut config = self.consumer();
        config.set("enable.partition.eof", "true");
        // One request is under way to a broker at a time, and a partition that begins waits for it to come back.
        self.default(&mut config, "fetch.wait.max.ms", "100");
        // Each partition has a buffer of its own, which is refilled without a pause. Small messages take some hundreds of
        // bytes more than they count there.
        self.default(&mut config, "queued.max.messages.kbytes", &(share >> 10).to_string());
        self.default(&mut config, "queued.min.messages", &(share / 256).to_string());
        if !self.config.client.properties.contains_key("max.partition.fetch.bytes") {
            self.default(&mut config, "fetch.message.max.bytes", &share.min(FETCH).to_string());
        }
        self.default(&mut config, "fetch.queue.backoff.ms", "5");
        self.create(&config, noted, false)
    }

    fn consumer(&self) -> ClientConfig {
        let mut config = client_config(&self.config.client);
        config.set("group.id", &self.group);
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "error");
        config.set("isolation.level", "read_committed");
        // How soon a new topic, or a new partition of an old one, is seen.
        self.default(&mut config, "topic.metadata.refresh.interval.ms", "30000");
        self.default(&mut config, "socket.timeout.ms", "10000");
        config
    }

    /// Sets what the operator has not set.
    fn default(&self, config: &mut ClientConfig, name: &str, value: &str) {
        if !self.config.client.properties.contains_key(name) {
            config.set(name, value);
        }
    }

    fn create(&self, config: &ClientConfig, noted: &Arc<Noted>, member: bool) -> anyhow::Result<BaseConsumer<Context>> {
        check_token(&self.config.client)?;
        let context = Context::new(self.config.client.clone(), noted.clone(), member);
        config.create_with_context(context).map_err(|error| refused(&self.config.client, &error))
    }
}
