//! Dead letters that are handled again: never over what came after them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use super::*;
use crate::source::{Assigned, Claim, Control, Fate, Replay, TopicPartition};

const CACHE: &[Port] = &[Port::Cache];

fn partition() -> TopicPartition {
    TopicPartition { topic: "t".into(), partition: 0 }
}

/// Each record sets its key in the cache, and its row, to its offset; it is refused as long as its value says so and
/// the module is not mended.
struct Played {
    queue: Arc<LaneQueue>,
    control: Receiver<Control>,
    stores: Arc<Stores>,
    lane: JoinHandle<PipelineSummary>,
    claim: Claim,
    mended: Arc<AtomicBool>,
}

impl Played {
    fn new(site: &Site) -> Self {
        let (sender, control) = mpsc::channel();
        let (stores, mended) = (site.stores(), Arc::new(AtomicBool::new(false)));
        let seen = mended.clone();
        let prepare = answering(move |record| {
            let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap_or_default()).unwrap();
            let (key, value) = (text(&record.key), text(&record.value));
            let at = record.offset.to_string();
            match value.as_str() {
                "refused" if !seen.load(Ordering::Relaxed) => None,
                "bad row" => Some(vec![set(&key, &at), Command::RowMerge(row("404", &at))]),
                _ => Some(vec![set(&key, &at), Command::RowUpsert(row(&format!("{key:?}"), &at))]),
            }
        });
        let lane = lane(&stores, prepare, sender, 3);
        let queue = lane.queue.clone();
        let lane = std::thread::spawn(move || lane.run());
        let assigned = Assigned { partition: partition(), log_start: 0, log_end: None, topic: None, committed: None };
        queue.assign(assigned).unwrap();
        let claim = loop {
            if let Control::Begin { claim, .. } = control.recv().unwrap() {
                break claim;
            }
        };
        Self { queue, control, stores, lane, claim, mended }
    }

    fn record(&self, offset: u64, key: &str, value: &str) -> Record {
        let (key, value) = (Some(key.into()).filter(|key: &Vec<u8>| !key.is_empty()), Some(value.into()));
        Record { partition: partition(), offset, timestamp: None, headers: vec![], key, value, claim: self.claim }
    }

    /// Gives records, and waits until they are durable.
    fn give(&self, records: &[(u64, &str, &str)]) {
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

    fn replay(&self, offset: u64, key: &str, value: &str) -> Fate {
        let (answers, replayed) = mpsc::channel();
        self.queue.replay(Replay { records: vec![self.record(offset, key, value)], answers }).unwrap();
        replayed.recv().unwrap().fate
    }

    fn end(self) {
        self.queue.close();
        self.lane.join().unwrap();
        assert!(self.stores.stop.take_failure().is_none());
    }
}

#[test]
fn a_dead_letter_is_made_up_for_unless_its_key_has_had_an_event_since() {
    let (tables, cache) = (Arc::new(Store::default()), Arc::new(Store::default()));
    let site = Site::new(vec![(TABLES, tables.clone()), (CACHE, cache.clone())]);
    let played = Played::new(&site);
    played.give(&[(10, "k", "refused"), (11, "l", "refused"), (12, "k", "fine"), (13, "m", "refused")]);
    assert_eq!(site.letters(), [10, 11, 13]);
    assert!(matches!(played.replay(11, "l", "refused"), Fate::Rejected(_)), "the module is still the same");
    played.mended.store(true, Ordering::Relaxed);

    assert_eq!(played.replay(10, "k", "refused"), Fate::Superseded);
    assert_eq!(played.replay(11, "l", "refused"), Fate::Applied);
    assert_eq!(played.replay(11, "l", "refused"), Fate::Superseded, "it is there already");
    let value = |key: &str| cache.model().cache.get(key).map(|(value, _)| value.clone());
    assert_eq!((value("k").as_deref(), value("l").as_deref(), value("m")), (Some("12"), Some("11"), None));
    assert_eq!(tables.model().rows.len(), 2);
    assert_eq!((tables.next(0), cache.next(0)), (Some(14), Some(14)));
    played.end();

    // The marks are the ledger's: another process knows what is open, and what is not.
    let played = Played::new(&site);
    played.mended.store(true, Ordering::Relaxed);
    assert_eq!(played.replay(11, "l", "refused"), Fate::Superseded);
    assert_eq!(played.replay(13, "m", "refused"), Fate::Applied);
    played.end();
    assert_eq!(site.letters(), [10, 11, 13], "what is replayed is not filed again");
}

#[test]
fn only_the_stores_that_lack_it_take_it() {
    let (tables, cache) = (Arc::new(Store::default()), Arc::new(Store::default()));
    // The cache is written first here, and has taken what the tables refuse.
    let site = Site::new(vec![(CACHE, cache.clone()), (TABLES, tables.clone())]);
    let played = Played::new(&site);
    played.give(&[(5, "k", "bad row"), (6, "l", "fine")]);
    let writes = cache.writes().len();
    assert!(matches!(played.replay(5, "k", "bad row"), Fate::Rejected(_)));
    assert_eq!(played.replay(5, "k", "fine now"), Fate::Applied);
    assert_eq!(cache.writes().len(), writes);
    assert_eq!(tables.model().rows.len(), 2);
    played.end();
}

#[test]
fn of_two_letters_of_a_key_the_newer_one_closes_the_older() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache.clone())]);
    let played = Played::new(&site);
    played.give(&[(1, "k", "refused"), (2, "l", "refused"), (3, "k", "refused"), (4, "l", "refused")]);
    played.mended.store(true, Ordering::Relaxed);
    assert_eq!(played.replay(1, "k", "refused"), Fate::Applied);
    assert_eq!(played.replay(3, "k", "refused"), Fate::Applied);
    assert_eq!(played.replay(4, "l", "refused"), Fate::Applied);
    assert_eq!(played.replay(2, "l", "refused"), Fate::Superseded);
    let model = cache.model();
    assert_eq!((model.cache["k"].0.as_str(), model.cache["l"].0.as_str()), ("3", "4"));
    played.end();
}

#[test]
fn what_has_no_key_is_left_alone() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache)]);
    let played = Played::new(&site);
    played.give(&[(1, "", "refused")]);
    played.mended.store(true, Ordering::Relaxed);
    assert_eq!(played.replay(1, "", "refused"), Fate::Superseded);
    played.end();
}

#[test]
fn a_replay_whose_claim_was_taken_changes_nothing_and_may_be_asked_for_again() {
    use super::store::Fault::{None, Taken};
    // The batch, and then the replay.
    let cache = Arc::new(Store::new([None, Taken]));
    let site = Site::new(vec![(CACHE, cache.clone())]);
    let played = Played::new(&site);
    played.give(&[(1, "k", "refused"), (2, "l", "fine")]);
    played.mended.store(true, Ordering::Relaxed);
    assert!(matches!(played.replay(1, "k", "refused"), Fate::NotNow(_)));
    assert!(!cache.model().cache.contains_key("k"));
    played.end();
}
