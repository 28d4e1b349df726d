//! What can be seen of a run from outside, and the few things that can be done to it: a pipeline paused, and dead letters
//! handed to its lanes again.
//!
//! It is made before the run and outlives it, so that probes answer while modules are being compiled. Lanes and sinks
//! raise counters; whoever reads them takes no lock that a batch waits for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::count::{Histogram, Tally};
use super::progress::{PipelineSummary, Summary};
use super::retry::Waiting;
use crate::command::{Command, Port};
use crate::config::{self, Config};
use crate::contract::Fault;
use crate::source::status::Status;
use crate::source::{Fate, LaneQueue, Record, Replay};

/// How often a pipeline that has stopped looks whether the others have ended.
const LOOK_UP: Duration = Duration::from_millis(200);

/// What records mean, as the counts of a run name it.
pub(super) const EVENTS: [&str; 11] = [
    "create",
    "read",
    "update",
    "delete",
    "truncate",
    "tombstone",
    "heartbeat",
    "transaction",
    "schema-change",
    "message",
    "undecodable",
];

/// Came to serve; were left because they failed; were left because somebody asked for it; never served.
pub(super) const EXCHANGES: [&str; 4] = ["promoted", "failed", "rolled-back", "refused"];

/// The pipelines of a run.
#[derive(Debug)]
pub struct Observed {
    pipelines: Vec<Arc<ObservedPipeline>>,
}

impl Observed {
    /// The pipelines of a configuration, none of them begun.
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self { pipelines: config.pipelines.iter().map(ObservedPipeline::of).map(Arc::new).collect() })
    }

    /// The pipelines, in the order of the configuration.
    pub fn pipelines(&self) -> &[Arc<ObservedPipeline>] {
        &self.pipelines
    }

    /// What the pipelines have made durable so far.
    pub fn summary(&self) -> Summary {
        Summary { pipelines: self.pipelines.iter().map(|pipeline| pipeline.summary()).collect() }
    }

    /// The pipeline of this name.
    pub fn pipeline(&self, name: &str) -> Option<&Arc<ObservedPipeline>> {
        self.pipelines.iter().find(|pipeline| pipeline.name == name)
    }
}

/// How far a pipeline has come in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Its modules are being loaded.
    Loading,
    /// Its stores are held against what the modules declare.
    Preparing,
    Running,
    /// Its source has ended, or it was asked to.
    Ended,
    /// It cannot go on until somebody has it start again.
    Stopped(String),
    /// It cannot go on, and nobody can have it start again.
    Over(String),
}

/// What a pipeline is doing. Displayed as its name in answers and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It has not begun to read.
    Starting,
    /// It waits for stores, or for its source: each with the cause.
    Waiting(Vec<(String, String)>),
    /// It reads.
    Running,
    /// It was paused: it finishes what is in flight, keeps its partitions, and takes in nothing.
    Paused,
    /// It cannot go on, for this reason.
    Stopped(String),
    /// Its source has nothing more, or it was asked to end.
    Ended,
}

impl State {
    /// The names of all states.
    pub const NAMES: [&'static str; 6] = ["starting", "waiting", "running", "paused", "stopped", "ended"];

    /// The name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Waiting(_) => "waiting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped(_) => "stopped",
            Self::Ended => "ended",
        }
    }
}

/// One pipeline of a run.
#[derive(Debug)]
pub struct ObservedPipeline {
    /// Its name.
    pub name: String,
    /// What its source tells.
    pub source: Arc<Status>,
    /// Events that are durable, by what they mean.
    pub events: Tally,
    /// Commands by kind, as the transforms gave them, whose events are durable.
    pub commands: Tally,
    /// Those of them that were refused by their store, or left out because an earlier store refused another one of the
    /// same answer.
    pub left_out: Tally,
    /// Dead letters by fault.
    pub dead_letters: Tally,
    /// How many events each batch had.
    pub batches: Histogram,
    /// How often a partition was claimed.
    pub claims: AtomicU64,
    /// What became of modules: promoted, failed on trial, rolled back by hand, refused.
    pub exchanges: Tally,
    /// The transforms, in order.
    pub transforms: Vec<ObservedTransform>,
    /// How long each write into a sink took, by its name.
    pub sinks: Vec<(String, Histogram)>,
    pub(super) waiting: Arc<Waiting>,
    phase: Mutex<Phase>,
    paused: Mutex<bool>,
    queues: Mutex<Vec<Arc<LaneQueue>>>,
    /// Somebody has asked that it starts again.
    start: Mutex<bool>,
    started: Condvar,
}

/// One transform of a pipeline.
#[derive(Debug)]
pub struct ObservedTransform {
    /// Its name.
    pub name: String,
    /// How long each call took, tries after a failure among it.
    pub time: Histogram,
    /// What it refused, and how it failed, by fault.
    pub faults: Tally,
    /// The most memory that an instance of it has held, bytes.
    pub memory: AtomicU64,
    digest: Mutex<String>,
}

impl ObservedTransform {
    /// The digest of the module that serves; empty before it is loaded.
    pub fn digest(&self) -> String {
        lock(&self.digest).clone()
    }

    /// It has handled a batch.
    pub fn applied(&self, time: Duration, memory: usize) {
        self.time.add_time(time);
        self.memory.fetch_max(u64::try_from(memory).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl ObservedPipeline {
    fn of(pipeline: &config::Pipeline) -> Self {
        let mut sinks: Vec<String> = Port::ALL.iter().filter_map(|port| pipeline.sinks.get(port)).cloned().collect();
        sinks.sort();
        sinks.dedup();
        Self::new(&pipeline.name, sinks, pipeline.transforms.iter().map(|transform| transform.name.clone()))
    }

    pub(super) fn new(name: &str, sinks: Vec<String>, transforms: impl IntoIterator<Item = String>) -> Self {
        let transform = |name| ObservedTransform {
            name,
            time: Histogram::of_times(),
            faults: Tally::new(&Fault::LABELS),
            memory: AtomicU64::new(0),
            digest: Mutex::default(),
        };
        Self {
            name: name.to_owned(),
            source: Arc::default(),
            events: Tally::new(&EVENTS),
            commands: Tally::new(&Command::KINDS),
            left_out: Tally::new(&Command::KINDS),
            dead_letters: Tally::new(&Fault::LABELS),
            batches: Histogram::of_sizes(),
            claims: AtomicU64::new(0),
            exchanges: Tally::new(&EXCHANGES),
            transforms: transforms.into_iter().map(transform).collect(),
            sinks: sinks.into_iter().map(|name| (name, Histogram::of_times())).collect(),
            waiting: Arc::default(),
            phase: Mutex::new(Phase::Loading),
            paused: Mutex::default(),
            queues: Mutex::default(),
            start: Mutex::default(),
            started: Condvar::new(),
        }
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        match &*lock(&self.phase) {
            Phase::Stopped(reason) | Phase::Over(reason) => return State::Stopped(reason.clone()),
            Phase::Ended => return State::Ended,
            _ if self.is_paused() => return State::Paused,
            _ => {}
        }
        let waiting = self.waiting_for();
        match &*lock(&self.phase) {
            _ if !waiting.is_empty() => State::Waiting(waiting),
            Phase::Running if self.source.is_settled() => State::Running,
            _ => State::Starting,
        }
    }

    /// What it waits for, each with the cause. One that has ended waits for nothing.
    pub fn waiting_for(&self) -> Vec<(String, String)> {
        if matches!(&*lock(&self.phase), Phase::Stopped(_) | Phase::Over(_) | Phase::Ended) {
            return Vec::new();
        }
        let mut waiting = self.waiting.current();
        if self.source.is_away() {
            waiting.push(("source".into(), "no broker can be reached".into()));
        }
        waiting
    }

    /// Why it is not ready; none when it is. It is ready once its modules are loaded, its stores were reached and its
    /// partitions are known. From then on a store that is away does not change that, whoever has asked before, but a
    /// pipeline that has stopped is not ready.
    pub fn not_ready(&self) -> Option<String> {
        let reason = match &*lock(&self.phase) {
            Phase::Stopped(reason) | Phase::Over(reason) => return Some(format!("it has stopped: {reason}")),
            Phase::Ended => return None,
            Phase::Running if self.source.is_settled() => return None,
            Phase::Running => "its partitions are not assigned yet",
            Phase::Loading => "its modules are being loaded",
            Phase::Preparing => "its stores are being looked at",
        };
        let waiting = self.waiting_for();
        Some(waiting.first().map_or_else(|| reason.into(), |(store, cause)| format!("it waits for {store}: {cause}")))
    }

    /// Whether it was paused.
    pub fn is_paused(&self) -> bool {
        *lock(&self.paused)
    }

    /// Has it take in nothing from now on, or go on. What is in flight is finished, and its partitions stay its own.
    /// Answers whether that was new.
    pub fn pause(&self, paused: bool) -> bool {
        let mut state = lock(&self.paused);
        let new = std::mem::replace(&mut *state, paused) != paused;
        lock(&self.queues).iter().for_each(|queue| queue.pause(paused));
        new
    }

    /// Has it start again, if it has stopped. Answers whether it had.
    pub fn start_again(&self) -> bool {
        let mut phase = lock(&self.phase);
        if !matches!(*phase, Phase::Stopped(_)) {
            return false;
        }
        *phase = Phase::Loading;
        *lock(&self.start) = true;
        self.started.notify_all();
        true
    }

    /// Waits until somebody has it start again, or it is over. Answers whether it is to start.
    pub(super) fn waits_for_start(&self, is_over: impl Fn() -> bool) -> bool {
        let mut start = lock(&self.start);
        loop {
            if std::mem::take(&mut *start) {
                return true;
            }
            if is_over() {
                return false;
            }
            start = self.started.wait_timeout(start, LOOK_UP).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// It is as before its first run, but for what was counted.
    pub(super) fn begins_again(&self) {
        self.waiting.forget();
        self.source.begin_again();
    }

    /// Has the lane that owns its partition handle a dead letter again, and waits for this long at most. None where no
    /// lane of this process owns it.
    pub fn replay(&self, record: Record, patience: Duration) -> Option<Fate> {
        let queue = lock(&self.queues).iter().find(|queue| queue.owns(&record.partition)).cloned()?;
        let (answer, fate) = mpsc::channel();
        if !queue.replay(Replay { record, answer }) {
            return Some(Fate::NotNow("the lane has not come to the one before it yet".into()));
        }
        match fate.recv_timeout(patience) {
            Ok(fate) => Some(fate),
            Err(RecvTimeoutError::Timeout) => {
                Some(Fate::NotNow(format!("the lane has not answered for {patience:.1?}; it may still handle it")))
            }
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Through these queues its records come.
    pub(super) fn reads_through(&self, queues: &[Arc<LaneQueue>]) {
        let paused = lock(&self.paused);
        *lock(&self.queues) = queues.to_vec();
        queues.iter().for_each(|queue| queue.pause(*paused));
    }

    /// These modules serve from now on: name and digest, in the pipeline's order.
    pub(super) fn served_by(&self, transforms: &[(String, String)]) {
        for (transform, (_, digest)) in self.transforms.iter().zip(transforms) {
            digest.clone_into(&mut lock(&transform.digest));
        }
    }

    /// Its modules are loaded, and its stores are looked at.
    pub(super) fn prepares(&self) {
        *lock(&self.phase) = Phase::Preparing;
    }

    /// It reads from now on.
    pub(super) fn runs(&self) {
        *lock(&self.phase) = Phase::Running;
    }

    /// It has ended; `failure` says why it had to.
    pub(super) fn ends(&self, failure: Option<String>) {
        // None of its lanes waits any more.
        self.waiting.forget();
        *lock(&self.phase) = failure.map_or(Phase::Ended, Phase::Stopped);
    }

    /// It has ended for this reason, and waits for nobody who has it start again, nor for one who has just asked.
    pub(super) fn ends_for_good(&self, failure: String) {
        *lock(&self.phase) = Phase::Over(failure);
    }

    /// A batch is durable.
    pub fn durable(&self, batch: &PipelineSummary) {
        let each = [
            (&self.events, &batch.events),
            (&self.commands, &batch.commands),
            (&self.left_out, &batch.left_out),
            (&self.dead_letters, &batch.rejected),
        ];
        for (tally, counts) in each {
            counts.iter().for_each(|(name, number)| tally.add(name, *number));
        }
        self.batches.add(batch.events.values().sum());
    }

    fn summary(&self) -> PipelineSummary {
        let counted = |tally: &Tally| tally.counts().filter(|(_, count)| *count > 0).collect();
        PipelineSummary {
            name: self.name.clone(),
            events: counted(&self.events),
            commands: counted(&self.commands),
            left_out: counted(&self.left_out),
            rejected: counted(&self.dead_letters),
        }
    }

    /// Measures a write into a sink.
    pub async fn timed<T>(&self, sink: &str, write: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let written = write.await;
        if let Some((_, time)) = self.sinks.iter().find(|(name, _)| name == sink) {
            time.add_time(begun.elapsed());
        }
        written
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_is_ready_when_all_is_there_and_stays_so_until_it_stops() {
        let pipeline = ObservedPipeline::new("p", vec![], []);
        let says = |part: &str| pipeline.not_ready().is_some_and(|reason| reason.contains(part));
        assert!(says("modules") && pipeline.state() == State::Starting);
        pipeline.prepares();
        assert!(says("stores are being looked at"));
        pipeline.waiting.is_news("sink `a`", "refused");
        assert!(says("it waits for sink `a`: refused"));
        assert_eq!(pipeline.state(), State::Waiting(vec![("sink `a`".into(), "refused".into())]));
        pipeline.waiting.is_over("sink `a`");
        pipeline.runs();
        assert!(says("partitions") && pipeline.state() == State::Starting);
        pipeline.source.settle();
        assert_eq!((pipeline.not_ready(), pipeline.state()), (None, State::Running));
        // What is ready stays so while a store is away.
        pipeline.waiting.is_news("sink `a`", "refused");
        assert_eq!((pipeline.not_ready(), pipeline.state().name()), (None, "waiting"));
        pipeline.ends(Some("no way".into()));
        assert!(says("it has stopped: no way") && pipeline.state() == State::Stopped("no way".into()));
    }

    #[test]
    fn pipeline_that_is_over_stays_stopped_whoever_asks_for_a_start() {
        let pipeline = ObservedPipeline::new("p", vec![], []);
        pipeline.ends(Some("no way".into()));
        // It has not found yet that nobody else runs.
        assert!(pipeline.start_again());
        pipeline.ends_for_good("no way".into());
        assert!(!pipeline.start_again());
        assert_eq!(pipeline.state(), State::Stopped("no way".into()));
        assert_eq!(pipeline.not_ready(), Some("it has stopped: no way".into()));
    }

    #[test]
    fn pipeline_that_nobody_asked_before_a_store_went_away_is_ready() {
        let pipeline = ObservedPipeline::new("p", vec![], []);
        pipeline.prepares();
        pipeline.runs();
        pipeline.source.settle();
        pipeline.waiting.is_news("sink `a`", "refused");
        assert_eq!((pipeline.not_ready(), pipeline.state().name()), (None, "waiting"));
    }

    #[test]
    fn pipeline_that_has_ended_waits_for_nothing_also_when_it_is_to_start_again() {
        for failure in [Some("no way".to_owned()), None] {
            let pipeline = ObservedPipeline::new("p", vec![], []);
            pipeline.runs();
            pipeline.source.set_away(true);
            pipeline.waiting.is_news("sink `a`", "refused");
            assert_eq!(pipeline.waiting_for().len(), 2);
            let is_resumable = failure.is_some();
            pipeline.ends(failure);
            assert_eq!(pipeline.waiting_for(), []);
            assert_eq!(pipeline.start_again(), is_resumable);
            assert_eq!(pipeline.waiting.current(), []);
        }
    }

    #[test]
    fn what_was_paused_before_it_began_begins_paused() {
        let pipeline = ObservedPipeline::new("p", vec![], []);
        assert!(pipeline.pause(true) && !pipeline.pause(true));
        assert_eq!(pipeline.state(), State::Paused);
        let bounds = crate::source::Bounds { records: 1, bytes: 1 };
        let queue = Arc::new(LaneQueue::new(bounds));
        queue.end();
        pipeline.reads_through(std::slice::from_ref(&queue));
        let take = || queue.take(bounds, Duration::from_millis(1));
        assert!(matches!(take(), Some(crate::source::Item::Idle)));
        assert!(pipeline.pause(false));
        assert!(matches!(take(), Some(crate::source::Item::End)));
    }
}
