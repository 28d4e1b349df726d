//! Replays recorded events from files, partition by partition as a broker would give them.
//!
//! The files are read in order, front to back. A partition is assigned to a lane when its first record is met; the
//! lane claims it and says where to begin. A partition that is set back is left alone for the rest of the pass and
//! taken up in another one, since a file can only be read forwards.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, bail};

use super::recorded;
use super::{Assigned, Claim, Control, LaneQueue, Lease, Record, TopicPartition};

/// How often it looks whether it shall stop while it waits for the lanes.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Recorded events of some topics.
#[derive(Debug, Clone)]
pub struct FileSource {
    /// The files, in the order in which they are read.
    pub paths: Vec<PathBuf>,
    /// The topics to read; records of others are passed over.
    pub topics: Vec<String>,
}

#[derive(Debug)]
struct Position {
    lane: usize,
    /// The first offset that was met.
    log_start: u64,
    /// Assigned, and not claimed yet.
    claiming: bool,
    claim: Claim,
    next: u64,
    /// The last offset met in this pass: offsets must rise.
    met: u64,
    /// The number of the pass in which it may be read: a later one after it was set back.
    pass: u64,
}

struct Reading<'a> {
    lanes: &'a [Arc<LaneQueue>],
    control: &'a Receiver<Control>,
    positions: HashMap<TopicPartition, Position>,
    pass: u64,
    /// Whether a lane has ended: then nothing more is to be done.
    ended: bool,
}

impl FileSource {
    /// Reads until everything is durable in the stores, or the lanes stop, or `stop` is set.
    ///
    /// # Errors
    /// When a file cannot be read, a line is no recorded event, or the offsets of a partition do not rise; each
    /// names the file and the line.
    pub fn run(self, lanes: &[Arc<LaneQueue>], control: &Receiver<Control>, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut reading = Reading { lanes, control, positions: HashMap::new(), pass: 0, ended: false };
        loop {
            reading.pass += 1;
            for path in &self.paths {
                let records =
                    recorded::read(path).with_context(|| format!("cannot read events from {}", path.display()))?;
                for record in records {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    let record = record?;
                    if !self.topics.iter().any(|topic| **topic == *record.partition.topic) {
                        continue;
                    }
                    let delivered =
                        reading.deliver(record, stop).with_context(|| format!("cannot replay {}", path.display()))?;
                    if !delivered {
                        return Ok(());
                    }
                }
            }
            if reading.pass == 1 {
                self.tell_missing_topics(&reading);
            }
            if !reading.finish(stop) {
                return Ok(());
            }
        }
    }
}

impl FileSource {
    /// A topic may be misspelt, or have had no events yet: only the operator knows.
    fn tell_missing_topics(&self, reading: &Reading<'_>) {
        let missing = |topic: &&String| !reading.positions.keys().any(|met| *met.topic == ***topic);
        for topic in self.topics.iter().filter(missing) {
            tracing::warn!(topic, "no file has a record of this topic: is its name spelt as in the events?");
        }
    }
}

impl Reading<'_> {
    /// Brings a record to its lane. False when the lanes have stopped.
    fn deliver(&mut self, mut record: Record, stop: &AtomicBool) -> anyhow::Result<bool> {
        while let Ok(message) = self.control.try_recv() {
            self.obey(message);
        }
        if !self.positions.contains_key(&record.partition) && !self.assign(&record) {
            return Ok(false);
        }
        let pass = self.pass;
        let Some(position) = self.positions.get_mut(&record.partition) else { return Ok(false) };
        if position.pass <= pass && position.met >= record.offset && position.met != u64::MAX {
            bail!(
                "{} comes after offset {}: the offsets of a partition must rise; name the files in the order in which \
                 they were recorded, each once",
                record.position(),
                position.met
            );
        }
        if position.pass > pass {
            return Ok(true);
        }
        position.met = record.offset;
        if record.offset < position.next {
            return Ok(true);
        }
        position.next = record.offset + 1;
        record.claim = position.claim;
        Ok(self.lanes[position.lane].push(record, stop).is_ok())
    }

    /// Gives a partition that was met for the first time to the lane with the fewest, and waits for its claim.
    fn assign(&mut self, record: &Record) -> bool {
        let lane = self.positions.len() % self.lanes.len();
        let position = Position {
            lane,
            log_start: record.offset,
            claiming: false,
            claim: Claim(0),
            next: u64::MAX,
            met: u64::MAX,
            pass: self.pass,
        };
        self.positions.insert(record.partition.clone(), position);
        self.offer(&record.partition);
        while !self.ended && self.positions.get(&record.partition).is_some_and(|position| position.claiming) {
            let Ok(message) = self.control.recv() else { return false };
            self.obey(message);
        }
        self.positions.get(&record.partition).is_some_and(|position| position.claim != Claim(0))
    }

    /// Has the lane of a partition claim it.
    fn offer(&mut self, partition: &TopicPartition) {
        let Some(position) = self.positions.get_mut(partition) else { return };
        let assigned = Assigned {
            partition: partition.clone(),
            log_start: position.log_start,
            log_end: None,
            topic: None,
            committed: None,
            lease: Lease::default(),
        };
        position.claiming = self.lanes[position.lane].assign(assigned).is_ok();
    }

    fn obey(&mut self, message: Control) {
        match message {
            Control::Begin { partition, offset, claim } => {
                if let Some(position) = self.positions.get_mut(&partition) {
                    let first = position.claim == Claim(0);
                    position.pass = if first { self.pass } else { self.pass + 1 };
                    position.claiming = false;
                    position.claim = claim;
                    position.next = offset;
                }
            }
            Control::ClaimAgain { partition } | Control::Try { partition } => self.offer(&partition),
            Control::Ended => self.ended = true,
            Control::Durable { .. } | Control::Released { .. } | Control::Drained => {}
        }
    }

    /// At the end of the files: waits until the lanes have made everything durable, or `stop` is set. True when a
    /// partition was set back and the files must be read again.
    fn finish(&mut self, stop: &AtomicBool) -> bool {
        for lane in self.lanes {
            lane.end();
        }
        let mut waiting = self.lanes.len();
        while !self.ended && (waiting > 0 || self.positions.values().any(|position| position.claiming)) {
            match self.control.recv_timeout(LOOK_UP) {
                Ok(Control::Drained) => waiting -= 1,
                Ok(other) => self.obey(other),
                // A lane that is paused would never be done.
                Err(RecvTimeoutError::Timeout) if !stop.load(Ordering::Relaxed) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
        for position in self.positions.values_mut() {
            position.met = u64::MAX;
        }
        !self.ended && self.positions.values().any(|position| position.pass > self.pass)
    }
}
