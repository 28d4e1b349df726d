//! A candidate in the shadow of the transform that serves: it sees the same live batches, its answers are compared by
//! meaning with the serving one's and go nowhere.
//!
//! Lanes hand over what they have handled and never wait: what the candidate cannot keep up with is counted as missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use super::prepare::{Witness, Work};
use super::serving::{Part, Serving};
use crate::command::meaning::answer;
use crate::contract::Fault;
use crate::engine::Outcome;
use crate::event::Decoder;
use crate::limits;
use crate::source::Record;

/// Batches that wait for the candidate; more are missed.
const WAITING: usize = 8;
/// How many differences are kept as examples.
const SAMPLES: usize = 20;
/// A command's text longer than this is cut in an example, bytes.
const LONGEST: usize = 4096;
/// How often to look whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a comparison has come to so far.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// Events that both answered.
    pub events: u64,
    /// Events that the candidate did not see, since it was busy with others.
    pub missed: u64,
    /// Events to which both answered the same.
    pub same: u64,
    /// Events to which both gave commands, and other ones.
    pub different: u64,
    /// Events that the candidate alone rejected.
    pub newly_rejected: u64,
    /// Events that the candidate alone did not reject.
    pub no_longer_rejected: u64,
    /// The first differences.
    pub samples: Vec<Difference>,
    /// How long the serving transform took for the events.
    pub serving_took: Duration,
    /// How long the candidate took for the same.
    pub candidate_took: Duration,
    /// Why the candidate failed, if it did: at an event at which the serving one did not.
    pub failure: Option<String>,
}

/// An event that two modules answer differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `TOPIC-PARTITION@OFFSET`.
    pub position: String,
    /// The serving transform's answer: its commands as a JSON array, or its rejection as an object.
    pub serving: String,
    /// The candidate's.
    pub candidate: String,
}

/// When a comparison ends.
#[derive(Debug, Clone, Copy)]
pub struct Until {
    /// After so many events that both answered.
    pub events: u64,
    /// So long after the first of them.
    pub time: Duration,
}

/// Where lanes hand over what they have handled.
pub(super) struct Shadow {
    /// The transform that the candidate would replace.
    transform: usize,
    sender: SyncSender<Seen>,
    /// Events that were not handed over.
    missed: Arc<AtomicU64>,
}

/// Handled records, and what the serving transform answered.
struct Seen {
    records: Vec<Record>,
    witness: Witness,
}

/// The candidate's side.
pub(super) struct Comparer {
    work: Work,
    part: Part,
    seen: Receiver<Seen>,
    missed: Arc<AtomicU64>,
    comparison: Comparison,
}

impl Shadow {
    /// A shadow over the transform at this place, and the candidate's side of it.
    pub(super) fn new(
        transform: usize,
        pipeline: &str,
        decoder: Decoder,
        candidate: super::prepare::LaneTransform,
    ) -> (Arc<Self>, Comparer) {
        let (sender, seen) = sync_channel(WAITING);
        let missed = Arc::new(AtomicU64::new(0));
        let work = Work {
            pipeline: pipeline.to_owned(),
            observed: None,
            decoder,
            on_truncate: crate::config::OnTruncate::Ignore,
        };
        let part = Part { serving: Arc::new(Serving::default()), transforms: vec![candidate] };
        let comparer = Comparer { work, part, seen, missed: missed.clone(), comparison: Comparison::default() };
        (Arc::new(Self { transform, sender, missed }), comparer)
    }

    /// To watch the next batch with.
    pub(super) fn witness(&self) -> Witness {
        Witness { transform: self.transform, ..Witness::default() }
    }

    /// Hands a batch over, unless too many wait.
    pub(super) fn show(&self, records: &[Record], witness: Witness) {
        if witness.saw.is_empty() {
            return;
        }
        let seen = Seen { records: records.to_vec(), witness };
        if let Err(TrySendError::Full(seen) | TrySendError::Disconnected(seen)) = self.sender.try_send(seen) {
            self.missed.fetch_add(seen.witness.saw.len() as u64, Ordering::Relaxed);
        }
    }
}

impl Comparer {
    /// Compares until the end, and tells each step to `tell`.
    pub(super) fn run(mut self, until: Until, stop: &AtomicBool, mut tell: impl FnMut(&Comparison)) -> Comparison {
        // From the first event on: a stream at rest shows nothing.
        let mut begun = None;
        while !stop.load(Ordering::Relaxed)
            && self.comparison.failure.is_none()
            && self.comparison.events < until.events
            && begun.is_none_or(|begun: Instant| begun.elapsed() < until.time)
        {
            match self.seen.recv_timeout(LOOK_EVERY) {
                Ok(seen) => {
                    begun.get_or_insert_with(Instant::now);
                    self.compare(&seen);
                    self.comparison.missed = self.missed.load(Ordering::Relaxed);
                    tell(&self.comparison);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.comparison
    }

    fn compare(&mut self, seen: &Seen) {
        let mut witness = Witness::default();
        let made = self.work.make_on_trial(&seen.records, &mut self.part, std::slice::from_mut(&mut witness));
        let failed = |outcome: &Outcome| {
            outcome.as_ref().is_err_and(|why| matches!(why.fault, Fault::Trapped | Fault::Deadline | Fault::BadAnswer))
        };
        if let Err(failure) = made {
            // Where the serving one fails too it is the event's fault.
            if !seen.witness.saw.iter().any(|(_, outcome)| failed(outcome)) {
                self.comparison.failure = Some(limits::cut(format!("{failure:#}"), limits::REASON));
            }
            return;
        }
        let Comparison { events, serving_took, candidate_took, .. } = &mut self.comparison;
        *events += seen.witness.saw.len() as u64;
        *serving_took += seen.witness.took;
        *candidate_took += witness.took;
        for ((place, serving), (_, candidate)) in seen.witness.saw.iter().zip(&witness.saw) {
            self.count(&seen.records[*place], serving, candidate);
        }
    }

    fn count(&mut self, record: &Record, serving: &Outcome, candidate: &Outcome) {
        let comparison = &mut self.comparison;
        let (first, second) = (answer(serving), answer(candidate));
        if first == second {
            comparison.same += 1;
            return;
        }
        match (serving, candidate) {
            (Ok(_), Err(_)) => comparison.newly_rejected += 1,
            (Err(_), Ok(_)) => comparison.no_longer_rejected += 1,
            // Another reason for the same decision is worth an example, and no more.
            (Err(_), Err(_)) | (Ok(_), Ok(_)) => comparison.different += 1,
        }
        if comparison.samples.len() < SAMPLES {
            let position = record.position();
            comparison.samples.push(Difference { position, serving: cut(first), candidate: cut(second) });
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}
