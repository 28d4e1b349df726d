//! Joins the parts: a source, the lanes with their transforms, the sinks and the dead letters.
//!
//! [`Pipelines::open`] loads and starts the transforms, holds what they declare against grants, and opens the stores;
//! [`Pipelines::run`] runs each pipeline until its source ends, it is stopped, or it cannot go on. A pipeline is one
//! fate; the pipelines of a configuration do not wait for each other, so what needs a store or a cluster is part of its
//! run.

mod breaker;
mod claim;
mod clash;
pub(crate) mod commit;
mod count;
pub mod dead_letter;
mod exchange;
mod fence;
#[cfg(test)]
pub(crate) mod fuzz;
mod inspect;
mod lane;
mod left_out;
mod letters;
mod lost;
mod marking;
mod memo;
mod observe;
mod one_writer;
pub(crate) mod open;
mod open_marks;
mod partial;
mod prepare;
mod progress;
mod reject;
mod replay;
mod restart;
mod retry;
mod same_log;
mod serving;
mod shadow;
mod start;
mod stop;
#[cfg(test)]
mod tests;
mod topic;
mod trial;
mod write;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::{Context, anyhow};
use tokio::runtime::{Builder, Handle, Runtime};

use self::breaker::Breaker;
use self::commit::CommitMetadata;
pub use self::count::{Histogram, Tally};
use self::dead_letter::DeadLetters;
pub use self::exchange::{Before, Candidate, Exchange, Refusal};
pub use self::inspect::{Finding, inspect};
use self::lane::Lane;
use self::letters::configured;
pub use self::observe::{Observed, ObservedPipeline, ObservedTransform, State};
use self::one_writer::OneWriter;
use self::open::Source;
pub use self::progress::{PipelineSummary, Summary};
use self::serving::{Serving, Slot};
pub use self::shadow::{Comparison, Difference, Until};
use self::start::start;
use self::stop::Stop;
pub use self::stop::Stops;
use self::trial::Stage;
use self::write::{BoundSink, Policies, Stores};
use crate::command::Port;
use crate::config::{self, Config};
use crate::engine::Engine;
use crate::sink::Sink;
use crate::source::{Bounds, LaneQueue};

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was done.
    pub summary: Summary,
    /// The pipelines that could not go on, with the reason.
    pub failures: Vec<anyhow::Error>,
}

/// The pipelines of a configuration, ready to run.
pub struct Pipelines<'a> {
    config: &'a Config,
    stops: &'a Stops,
    prepared: Vec<Pipeline>,
    exchanges: Vec<Exchange>,
    /// Sinks write on it; it ends last.
    _runtime: Runtime,
}

impl<'a> Pipelines<'a> {
    /// Loads and starts the modules, and opens source, sinks and dead letters. Nothing is read or written yet. `observed`
    /// is made of the same configuration.
    ///
    /// # Errors
    /// When the run cannot begin: a store whose settings cannot be used, a module that cannot serve, a grant that is
    /// missing.
    pub fn open(config: &'a Config, engine: Engine, stops: &'a Stops, observed: &Observed) -> anyhow::Result<Self> {
        Self::with_sinks(config, engine, stops, observed, open::sinks(config)?)
    }

    /// The same with these stores, by the names that the pipelines bind.
    ///
    /// # Errors
    /// As [`Pipelines::open`].
    pub(crate) fn with_sinks(
        config: &'a Config,
        engine: Engine,
        stops: &'a Stops,
        observed: &Observed,
        sinks: BTreeMap<String, Arc<dyn Sink>>,
    ) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().enable_all().thread_name("tidegate-write").build()?;
        let shared = Shared {
            config,
            engine,
            sinks,
            dead_letters: Arc::new(open::dead_letters(config)?),
            trial: Arc::default(),
            runtime: runtime.handle().clone(),
        };
        let both: Vec<_> = config
            .pipelines
            .iter()
            .zip(observed.pipelines())
            .map(|(pipeline, observed)| Pipeline::prepare(pipeline, &shared, stops.add(), observed))
            .collect::<anyhow::Result<_>>()?;
        let (prepared, exchanges) = both.into_iter().unzip();
        Ok(Self { config, stops, prepared, exchanges, _runtime: runtime })
    }

    /// The modules of each pipeline, to be exchanged while it runs.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.clone()
    }

    /// Runs every pipeline to its end. Another run of the same has none.
    pub fn run(&mut self) -> Outcome {
        let Self { config, stops, .. } = *self;
        let prepared = std::mem::take(&mut self.prepared);
        let mut outcome = Outcome { summary: Summary::default(), failures: Vec::new() };
        let running = AtomicUsize::new(prepared.len());
        let run_one =
            |pipeline: Pipeline, of: &'a config::Pipeline| restart::run(pipeline, of, config, stops, &running);
        thread::scope(|scope| {
            let both = prepared.into_iter().zip(&config.pipelines);
            let running: Vec<_> = both.map(|(pipeline, of)| scope.spawn(|| run_one(pipeline, of))).collect();
            for pipeline in running {
                match pipeline.join() {
                    Ok((summary, failure)) => {
                        outcome.summary.pipelines.push(summary);
                        outcome.failures.extend(failure);
                    }
                    Err(_) => outcome.failures.push(anyhow!("a pipeline failed unexpectedly: see the message above")),
                }
            }
        });
        outcome
    }
}

/// What the pipelines of a run have in common.
struct Shared<'a> {
    config: &'a Config,
    engine: Engine,
    sinks: BTreeMap<String, Arc<dyn Sink>>,
    dead_letters: Arc<DeadLetters>,
    /// As in [`Stores`].
    trial: Arc<AtomicBool>,
    runtime: Handle,
}

/// A pipeline that is ready to run.
struct Pipeline {
    name: String,
    lanes: Vec<Lane>,
    control: mpsc::Receiver<crate::source::Control>,
    source: Source,
    stores: Arc<Stores>,
    runtime: Handle,
}

impl Pipeline {
    fn prepare(
        pipeline: &config::Pipeline,
        shared: &Shared<'_>,
        stop: Arc<Stop>,
        observed: &Arc<ObservedPipeline>,
    ) -> anyhow::Result<(Self, Exchange)> {
        let name = pipeline.name.to_string();
        let started = pipeline
            .transforms
            .iter()
            .map(|transform| {
                let started = start(&shared.engine, shared.config, transform);
                Ok(Arc::new(started.with_context(|| format!("pipeline `{name}`"))?))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let source =
            open::source(shared.config, pipeline, &observed.source).with_context(|| format!("pipeline `{name}`"))?;
        let sinks = bind(pipeline, &shared.sinks);
        let slot = Arc::new(Slot::new(Serving::first(started)));
        observed.served_by(slot.serving().transforms());
        let stores = Arc::new(Stores {
            pipeline: name.clone(),
            sinks,
            slot: slot.clone(),
            dead_letters: shared.dead_letters.clone(),
            stop,
            policies: Policies::of(pipeline),
            configured: configured(pipeline, &shared.config.engine.limits),
            breaker: Breaker::new(pipeline.breaker),
            one_writer: OneWriter::default(),
            is_ready: AtomicBool::default(),
            claims: AtomicU64::default(),
            trial: shared.trial.clone(),
            observed: observed.clone(),
            beginning_afresh: tokio::sync::Mutex::default(),
            entering_topics: tokio::sync::Mutex::default(),
        });
        let (lanes, control) = lanes(pipeline, &stores, &shared.runtime)?;
        let runtime = shared.runtime.clone();
        let exchange = Exchange::new(
            pipeline.clone(),
            (shared.engine.clone(), shared.config.engine.limits.clone()),
            slot,
            stores.clone(),
            runtime.clone(),
        );
        Ok((Self { name, lanes, control, source, stores, runtime }, exchange))
    }

    /// Holds the stores against what the transforms declare, before the first record.
    fn make_ready(&self) -> anyhow::Result<()> {
        let commits = self.source_span().in_scope(|| self.source.committed(self.stores.stop.flag()));
        let commits = commits.with_context(|| format!("pipeline `{}`", self.name))?;
        // What could not be read says nothing: a store that has lost its ledger would pass for a new one.
        if self.stores.stop.is_set() {
            return Ok(());
        }
        let commits: Vec<_> = commits.iter().map(|commit| CommitMetadata::read(commit)).collect();
        self.stores.sinks.iter().try_for_each(|bound| self.runtime.block_on(self.stores.prepare(bound, &commits)))
    }

    /// Names the pipeline in what the source logs, which knows no pipeline.
    fn source_span(&self) -> tracing::Span {
        tracing::error_span!("source", pipeline = self.name)
    }

    /// Runs to the end of the source, to the wish to stop, or to the first failure.
    fn run(self) -> (PipelineSummary, Option<anyhow::Error>) {
        let mut summary = PipelineSummary { name: self.name.clone(), ..PipelineSummary::default() };
        let stop = self.stores.stop.clone();
        let observed = self.stores.observed.clone();
        observed.prepares();
        if !stop.is_set() {
            stop.fail_with(self.make_ready());
        }
        if stop.is_set() {
            return (summary, stop.take_failure());
        }
        self.stores.is_ready.store(true, Ordering::Release);
        let span = self.source_span();
        let queues: Vec<_> = self.lanes.iter().map(|lane| lane.queue.clone()).collect();
        observed.reads_through(&queues);
        observed.runs();
        thread::scope(|scope| {
            let lanes: Vec<_> = self.lanes.into_iter().map(|lane| scope.spawn(|| lane.run())).collect();
            {
                // When nothing more will come, or the source panics, what is in flight is finished.
                let _closing = Closing(&queues);
                let read = span.in_scope(|| self.source.run(&queues, &self.control, stop.flag()));
                stop.fail_with(read.with_context(|| format!("pipeline `{}`", self.name)));
            }
            drop(self.control);
            // A lane that panicked has said so to `stop`.
            for done in lanes.into_iter().filter_map(|lane| lane.join().ok()) {
                summary.add(&done);
            }
        });
        (summary, stop.take_failure())
    }
}

/// The lanes of one run of a pipeline, and what they tell the source.
fn lanes(
    pipeline: &config::Pipeline,
    stores: &Arc<Stores>,
    runtime: &Handle,
) -> anyhow::Result<(Vec<Lane>, mpsc::Receiver<crate::source::Control>)> {
    let batch = Bounds { records: pipeline.batch.max_events, bytes: pipeline.batch.max_bytes };
    let (to_source, control) = mpsc::channel();
    let lane = |_| {
        let stage = Stage::new(pipeline, stores.observed.clone(), stores.slot.clone())?;
        Ok(Lane {
            queue: Arc::new(LaneQueue::new(batch)),
            control: to_source.clone(),
            prepare: Box::new(stage),
            serving: stores.slot.serving(),
            stores: stores.clone(),
            runtime: runtime.clone(),
            batch,
        })
    };
    let lanes = (0..pipeline.lanes).map(lane).collect::<anyhow::Result<_>>()?;
    Ok((lanes, control))
}

/// Closes the queues of the lanes.
struct Closing<'a>(&'a [Arc<LaneQueue>]);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|queue| queue.close());
    }
}

impl Policies {
    fn of(pipeline: &config::Pipeline) -> Self {
        Self {
            on_lost_records: pipeline.on_lost_records,
            on_changed_topic: pipeline.on_changed_topic,
            on_lost_cache: pipeline.on_lost_cache,
            clash_patience: pipeline.clash_patience,
        }
    }
}

/// The sinks of a pipeline with their ports, in the order in which they are written.
fn bind(pipeline: &config::Pipeline, sinks: &BTreeMap<String, Arc<dyn Sink>>) -> Vec<BoundSink> {
    let mut bound: Vec<BoundSink> = Vec::new();
    for port in Port::ALL {
        let Some(name) = pipeline.sinks.get(&port) else { continue };
        let Some(sink) = sinks.get(name) else { continue };
        match bound.iter_mut().find(|bound| bound.name == *name) {
            Some(bound) => bound.ports.push(port),
            None => bound.push(BoundSink { name: name.clone(), ports: vec![port], sink: sink.clone() }),
        }
    }
    bound
}
