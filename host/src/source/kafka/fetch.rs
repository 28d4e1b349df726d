//! Fetches partitions from given offsets on. The client that fetches is no member of the group, so that starting,
//! setting back and stopping a partition disturb neither the membership nor another partition; and each partition has
//! a queue of its own there, so that one whose lane is full holds up no other.
//!
//! Each queue holds what was fetched ahead. The client takes the size of its queues when it is made, so that another one
//! takes its place when the partitions become many more, or many fewer: all queues together stay within [`AHEAD`].

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{anyhow, bail};
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use crate::source::queue::Bell;
use crate::source::{Bounds, Claim, Header, Record, TopicPartition};

/// How much the queues of all partitions may hold together. A fetch that is under way brings as much again.
const AHEAD: usize = 64 << 20;
/// What the queue of a partition holds at the most, which is a few requests, and at the least.
const SHARES: std::ops::RangeInclusive<usize> = (16 << 10)..=(2 << 20);

/// A client of a source as others share it: another one may take its place.
#[derive(Clone)]
pub(super) struct Client(Arc<Mutex<Arc<BaseConsumer<Context>>>>);

impl Client {
    /// The client that serves now.
    pub(super) fn get(&self) -> Arc<BaseConsumer<Context>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, by: Arc<BaseConsumer<Context>>) -> Arc<BaseConsumer<Context>> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), by)
    }
}

/// How many bytes the queue of each of so many partitions may hold.
pub(super) fn share(partitions: usize) -> usize {
    (AHEAD / partitions.next_power_of_two()).clamp(*SHARES.start(), *SHARES.end())
}

/// The client that fetches, and the partitions it fetches.
pub(super) struct Fetcher {
    consumer: Arc<BaseConsumer<Context>>,
    shared: Client,
    /// What the queue of a partition may hold.
    share: usize,
    bell: Arc<Bell>,
    /// Every partition that was ever fetched: dropping a queue would leave its partition without one.
    feeds: HashMap<TopicPartition, Feed>,
}

struct Feed {
    queue: PartitionQueue<Context>,
    /// Something has come in since the queue was last found empty.
    ready: Arc<AtomicBool>,
    /// Where the next record is expected, and its claim, while the partition is fetched.
    running: Option<(u64, Claim)>,
}

/// What a partition has given.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    /// Records, in order.
    pub(super) records: Vec<Record>,
    /// The end of the partition, if it lies beyond the last record: what is between are control records.
    pub(super) reached: Option<(u64, Claim)>,
    /// The broker does not have the offset that comes next.
    pub(super) torn: bool,
    /// More may be waiting.
    pub(super) more: bool,
}

impl Fetcher {
    /// `consumer` was made for queues of this share.
    pub(super) fn new(consumer: BaseConsumer<Context>, share: usize, bell: Arc<Bell>) -> Self {
        let consumer = Arc::new(consumer);
        let shared = Client(Arc::new(Mutex::new(consumer.clone())));
        Self { consumer, shared, share, bell, feeds: HashMap::new() }
    }

    /// The client, for questions that belong to no partition's queue.
    pub(super) fn client(&self) -> Client {
        self.shared.clone()
    }

    /// Has the queues of so many partitions hold no more than they may together. `make` makes a client for a share.
    pub(super) fn fetch_for(
        &mut self,
        partitions: usize,
        make: impl FnOnce(usize) -> anyhow::Result<BaseConsumer<Context>>,
    ) -> anyhow::Result<()> {
        let share = share(partitions);
        // Larger ones are worth another client when they are much larger.
        if share >= self.share && share < self.share * 4 {
            return Ok(());
        }
        self.share = share;
        self.renew(make)
    }

    /// Has another client take the place of the one that fetches.
    pub(super) fn renew(
        &mut self,
        make: impl FnOnce(usize) -> anyhow::Result<BaseConsumer<Context>>,
    ) -> anyhow::Result<()> {
        let consumer = Arc::new(make(self.share)?);
        let running: Vec<_> =
            self.feeds.drain().filter_map(|(partition, feed)| Some((partition, feed.running?))).collect();
        let before = (self.shared.replace(consumer.clone()), std::mem::replace(&mut self.consumer, consumer));
        // A client takes a moment to end.
        thread::Builder::new().name("tidegate-close".into()).spawn(move || drop(before))?;
        running.into_iter().try_for_each(|(partition, (next, claim))| self.begin(&partition, next, claim))
    }

    /// Fetches a partition from this offset on, under this claim. Whatever was fetched before is never given any more.
    pub(super) fn begin(&mut self, partition: &TopicPartition, offset: u64, claim: Claim) -> anyhow::Result<()> {
        self.stop(partition)?;
        if !self.feeds.contains_key(partition) {
            let feed = self.feed(partition)?;
            self.feeds.insert(partition.clone(), feed);
        }
        let Some(feed) = self.feeds.get_mut(partition) else { return Ok(()) };
        let from = Offset::Offset(i64::try_from(offset)?);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&partition.topic, number(partition)?, from)?;
        self.consumer.incremental_assign(&list).map_err(|error| anyhow!("cannot fetch {partition}: {error}"))?;
        feed.running = Some((offset, claim));
        feed.ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Stops fetching a partition, if it is fetched.
    pub(super) fn stop(&mut self, partition: &TopicPartition) -> anyhow::Result<()> {
        let Some(feed) = self.feeds.get_mut(partition) else { return Ok(()) };
        if feed.running.take().is_some() {
            let mut list = TopicPartitionList::new();
            list.add_partition(&partition.topic, number(partition)?);
            let stopped = self.consumer.incremental_unassign(&list);
            stopped.map_err(|error| anyhow!("cannot stop fetching {partition}: {error}"))?;
        }
        Ok(())
    }

    /// Serves what the client has to say, and is no partition's.
    pub(super) fn serve(&mut self) -> anyhow::Result<()> {
        loop {
            let strayed = match self.consumer.poll(Duration::ZERO) {
                None => return Ok(()),
                Some(Ok(message)) => {
                    TopicPartition { topic: message.topic().into(), partition: u32::try_from(message.partition())? }
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => bail!("the Kafka client cannot go on: {code}"),
                // Noted by the context.
                Some(Err(_)) => continue,
            };
            self.begin_anew(&strayed)?;
        }
    }

    /// Takes a partition's queue again, and what it is to give from where it stands. A client that learns of a topic
    /// while a queue is taken is known to bring records by its own queue at times, where they have no order against
    /// those of the partition's.
    fn begin_anew(&mut self, partition: &TopicPartition) -> anyhow::Result<()> {
        let Some((next, claim)) = self.feeds.get(partition).and_then(|feed| feed.running) else { return Ok(()) };
        tracing::info!(%partition, "a record came by another way than its partition's queue; fetching from there again");
        self.stop(partition)?;
        self.feeds.remove(partition);
        self.begin(partition, next, claim)
    }

    /// Whether a partition may have something to give.
    pub(super) fn is_ready(&self, partition: &TopicPartition) -> bool {
        self.feeds.get(partition).is_some_and(|feed| feed.ready.load(Ordering::Acquire))
    }

    /// Has every partition looked at again: the client's wake-ups are known to get lost at times.
    pub(super) fn look_at_all(&self) {
        for feed in self.feeds.values().filter(|feed| feed.running.is_some()) {
            feed.ready.store(true, Ordering::Release);
        }
    }

    /// Takes what a partition has, at most one record beyond these bounds.
    pub(super) fn take(&mut self, partition: &TopicPartition, bounds: Bounds) -> anyhow::Result<Fetched> {
        let mut fetched = Fetched::default();
        let Some(feed) = self.feeds.get_mut(partition) else { return Ok(fetched) };
        let mut bytes = 0;
        feed.ready.store(false, Ordering::Release);
        while fetched.records.len() < bounds.records && bytes < bounds.bytes {
            let Some(polled) = feed.queue.poll(Duration::ZERO) else { return Ok(fetched) };
            let Some((next, claim)) = &mut feed.running else { continue };
            match polled {
                Ok(message) => {
                    let record = record(partition, &message, *claim)?;
                    if record.offset >= *next {
                        *next = record.offset + 1;
                        bytes += record.size();
                        fetched.records.push(record);
                        fetched.reached = None;
                    }
                }
                Err(KafkaError::PartitionEOF(_)) => {
                    if let Some(end) = self.consumer.context().end_offset().filter(|end| *end > *next) {
                        *next = end;
                        fetched.reached = Some((end, *claim));
                    }
                }
                Err(KafkaError::MessageConsumptionFatal(code)) => bail!("the Kafka client cannot go on: {code}"),
                Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    fetched.torn = true;
                    return Ok(fetched);
                }
                // Noted by the context; the client tries again by itself.
                Err(_) => {}
            }
        }
        feed.ready.store(true, Ordering::Release);
        fetched.more = true;
        Ok(fetched)
    }

    fn feed(&self, partition: &TopicPartition) -> anyhow::Result<Feed> {
        let mut queue = self
            .consumer
            .split_partition_queue(&partition.topic, number(partition)?)
            .ok_or_else(|| anyhow!("the Kafka client has no queue for {partition}"))?;
        let ready = Arc::new(AtomicBool::new(false));
        let (flag, bell) = (ready.clone(), self.bell.clone());
        queue.set_nonempty_callback(move || {
            flag.store(true, Ordering::Release);
            bell.ring();
        });
        Ok(Feed { queue, ready, running: None })
    }
}

#[cfg(test)]
impl Fetcher {
    /// Begins a partition from its first offset on, with a client that brings what it has so far by its own queue.
    pub(super) fn begin_astray(&mut self, partition: &TopicPartition, claim: Claim) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&partition.topic, number(partition)?, Offset::Beginning)?;
        self.consumer.incremental_assign(&list)?;
        while self.consumer.poll(Duration::from_millis(10)).is_none() {}
        let feed = Feed { running: Some((0, claim)), ..self.feed(partition)? };
        self.feeds.insert(partition.clone(), feed);
        Ok(())
    }
}

/// The number of a partition as librdkafka counts.
pub(super) fn number(partition: &TopicPartition) -> anyhow::Result<i32> {
    Ok(i32::try_from(partition.partition)?)
}

/// A message as a record that owns its bytes.
pub(super) fn record(
    partition: &TopicPartition,
    message: &BorrowedMessage<'_>,
    claim: Claim,
) -> anyhow::Result<Record> {
    let headers = message.headers().map(|headers| {
        // The client's own code panics where the name of a header is not UTF-8.
        let copied = catch_unwind(AssertUnwindSafe(|| {
            let owned = |header: rdkafka::message::Header<'_, &[u8]>| Header {
                name: header.key.to_owned(),
                value: header.value.map(<[u8]>::to_vec),
            };
            headers.iter().map(owned).collect()
        }));
        copied.unwrap_or_else(|_| {
            let offset = message.offset();
            tracing::warn!(%partition, offset, "the name of a header is not UTF-8: the record goes on without headers");
            Vec::new()
        })
    });
    Ok(Record {
        partition: partition.clone(),
        offset: u64::try_from(message.offset())?,
        timestamp: message.timestamp().to_millis(),
        headers: headers.unwrap_or_default(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        claim,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_of_any_number_of_partitions_stay_within_their_bound() {
        assert_eq!([0, 1, 32].map(share), [2 << 20; 3]);
        for partitions in [33, 100, 1_000, 4_096] {
            let together = share(partitions) * partitions;
            assert!((AHEAD / 2..=AHEAD).contains(&together), "{partitions}: {together}");
        }
        assert_eq!(share(1_000_000), 16 << 10);
    }
}
