//! What can be seen of a source from outside: whether it has found its partitions, and how far each is behind.
//!
//! The source tells where partitions end, the lanes how far they have come; nobody waits for a reader.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::TopicPartition;

/// An offset, or a time, that nobody knows yet.
const UNKNOWN: u64 = u64::MAX;
const NEVER: i64 = i64::MIN;

/// What is known of one pipeline's source.
#[derive(Debug, Default)]
pub struct Status {
    settled: AtomicBool,
    away: AtomicBool,
    /// The pipeline has stopped: its positions are those that its group has committed.
    is_followed: AtomicBool,
    positions: Mutex<BTreeMap<TopicPartition, Arc<Position>>>,
    /// The partitions that were this process's before.
    left: Mutex<BTreeMap<TopicPartition, Arc<Position>>>,
    topics: Mutex<BTreeMap<Arc<str>, TopicStatus>>,
}

/// What is known of a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicStatus {
    /// How many partitions it has; none where nobody has told yet.
    pub partitions: Option<u32>,
    /// How many of them the group has assigned to this process.
    pub assigned: u32,
}

/// Where a lane stands in a partition, updated as batches become durable.
#[derive(Debug)]
pub struct Position {
    next: AtomicU64,
    end: AtomicU64,
    /// When the last event that was handled happened, ms since 1970.
    handled: AtomicI64,
    /// When nothing was left to do for the last time, ms since 1970.
    at_end: AtomicI64,
}

/// How far a partition has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Lag {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset that is wanted: everything below is durable.
    pub next: u64,
    /// The offset after the newest; none where nobody knows, as with files.
    pub end: Option<u64>,
    /// Offsets between the two.
    pub offsets: Option<u64>,
    /// How much later it is than the source's newest event that is durable, 0 at the end; none where nobody knows.
    pub seconds: Option<f64>,
}

impl Status {
    /// The source knows which partitions are this process's, if any are.
    pub fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// Whether it does.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Whether the source can be reached now.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// Whether it was out of reach when that was last looked at.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// A lane has claimed a partition, and begins at this offset.
    pub fn claimed(&self, partition: &TopicPartition, next: u64, end: Option<u64>) -> Arc<Position> {
        let position = Arc::new(Position::at(next, end));
        self.lock().insert(partition.clone(), position.clone());
        position
    }

    /// A partition is this process's no longer.
    pub fn released(&self, partition: &TopicPartition) {
        if let Some(position) = self.lock().remove(partition) {
            lock(&self.left).insert(partition.clone(), position);
        }
    }

    /// The pipeline has stopped: from now on, [`Status::followed`] sets how far it is.
    pub fn follow(&self) {
        self.is_followed.store(true, Ordering::Release);
    }

    /// Sets where a partition of a stopped pipeline is by its group's commit, whether the partition has an owner or not. Does
    /// nothing once the pipeline has started again.
    pub fn followed(&self, partition: &TopicPartition, next: u64, end: u64) {
        let mut positions = self.lock();
        if !self.is_followed.load(Ordering::Acquire) {
            return;
        }
        let left = lock(&self.left).remove(partition);
        let position = positions.entry(partition.clone());
        let position = position.or_insert_with(|| left.unwrap_or_else(|| Arc::new(Position::at(next, Some(end)))));
        position.end.store(end, Ordering::Relaxed);
        position.reached(next, None);
    }

    /// Nothing is known of partitions, as before the first start.
    pub fn begin_again(&self) {
        let mut positions = self.lock();
        self.is_followed.store(false, Ordering::Release);
        positions.clear();
        lock(&self.left).clear();
        self.away.store(false, Ordering::Relaxed);
        self.settled.store(false, Ordering::Release);
    }

    /// A topic has so many partitions.
    pub fn has_partitions(&self, topic: &str, partitions: u32) {
        lock(&self.topics).entry(topic.into()).or_default().partitions = Some(partitions);
    }

    /// These partitions, and no others, are assigned to this process.
    pub fn assigned<'a>(&self, partitions: impl Iterator<Item = &'a TopicPartition>) {
        let mut topics = lock(&self.topics);
        topics.values_mut().for_each(|topic| topic.assigned = 0);
        for partition in partitions {
            topics.entry(partition.topic.clone()).or_default().assigned += 1;
        }
    }

    /// The topics, with what is known of them.
    pub fn topics(&self) -> Vec<(Arc<str>, TopicStatus)> {
        lock(&self.topics).iter().map(|(topic, status)| (topic.clone(), *status)).collect()
    }

    /// The source has heard where a partition ends.
    pub fn ends_at(&self, partition: &TopicPartition, end: u64) {
        if let Some(position) = self.lock().get(partition) {
            position.end.store(end, Ordering::Relaxed);
            position.look(now());
        }
    }

    /// The partitions that are claimed.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.lock().keys().cloned().collect()
    }

    /// How far each partition has come that is claimed.
    pub fn lags(&self) -> Vec<Lag> {
        let now = now();
        self.lock().iter().map(|(partition, position)| position.lag(partition.clone(), now)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Arc<Position>>> {
        lock(&self.positions)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Position {
    fn at(next: u64, end: Option<u64>) -> Self {
        let position = Self {
            next: AtomicU64::new(next),
            end: AtomicU64::new(end.unwrap_or(UNKNOWN)),
            handled: AtomicI64::new(NEVER),
            at_end: AtomicI64::new(NEVER),
        };
        position.look(now());
        position
    }

    /// Everything below `next` is durable; the last event of it happened at this time, ms since 1970.
    pub fn reached(&self, next: u64, happened: Option<i64>) {
        self.next.store(next, Ordering::Relaxed);
        if let Some(happened) = happened {
            self.handled.store(happened, Ordering::Relaxed);
        }
        self.look(now());
    }

    fn look(&self, now: i64) {
        if self.next.load(Ordering::Relaxed) >= self.end.load(Ordering::Relaxed) {
            self.at_end.store(now, Ordering::Relaxed);
        }
    }

    fn lag(&self, partition: TopicPartition, now: i64) -> Lag {
        let next = self.next.load(Ordering::Relaxed);
        let end = self.end.load(Ordering::Relaxed);
        // What has been handled since the end was heard is beyond it.
        let end = (end != UNKNOWN).then(|| end.max(next));
        let offsets = end.map(|end| end - next);
        // A partition that was at its end later than its last event is behind since then at most.
        let since = self.handled.load(Ordering::Relaxed).max(self.at_end.load(Ordering::Relaxed));
        let seconds = match offsets {
            Some(0) => Some(0.0),
            Some(_) if since != NEVER => {
                Some(Duration::from_millis(u64::try_from(now - since).unwrap_or(0)).as_secs_f64())
            }
            Some(_) | None => None,
        };
        Lag { partition, next, end, offsets, seconds }
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "orders".into(), partition: 3 }
    }

    #[test]
    fn a_partition_is_behind_by_what_is_between_it_and_the_end_and_by_the_age_of_its_last_event() {
        let status = Status::default();
        let position = status.claimed(&partition(), 10, Some(30));
        // Nothing is known of any event yet.
        let lag = status.lags().remove(0);
        assert_eq!((lag.next, lag.end, lag.offsets, lag.seconds), (10, Some(30), Some(20), None));
        position.reached(20, Some(now() - 90_000));
        let lag = status.lags().remove(0);
        assert_eq!(lag.offsets, Some(10));
        assert!((90.0..100.0).contains(&lag.seconds.unwrap()), "{lag:?}");
        // At the end nothing is behind, however old the last event is.
        position.reached(30, Some(now() - 80_000));
        assert_eq!(status.lags()[0].seconds, Some(0.0));
        // An event that came now is not as late as the last one is old.
        status.ends_at(&partition(), 31);
        assert!(status.lags()[0].seconds.unwrap() < 10.0);
        // What was handled since the end was heard does not count below zero.
        position.reached(32, None);
        assert_eq!((status.lags()[0].end, status.lags()[0].offsets), (Some(32), Some(0)));
        status.released(&partition());
        assert_eq!(status.lags(), []);
    }

    #[test]
    fn where_no_end_is_known_no_lag_is() {
        let status = Status::default();
        status.claimed(&partition(), 0, None).reached(7, Some(5));
        let lag = status.lags().remove(0);
        assert_eq!((lag.next, lag.end, lag.offsets, lag.seconds), (7, None, None, None));
    }

    #[test]
    fn topic_counts_what_is_assigned_beside_what_it_has() {
        let status = Status::default();
        status.has_partitions("orders", 3);
        status.assigned([partition()].iter());
        let orders = |partitions, assigned| [("orders".into(), TopicStatus { partitions, assigned })];
        assert_eq!(status.topics(), orders(Some(3), 1));
        status.assigned([].iter());
        assert_eq!(status.topics(), orders(Some(3), 0), "it is still known, so that sums over processes are right");
    }

    #[test]
    fn partition_of_a_stopped_pipeline_is_behind_since_its_last_event() {
        let status = Status::default();
        status.claimed(&partition(), 10, Some(30)).reached(20, Some(now() - 90_000));
        status.released(&partition());
        status.followed(&partition(), 20, 50);
        assert_eq!(status.lags(), [], "another process has it");
        status.follow();
        status.followed(&partition(), 20, 50);
        let lag = status.lags().remove(0);
        assert_eq!((lag.next, lag.offsets), (20, Some(30)));
        assert!(lag.seconds.unwrap() >= 90.0, "{lag:?}");
        // Another process has taken it over, and has come to the end.
        status.followed(&partition(), 50, 50);
        assert_eq!(status.lags()[0].seconds, Some(0.0));
        // One that was another process's.
        let other = TopicPartition { partition: 0, ..partition() };
        status.followed(&other, 5, 9);
        assert_eq!((status.lags()[0].offsets, status.lags()[0].seconds), (Some(4), None));
    }
}
