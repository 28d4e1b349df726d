//! Proves that this process is still a member of its group before a partition is claimed, and looks up what a lane
//! has to know of the partition. It asks the broker, and so it runs on threads of its own: whatever waits here, the
//! other partitions go on.
//!
//! There are two such threads. A broker that does not answer is waited for with little patience by the first, and what
//! failed there is asked again by the second: so a partition whose broker is ill holds up no healthy one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Context, Noted};
use super::fetch::{Client, number};
use super::{metadata, topic_id};
use crate::config::KafkaClient;
use crate::source::lease::Moment;
use crate::source::queue::Bell;
use crate::source::{Assigned, Committed, Counted, TopicFacts, TopicPartition};

/// How long one question to the broker may take while others wait that may be answered at once.
const SHORT: Duration = Duration::from_secs(2);
/// How long one question to the broker may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is tried whether a broker that was away is there again.
const PROBE: Duration = Duration::from_secs(1);

/// How long the answer to the question for a topic's id serves for its other partitions. One that is made again in that
/// time is found by the watch.
const ID_HOLDS: Duration = Duration::from_secs(1);

/// How long a claim waits for the id of its topic. Without one it goes on: the watch asks again.
const ID_PATIENCE: Duration = Duration::from_millis(500);

/// The ids of topics, and when each was asked for.
type Ids = HashMap<Arc<str>, (Instant, Option<String>)>;

/// A partition to prove.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) partition: TopicPartition,
    /// The number of its assignment, so that an answer that comes too late is known.
    pub(super) number: u64,
    /// The number of its assignment as it is now, so that nobody is asked about one that is no more.
    pub(super) current: Arc<AtomicU64>,
    /// What the commit counts.
    pub(super) counted: Option<Counted>,
    /// The commit of the partition where this process has the newest in hand, which the group may not have yet.
    pub(super) newest: Option<Committed>,
}

/// What is known of the partition, or why nothing is.
pub(super) type Answer = (TopicPartition, u64, anyhow::Result<Assigned>);

/// What proves.
#[derive(Clone)]
pub(super) struct Prover {
    pub(super) member: Arc<BaseConsumer<Context>>,
    /// Asks for the ids of topics. The member would take what it then hears of a topic in error for a change of its group.
    pub(super) fetcher: Client,
    pub(super) client: KafkaClient,
    pub(super) noted: Arc<Noted>,
    pub(super) bell: Arc<Bell>,
    pub(super) count: fn(&str, Counted) -> String,
}

/// The threads that prove.
pub(super) struct Provers {
    first: Sender<Question>,
    second: Sender<Question>,
    threads: Vec<JoinHandle<()>>,
}

impl Provers {
    /// Starts them. What they find out comes by `answers`.
    pub(super) fn start(prover: &Prover, answers: &Sender<Answer>) -> std::io::Result<Self> {
        let mut threads = Vec::new();
        let mut start = |name: &str, patience| {
            let (questions, asked) = mpsc::channel();
            let (prover, answers, span) = (prover.clone(), answers.clone(), tracing::Span::current());
            let prove = move || span.in_scope(|| prover.run(patience, &asked, &answers));
            threads.push(thread::Builder::new().name(name.into()).spawn(prove)?);
            std::io::Result::Ok(questions)
        };
        let first = start("tidegate-prove", SHORT)?;
        let second = start("tidegate-prove-again", PATIENCE)?;
        Ok(Self { first, second, threads })
    }

    /// Has a partition proved; one that failed before holds up no other.
    pub(super) fn ask(&self, question: Question, failed_before: bool) {
        let to = if failed_before { &self.second } else { &self.first };
        // The threads live as long as these senders.
        let _ = to.send(question);
    }

    /// Waits until both have ended.
    pub(super) fn end(self) {
        let Self { first, second, threads } = self;
        drop((first, second));
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Prover {
    /// Answers questions until nobody asks any more.
    fn run(self, patience: Duration, questions: &Receiver<Question>, answers: &Sender<Answer>) {
        let mut ids = Ids::new();
        loop {
            match questions.recv_timeout(PROBE) {
                Ok(question) if !question.is_current() => {}
                Ok(question) => {
                    let proved = self.prove(&question, patience, &mut ids);
                    if proved.is_ok() {
                        self.noted.answered(&self.client);
                    }
                    let _ = answers.send((question.partition, question.number, proved));
                    self.bell.ring();
                }
                Err(RecvTimeoutError::Timeout) => self.probe(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn probe(&self) {
        if self.noted.is_away() && self.member.client().fetch_metadata(Some("__consumer_offsets"), PROBE).is_ok() {
            self.noted.answered(&self.client);
        }
    }

    fn prove(&self, question: &Question, patience: Duration, ids: &mut Ids) -> anyhow::Result<Assigned> {
        let Question { partition, counted, newest, .. } = question;
        let facts = self.topic(partition, patience, ids)?;
        let watermarks = self.member.fetch_watermarks(&partition.topic, number(partition)?, patience);
        let (start, end) = answered(watermarks, || format!("cannot ask where {partition} begins and ends"))?;
        let (offset, mut kept) = match newest {
            Some(newest) => (i64::try_from(newest.offset)?, newest.metadata.clone()),
            None => self.committed(partition, patience)?.unwrap_or((start, String::new())),
        };
        if let Some(counted) = counted.filter(|_| offset < end) {
            kept = (self.count)(&kept, counted);
        }
        if !question.is_current() {
            anyhow::bail!("{partition} was assigned otherwise in the meantime");
        }
        self.commit(partition, offset, &kept)?;
        Ok(Assigned {
            partition: partition.clone(),
            log_start: u64::try_from(start)?,
            log_end: Some(u64::try_from(end)?),
            topic: Some(facts),
            lease: self.noted.leases.of(partition),
            committed: (!kept.is_empty())
                .then(|| u64::try_from(offset).map(|offset| Committed { offset, metadata: kept }))
                .transpose()?,
        })
    }

    /// What is known of the topic. That this one has no leader is found here at once; the question where it ends
    /// would wait for one.
    fn topic(&self, partition: &TopicPartition, patience: Duration, ids: &mut Ids) -> anyhow::Result<TopicFacts> {
        let what = || format!("cannot ask for {partition} and its topic");
        let metadata = answered(self.member.fetch_metadata(Some(&partition.topic), patience), what)?;
        let partitions = answered(metadata::partitions(&metadata, &partition.topic), what)?;
        let number = number(partition)?;
        if partitions.iter().any(|one| one.id() == number && one.leader() < 0) {
            return Err(anyhow::Error::new(RDKafkaErrorCode::LeaderNotAvailable).context(what()));
        }
        let partitions = u32::try_from(partitions.len())?;
        let mut known = ids.remove(&partition.topic).filter(|(when, _)| when.elapsed() < ID_HOLDS);
        let known = known
            .get_or_insert_with(|| (Instant::now(), topic_id::of(&self.fetcher.get(), &partition.topic, ID_PATIENCE)));
        ids.insert(partition.topic.clone(), known.clone());
        Ok(TopicFacts { partitions, id: known.1.clone() })
    }

    /// The group's last commit of a partition.
    fn committed(&self, partition: &TopicPartition, patience: Duration) -> anyhow::Result<Option<(i64, String)>> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.topic, number(partition)?);
        let list = self.member.committed_offsets(list, patience);
        let list = answered(list, || format!("cannot ask for the group's commit of {partition}"))?;
        let Some(element) = list.elements().into_iter().next() else { return Ok(None) };
        answered(element.error(), || format!("cannot read the group's commit of {partition}"))?;
        Ok(match element.offset() {
            Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
            _ => None,
        })
    }

    /// A commit that moves nothing, and is refused to those who are no members any more.
    fn commit(&self, partition: &TopicPartition, offset: i64, metadata: &str) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(&partition.topic, number(partition)?);
        element.set_offset(Offset::Offset(offset))?;
        element.set_metadata(metadata);
        let asked = Moment::now();
        let committed = self.member.commit(&list, CommitMode::Sync);
        if committed.is_ok() {
            self.noted.leases.membership.confirm(asked);
        }
        answered(committed, || format!("the group does not take this process as the owner of {partition}"))
    }
}

impl Question {
    /// Whether the partition is still assigned as it was when this was asked.
    fn is_current(&self) -> bool {
        self.current.load(Ordering::Acquire) == self.number
    }
}

/// The answer to a question to the cluster, or what could not be done and why.
pub(super) fn answered<T>(answer: KafkaResult<T>, what: impl FnOnce() -> String) -> anyhow::Result<T> {
    answer.map_err(|error| match error.rdkafka_error_code() {
        Some(code) => anyhow::Error::new(code).context(what()),
        None => anyhow::Error::new(error).context(what()),
    })
}

/// Why the cluster could not answer.
pub(super) fn code(failure: &anyhow::Error) -> Option<RDKafkaErrorCode> {
    failure.downcast_ref().copied()
}
