//! Records on their way from a source to a lane, bounded by number and bytes.
//!
//! A queue is the only way into a lane. It keeps the order of each partition, hands out one partition's records at a
//! time so that a batch is of one partition, and lets the partitions take turns so that a busy one starves no other.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::{Assigned, Claim, Record, Replay, TopicPartition};

/// How often a source that waits for room looks whether it shall stop.
const LOOK_UP: Duration = Duration::from_millis(100);

/// What a lane finds in its queue.
#[derive(Debug)]
pub enum Item {
    /// The partition is this lane's from now on: claim it, and tell the source where to begin.
    Assigned(Assigned),
    /// The partition goes to another owner: finish what is in flight of it, and release it.
    Revoked(TopicPartition),
    /// Records of one partition, in order.
    Records(Vec<Record>),
    /// Every record of the partition below this offset has been given; what lies between the last one and it are
    /// control records, which nobody is given.
    Reached {
        /// The partition.
        partition: TopicPartition,
        /// The offset.
        offset: u64,
        /// The claim under which this was found.
        claim: Claim,
    },
    /// Handle a dead letter again.
    Replay(Replay),
    /// The lane's own word to itself: the batch of this number has been written, or has not.
    Written(u64),
    /// The source has given everything it has: finish what is in flight, and say so.
    End,
    /// Nothing came for a while.
    Idle,
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Records.
    pub records: usize,
    /// Bytes of keys and values. A larger record is let in when nothing else waits.
    pub bytes: usize,
}

/// The lane has stopped: its queue takes nothing any more.
#[derive(Debug, thiserror::Error)]
#[error("the lane has stopped")]
pub struct Closed;

/// Wakes a source that serves several queues: when a lane has made room, and when a record has come in.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Bell {
    /// Wakes the source, or has its next wait end at once.
    pub fn ring(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *rung, true) {
            self.ringing.notify_one();
        }
    }

    /// Waits until the bell is rung, or has been since the last wait, or this long.
    pub fn wait(&self, patience: Duration) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        if !*rung {
            rung = self.ringing.wait_timeout(rung, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        *rung = false;
    }
}

/// The queue of one lane.
#[derive(Debug)]
pub struct LaneQueue {
    bounds: Bounds,
    state: Mutex<State>,
    arrived: Condvar,
    room: Condvar,
    bell: OnceLock<Arc<Bell>>,
}

#[derive(Debug, Default)]
struct State {
    signals: VecDeque<Item>,
    /// The partitions that are the lane's own.
    owned: HashSet<TopicPartition>,
    /// A dead letter to be handled again, never more than one.
    replay: Option<Replay>,
    /// Whether the last thing that was taken was one: then the records have their turn.
    replayed: bool,
    waiting: HashMap<TopicPartition, VecDeque<Record>>,
    /// Partitions whose end was reached after the records that wait.
    reached: HashMap<TopicPartition, (u64, Claim)>,
    /// Partitions that have records or their end waiting, the next one to serve first.
    turns: VecDeque<TopicPartition>,
    records: usize,
    bytes: usize,
    /// The number of the batch that was last written.
    written: Option<u64>,
    ended: bool,
    paused: bool,
    closed: bool,
}

impl LaneQueue {
    /// An empty queue.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, state: Mutex::default(), arrived: Condvar::new(), room: Condvar::new(), bell: OnceLock::new() }
    }

    /// Has this bell rung whenever the lane takes records, or stops.
    pub fn ring_for_room(&self, bell: Arc<Bell>) {
        let _ = self.bell.set(bell);
    }

    /// Adds a record; waits while the queue is full, unless `stop` is set.
    ///
    /// # Errors
    /// When the lane has stopped, or is to.
    pub fn push(&self, record: Record, stop: &AtomicBool) -> Result<(), Closed> {
        let size = record.size();
        let mut state = self.lock();
        while !state.closed
            && state.records > 0
            && (state.records >= self.bounds.records || state.bytes + size > self.bounds.bytes)
        {
            if stop.load(Ordering::Relaxed) {
                return Err(Closed);
            }
            // Whoever sets `stop` knows no queue, and a paused one may never have room.
            state = self.room.wait_timeout(state, LOOK_UP).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.closed {
            return Err(Closed);
        }
        state.add(record);
        if state.records == 1 {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// What [`LaneQueue::give`] may add without going beyond the bounds; nothing while the queue is full. Never waits.
    ///
    /// # Errors
    /// When the lane has stopped.
    pub fn room(&self) -> Result<Bounds, Closed> {
        let state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        Ok(Bounds {
            records: self.bounds.records.saturating_sub(state.records),
            bytes: self.bounds.bytes.saturating_sub(state.bytes),
        })
    }

    /// Adds records whatever the bounds are, and never waits: the caller keeps to [`LaneQueue::room`].
    ///
    /// # Errors
    /// When the lane has stopped.
    pub fn give(&self, records: Vec<Record>) -> Result<(), Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        state.add_all(records);
        self.arrived.notify_one();
        Ok(())
    }

    /// Tells the lane, after the records of the partition that wait, that there are no others below this offset.
    ///
    /// # Errors
    /// When the lane has stopped.
    pub fn reach(&self, partition: &TopicPartition, offset: u64, claim: Claim) -> Result<(), Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        if state.reached.insert(partition.clone(), (offset, claim)).is_none() && !state.waiting.contains_key(partition)
        {
            state.turns.push_back(partition.clone());
        }
        self.arrived.notify_one();
        Ok(())
    }

    /// Tells the lane that a partition goes to another owner, and drops what waits of it.
    ///
    /// # Errors
    /// When the lane has stopped.
    pub fn revoke(&self, partition: &TopicPartition) -> Result<(), Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        state.drop_waiting(partition);
        state.owned.remove(partition);
        state.signals.push_back(Item::Revoked(partition.clone()));
        self.arrived.notify_one();
        self.room.notify_all();
        Ok(())
    }

    /// Drops what waits of a partition: it will be given again.
    pub fn forget(&self, partition: &TopicPartition) {
        self.lock().drop_waiting(partition);
        self.room.notify_all();
    }

    /// Tells the lane that a partition is its own.
    ///
    /// # Errors
    /// When the lane has stopped.
    pub fn assign(&self, assigned: Assigned) -> Result<(), Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        state.owned.insert(assigned.partition.clone());
        state.signals.push_back(Item::Assigned(assigned));
        self.arrived.notify_one();
        Ok(())
    }

    /// Whether a partition is the lane's own.
    pub fn owns(&self, partition: &TopicPartition) -> bool {
        self.lock().owned.contains(partition)
    }

    /// Has the lane handle a dead letter again, in turns with its records. False while another one waits, and when the
    /// lane has stopped.
    pub fn replay(&self, replay: Replay) -> bool {
        let mut state = self.lock();
        if state.closed || state.replay.is_some() {
            return false;
        }
        state.replay = Some(replay);
        self.arrived.notify_one();
        true
    }

    /// Wakes the lane, since the batch of this number has been written.
    pub fn written(&self, batch: u64) {
        self.lock().written = Some(batch);
        self.arrived.notify_one();
    }

    /// Marks the end of what the source has; the lane learns of it when all that waits is taken.
    pub fn end(&self) {
        self.lock().ended = true;
        self.arrived.notify_one();
    }

    /// Whether records stay in the queue from now on. The lane still learns of everything else.
    pub fn pause(&self, paused: bool) {
        self.lock().paused = paused;
        self.arrived.notify_one();
    }

    /// Stops the lane: what waits is dropped, and nothing more is let in.
    pub fn close(&self) {
        let mut state = self.lock();
        *state = State { closed: true, ..State::default() };
        self.arrived.notify_all();
        self.made_room();
    }

    /// Takes what is there: a signal, or the records of one partition up to these bounds, at least one. Waits up to
    /// `patience` for something to come. None when the queue is closed.
    pub fn take(&self, bounds: Bounds, patience: Duration) -> Option<Item> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(signal) = state.signals.pop_front() {
                return Some(signal);
            }
            if let Some(batch) = state.written.take() {
                return Some(Item::Written(batch));
            }
            let records = !state.paused && !state.turns.is_empty();
            // A replay and a batch take turns, so that neither holds up the other.
            if !(state.replayed && records)
                && let Some(replay) = state.replay.take()
            {
                state.replayed = true;
                return Some(Item::Replay(replay));
            }
            state.replayed = false;
            if !state.paused {
                if let Some(item) = state.take_turn(bounds) {
                    self.made_room();
                    return Some(item);
                }
                if std::mem::take(&mut state.ended) {
                    return Some(Item::End);
                }
            }
            let (after, waited) = self.arrived.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
            state = after;
            let records = !state.paused && (!state.turns.is_empty() || state.ended);
            let nothing = !records && state.signals.is_empty() && state.written.is_none() && state.replay.is_none();
            if waited.timed_out() && nothing {
                return if state.closed { None } else { Some(Item::Idle) };
            }
        }
    }

    fn made_room(&self) {
        self.room.notify_all();
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, record: Record) {
        self.records += 1;
        self.bytes += record.size();
        // An end that was reached before this record is no news any more; its turn serves the record.
        let turn = self.reached.remove(&record.partition).is_some();
        if let Some(waiting) = self.waiting.get_mut(&record.partition) {
            waiting.push_back(record);
            return;
        }
        if !turn {
            self.turns.push_back(record.partition.clone());
        }
        self.waiting.insert(record.partition.clone(), VecDeque::from([record]));
    }

    /// Adds records, of one partition as a rule: it is looked up where it changes.
    fn add_all(&mut self, records: Vec<Record>) {
        let mut records = records.into_iter().peekable();
        while let Some(first) = records.next() {
            let partition = first.partition.clone();
            self.add(first);
            let Some(waiting) = self.waiting.get_mut(&partition) else { continue };
            while let Some(record) = records.next_if(|record| record.partition == partition) {
                self.records += 1;
                self.bytes += record.size();
                waiting.push_back(record);
            }
        }
    }

    /// What the next partition has: records, or else the end it has reached.
    fn take_turn(&mut self, bounds: Bounds) -> Option<Item> {
        let partition = self.turns.pop_front()?;
        let Some(waiting) = self.waiting.get_mut(&partition) else {
            let (offset, claim) = self.reached.remove(&partition)?;
            return Some(Item::Reached { partition, offset, claim });
        };
        let mut bytes = 0;
        let count = waiting
            .iter()
            .take(bounds.records)
            .take_while(|record| {
                bytes += record.size();
                bytes <= bounds.bytes
            })
            .count()
            .max(1);
        let taken: Vec<Record> = waiting.drain(..count.min(waiting.len())).collect();
        if waiting.is_empty() {
            self.waiting.remove(&partition);
        }
        if self.waiting.contains_key(&partition) || self.reached.contains_key(&partition) {
            self.turns.push_back(partition);
        }
        self.records -= taken.len();
        self.bytes -= taken.iter().map(Record::size).sum::<usize>();
        Some(Item::Records(taken))
    }

    fn drop_waiting(&mut self, partition: &TopicPartition) {
        let dropped = self.waiting.remove(partition).unwrap_or_default();
        self.records -= dropped.len();
        self.bytes -= dropped.iter().map(Record::size).sum::<usize>();
        self.reached.remove(partition);
        self.turns.retain(|turn| turn != partition);
    }
}

#[cfg(test)]
mod tests;
