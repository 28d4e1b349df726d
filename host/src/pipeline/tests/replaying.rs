//! A lane of one partition that is played by hand: records are given, waited for, and replayed as dead letters.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use super::*;
use crate::source::{Assigned, Claim, Control, Fate, Lease, Replay, TopicPartition};

/// The cache alone.
pub(super) const CACHE: &[Port] = &[Port::Cache];
/// The messages alone, which a store without a ledger takes.
pub(super) const MESSAGES: &[Port] = &[Port::Messages];

pub(super) fn partition() -> TopicPartition {
    TopicPartition { topic: "t".into(), partition: 0 }
}

/// The first half of the lane. What a record's value says is what its module answers; a later module than the first one
/// refuses nothing.
struct Module {
    newest: Arc<AtomicU64>,
    current: u64,
}

impl Module {
    fn serving(&self) -> Arc<Serving> {
        Arc::new(named(self.current))
    }
}

fn named(number: u64) -> Serving {
    Serving::named(number, &[("first", &format!("d{number}")), ("second", "d")])
}

fn answer(record: &Record, module: u64) -> Option<Vec<Command>> {
    let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap_or_default()).unwrap();
    let (key, value, at) = (text(&record.key), text(&record.value), record.offset.to_string());
    let (entry, own_row) = (set(&key, &at), Command::RowUpsert(row(&format!("{key:?}"), &at)));
    let no_document = || Command::DocumentMerge { index: "i".into(), id: "404".into(), fields: vec![] };
    let message = |value: &str| {
        let (topic, value) = ("topic".into(), Some(value.into()));
        Command::Publish { topic, key: record.key.clone(), value, headers: vec![] }
    };
    Some(match value.as_str() {
        "refused" if module == 0 => return None,
        "bad row" => vec![entry, Command::RowMerge(row("404", &at))],
        "bad row and message" => vec![Command::RowMerge(row("404", &at)), message(&at)],
        "bad row and document" => vec![entry, Command::RowMerge(row("404", &at)), no_document()],
        // What the bad ones lack.
        "row 404" => vec![Command::RowUpsert(row("404", &at))],
        "document 404" => {
            vec![Command::DocumentIndex { index: "i".into(), id: "404".into(), body: raw("{}") }]
        }
        "row" => vec![own_row],
        "row and message" => vec![own_row, message(&at)],
        "message" => vec![message(&at)],
        "too large" => vec![message("too large")],
        "at first too large" => vec![message(if module == 0 { "too large" } else { &at })],
        _ => vec![entry, own_row],
    })
}

impl lane::Prepare for Module {
    fn prepare(&mut self, records: Vec<Record>, by: By) -> anyhow::Result<Prepared> {
        if by == By::Newest {
            self.renew()?;
        }
        let module = self.current;
        let mut answering = answering(move |record| answer(record, module));
        Ok(Prepared { serving: self.serving(), ..answering(records)? })
    }

    fn renew(&mut self) -> anyhow::Result<Arc<Serving>> {
        self.current = self.newest.load(Ordering::Relaxed);
        Ok(self.serving())
    }
}

/// The lane.
pub(super) struct Replaying {
    pub(super) stores: Arc<Stores>,
    queue: Arc<LaneQueue>,
    control: Receiver<Control>,
    lane: JoinHandle<PipelineSummary>,
    claim: Claim,
    newest: Arc<AtomicU64>,
}

impl Replaying {
    pub(super) fn new(site: &Site) -> Self {
        let (sender, control) = mpsc::channel();
        let (stores, newest) = (site.stores(), Arc::new(AtomicU64::new(0)));
        stores.slot.serve(named(0));
        let mut lane = lane(&stores, answering(|_| None), sender, 3);
        let module = Module { newest: newest.clone(), current: 0 };
        (lane.serving, lane.prepare) = (module.serving(), Box::new(module));
        let queue = lane.queue.clone();
        let lane = std::thread::spawn(move || lane.run());
        let mut played = Self { stores, queue, control, lane, claim: Claim(0), newest };
        played.assign();
        played
    }

    /// Has the lane claim its partition, as the source does when that was lost. Answers where it begins.
    pub(super) fn assign(&mut self) -> u64 {
        let assigned = Assigned {
            partition: partition(),
            log_start: 0,
            log_end: None,
            topic: None,
            committed: None,
            lease: Lease::default(),
        };
        self.queue.assign(assigned).unwrap();
        loop {
            if let Control::Begin { claim, offset, .. } = self.control.recv().unwrap() {
                self.claim = claim;
                return offset;
            }
        }
    }

    /// Has another module serve, which refuses nothing.
    pub(super) fn mend(&self) {
        self.newest.fetch_add(1, Ordering::Relaxed);
        self.stores.slot.serve(named(self.newest.load(Ordering::Relaxed)));
    }

    pub(super) fn record(&self, offset: u64, key: &str, value: &str) -> Record {
        let (key, value) = (Some(key.into()).filter(|key: &Vec<u8>| !key.is_empty()), Some(value.into()));
        Record { partition: partition(), offset, timestamp: None, headers: vec![], key, value, claim: self.claim }
    }

    /// Gives records, and waits until they are durable.
    pub(super) fn give(&self, records: &[(u64, &str, &str)]) {
        for (offset, key, value) in records {
            self.queue.push(self.record(*offset, key, value), &AtomicBool::new(false)).unwrap();
        }
        let to = records.last().unwrap().0 + 1;
        loop {
            if let Control::Durable { offset, .. } = self.control.recv().unwrap()
                && offset == to
            {
                return;
            }
        }
    }

    /// The same, in one batch.
    pub(super) fn give_together(&self, records: &[(u64, &str, &str)]) {
        self.queue.give(records.iter().map(|(at, key, value)| self.record(*at, key, value)).collect()).unwrap();
        let to = records.last().unwrap().0 + 1;
        loop {
            if let Control::Durable { offset, .. } = self.control.recv().unwrap()
                && offset == to
            {
                return;
            }
        }
    }

    pub(super) fn replay(&self, offset: u64, key: &str, value: &str) -> Fate {
        self.replay_record(self.record(offset, key, value))
    }

    pub(super) fn replay_record(&self, record: Record) -> Fate {
        let (answer, fate) = mpsc::channel();
        assert!(self.queue.replay(Replay { record, answer }));
        fate.recv().unwrap()
    }

    /// Gives records in one batch, at which the lane fails.
    pub(super) fn crash(self, records: &[(u64, &str, &str)]) {
        self.queue.give(records.iter().map(|(at, key, value)| self.record(*at, key, value)).collect()).unwrap();
        self.lane.join().unwrap();
        assert!(self.stores.stop.take_failure().is_some());
    }

    pub(super) fn end(self) {
        self.queue.close();
        self.lane.join().unwrap();
        assert!(self.stores.stop.take_failure().is_none());
    }
}
