//! What can be seen of a source from outside, asked of the brokers again and again: where partitions end, how many a topic
//! has, and what the group waits for. Nobody waits for it.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::claimed::Seen;
use super::context::{Context, Noted};
use super::fetch::Client;
use super::{KafkaSource, ends, metadata, topic_id};
use crate::source::status::Status;
use crate::source::topics::Topics;

/// How often it is asked where partitions end, and whether their topics are the same still.
const EVERY: Duration = Duration::from_secs(2);
/// How often it is asked how many partitions the topics have.
const TOPICS_EVERY: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the group may take to assign partitions before that is told. Without a member that is gone it takes some
/// three seconds.
const JOINS_WITHIN: Duration = Duration::from_secs(5);
/// The session timeout of librdkafka, where the configuration names none.
const SESSION_TIMEOUT_MS: &str = "45000";

/// Asks, on a thread of its own, until the answer of this is dropped.
pub(super) fn start(source: &KafkaSource, client: Client, noted: Arc<Noted>) -> anyhow::Result<Sender<()>> {
    let (watching, ended) = mpsc::channel();
    let (source, span) = (source.clone(), tracing::Span::current());
    let topics = Topics::new(&source.topics).map_err(|cause| anyhow::anyhow!("`topics`: {cause}"))?;
    let watch = move || {
        let _inside = span.enter();
        let (since, mut told, mut counted) = (Instant::now(), false, None::<Instant>);
        let mut seen = Seen::default();
        while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            let client = client.get();
            let claimed = noted.claimed.topics();
            let names: Vec<&str> = claimed.iter().map(|topic| &**topic).collect();
            match topic_id::describe(&client, &names, PATIENCE) {
                Ok(now) => noted.claimed.compare(&now),
                Err(error) => tracing::debug!("cannot ask for the topics' ids: {error:#}"),
            }
            if counted.is_none_or(|when| when.elapsed() >= TOPICS_EVERY) {
                counted = Some(Instant::now());
                count(&client, &topics, &source.status);
            }
            // The clients that fetch and commit tell it when the cluster is away.
            match ends::ask(&client, &source.status) {
                Ok(beyond) => noted.claimed.compare_ends(&mut seen, beyond),
                Err(error) => tracing::debug!("cannot ask where partitions end: {error:#}"),
            }
            if !told && !source.status.is_settled() && since.elapsed() >= JOINS_WITHIN {
                told = source.tell_group(&client, since);
            }
        }
    };
    thread::Builder::new().name("tidegate-watch".into()).spawn(watch)?;
    Ok(watching)
}

/// Asks how many partitions the topics have. What is not answered stays as it was.
fn count(client: &BaseConsumer<Context>, topics: &Topics, status: &Status) {
    let asked: Vec<Option<&str>> = if topics.has_patterns() {
        vec![None]
    } else {
        topics.written().iter().map(|topic| Some(topic.as_str())).collect()
    };
    for topic in asked {
        let Ok(metadata) = client.fetch_metadata(topic, PATIENCE) else { continue };
        for topic in metadata.topics().iter().filter(|topic| topics.contains(topic.name())) {
            if let Ok(Ok(partitions)) = metadata::of(topic).map(|partitions| u32::try_from(partitions.len())) {
                status.has_partitions(topic.name(), partitions);
            }
        }
    }
}

impl KafkaSource {
    /// Says what the group waits for. Whether it could be found out.
    fn tell_group(&self, client: &BaseConsumer<Context>, since: Instant) -> bool {
        let Ok(groups) = client.fetch_group_list(Some(&self.group), PATIENCE) else { return false };
        let Some(group) = groups.groups().iter().find(|group| group.name() == self.group) else { return false };
        let session = self.config.client.properties.get("session.timeout.ms");
        tracing::info!(
            group = self.group,
            state = group.state(),
            members = group.members().len(),
            waited_seconds = since.elapsed().as_secs(),
            session_timeout_ms = session.map_or(SESSION_TIMEOUT_MS, |session| session.as_str()),
            "waiting for the group to assign partitions: a member that ended without leaving, as one that was killed, counts \
             until its session times out. With `instance` a process that starts again takes its own place at once"
        );
        true
    }
}
