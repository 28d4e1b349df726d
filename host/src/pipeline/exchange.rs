//! Exchanging the modules of a running pipeline, away from its data.
//!
//! A candidate is a module with the pipeline's settings, started and held against what it is granted and against what
//! the stores have. Only then do lanes get to see it. Whatever is wrong with it before that is a [`Refusal`], and the
//! stream does not notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use tokio::runtime::Handle;

use super::serving::{Serving, Slot};
use super::shadow::{Comparison, Shadow, Until};
use super::start::{Started, declared, start_from};
use super::write::{BoundSink, Stores};
use crate::config;
use crate::contract::Description;
use crate::engine::{Engine, Limits};
use crate::event::Decoder;
use crate::limits::{REASON, cut};
use crate::sink::{HistoryRow, SinkError};

/// How long a store may take to say whether it has what a candidate declares, or what its history is.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pipeline's modules, while it runs.
#[derive(Clone)]
pub struct Exchange {
    inner: Arc<Inner>,
}

struct Inner {
    pipeline: config::Pipeline,
    engine: Engine,
    limits: Limits,
    slot: Arc<Slot>,
    stores: Arc<Stores>,
    runtime: Handle,
    /// Held while a set is exchanged, so that one is made of the other.
    exchanging: Mutex<()>,
}

/// A module that could serve as one of the pipeline's transforms.
pub struct Candidate {
    /// Its place among the transforms.
    place: usize,
    started: Arc<Started>,
}

/// The modules that served before the present ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// Name of the transform, and digest.
    pub modules: Vec<(String, String)>,
    /// Why they were left, where they failed.
    pub failure: Option<String>,
}

/// Why a module does not come to serve. The stream has not noticed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The pipeline has no such transform.
    #[error("pipeline `{pipeline}` has no transform `{transform}`; it has {known}")]
    Unknown {
        /// The pipeline.
        pipeline: String,
        /// What was asked for.
        transform: String,
        /// Those that it has.
        known: String,
    },
    /// It is not a module that can serve: not WebAssembly, another contract, another digest than the pinned one, settings
    /// that it refuses, a grant that it lacks.
    #[error("{0}")]
    Unfit(String),
    /// It declares something else than the stores have, or than serves.
    #[error("{0}")]
    Declaration(String),
    /// One that was offered later has come to serve, or is compared.
    #[error("something newer was offered")]
    Outdone,
    /// The pipeline has not begun, or has ended.
    #[error("pipeline `{0}` does not run: offer the module again when it does")]
    NotRunning(String),
    /// Nothing served before.
    #[error("pipeline `{0}` has served by no other modules since it was started")]
    NothingBefore(String),
}

impl Exchange {
    pub(super) fn new(
        pipeline: config::Pipeline,
        (engine, limits): (Engine, Limits),
        slot: Arc<Slot>,
        stores: Arc<Stores>,
        runtime: Handle,
    ) -> Self {
        let exchanging = Mutex::default();
        Self { inner: Arc::new(Inner { pipeline, engine, limits, slot, stores, runtime, exchanging }) }
    }

    /// The pipeline, as it is configured.
    pub fn pipeline(&self) -> &config::Pipeline {
        &self.inner.pipeline
    }

    /// Whether modules can be exchanged: a pipeline that has not found its stores as it left them yet, or that was
    /// stopped, must not make anything ready there.
    pub fn is_running(&self) -> bool {
        self.inner.stores.is_ready.load(Ordering::Acquire) && !self.inner.stores.stop.is_set()
    }

    /// Counts a module that did not come to serve.
    pub(crate) fn refused(&self) {
        self.inner.stores.observed.exchanges.add("refused", 1);
    }

    /// The modules that serve: name of the transform, and digest.
    pub fn serving(&self) -> Vec<(String, String)> {
        self.inner.slot.serving().transforms().to_vec()
    }

    /// The modules that served before.
    pub fn before(&self) -> Option<Before> {
        let (serving, failure) = self.inner.slot.before()?;
        Some(Before { modules: serving.transforms().to_vec(), failure })
    }

    /// Why the lanes went back from this module of a transform, where they did since `since`: how it failed, or that
    /// somebody asked for it.
    pub fn left(&self, transform: &str, digest: &str, since: SystemTime) -> Option<String> {
        let left = self.inner.slot.left();
        let left = left.iter().find(|left| {
            left.time >= since && left.transforms.iter().any(|(name, other)| name == transform && other == digest)
        })?;
        Some(left.failure.clone().unwrap_or_else(|| "it was rolled back by hand".into()))
    }

    /// Verifies, compiles and starts a module for one of the transforms, and holds it against grants and stores. Takes
    /// some 100 ms, and changes nothing.
    ///
    /// # Errors
    /// When it cannot serve.
    pub fn candidate(&self, transform: &str, bytes: &[u8]) -> Result<Candidate, Refusal> {
        let inner = &self.inner;
        let place = inner.pipeline.transforms.iter().position(|one| one.name == transform);
        let place = place.ok_or_else(|| self.unknown(transform))?;
        self.runs()?;
        let started = start_from(&inner.engine, &inner.limits, &inner.pipeline.transforms[place], bytes)
            .map_err(|error| Refusal::Unfit(cut(format!("{error:#}"), REASON)))?;
        let candidate = Candidate { place, started: Arc::new(started) };
        self.agree(&candidate)?;
        Ok(candidate)
    }

    /// Has a candidate see what the transform that it would replace handles, until `until` or `stop`, and compares their
    /// answers. `tell` is told each step.
    ///
    /// # Errors
    /// When an instance cannot be made.
    pub fn shadow(
        &self,
        candidate: &Candidate,
        until: Until,
        stop: &AtomicBool,
        tell: impl FnMut(&Comparison),
    ) -> Result<Comparison, Refusal> {
        let inner = &self.inner;
        let transform = candidate.started.fork().map_err(|error| Refusal::Unfit(cut(format!("{error:#}"), REASON)))?;
        let decoder = Decoder::new(inner.pipeline.event_options());
        let (shadow, comparer) = Shadow::new(candidate.place, &inner.pipeline.name, decoder, transform);
        inner.slot.add_shadow(shadow.clone());
        let comparison = comparer.run(until, stop, tell);
        inner.slot.remove_shadow(&shadow);
        Ok(comparison)
    }

    /// Has a candidate serve: each lane from its next batch on.
    ///
    /// # Errors
    /// When a store cannot be made ready for what it declares, or an instance cannot be made.
    pub fn promote(&self, candidate: &Candidate) -> Result<(), Refusal> {
        let inner = &self.inner;
        let _one = inner.exchanging.lock().unwrap_or_else(PoisonError::into_inner);
        self.runs()?;
        // A lane may go back from what serves in the meantime: then the set is made of what serves after that.
        loop {
            let serving = inner.slot.serving();
            let mut next = serving.started().to_vec();
            if let Some(place) = next.get_mut(candidate.place) {
                *place = candidate.started.clone();
            }
            for bound in &inner.stores.sinks {
                let wanted = declared(&bound.ports, next.iter().map(|one| one.description()));
                if wanted != inner.stores.declared(bound) {
                    self.ask(bound, bound.sink.prepare(&inner.pipeline.name, &wanted))?;
                }
            }
            let exchanged = inner.slot.exchange(serving.number(), next, inner.pipeline.lanes);
            if exchanged.map_err(|error| Refusal::Unfit(cut(format!("{error:#}"), REASON)))? {
                inner.stores.observed.exchanges.add("promoted", 1);
                inner.stores.observed.served_by(inner.slot.serving().transforms());
                return Ok(());
            }
        }
    }

    /// Has the modules before serve again, at once.
    ///
    /// # Errors
    /// When there are none.
    pub fn go_back(&self) -> Result<(), Refusal> {
        let _one = self.inner.exchanging.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = self.inner.slot.go_back();
        self.inner.stores.observed.served_by(self.inner.slot.serving().transforms());
        self.inner.stores.observed.exchanges.add("rolled-back", u64::from(gone));
        if gone { Ok(()) } else { Err(Refusal::NothingBefore(self.inner.pipeline.name.clone())) }
    }

    /// Holds what a candidate declares against what serves, and against the stores where it is something new.
    fn agree(&self, candidate: &Candidate) -> Result<(), Refusal> {
        let serving = self.inner.slot.serving();
        let described = |serving: &Serving| -> Vec<Description> {
            serving.started().iter().map(|one| one.description().clone()).collect()
        };
        let mut next = described(&serving);
        let new = candidate.started.description();
        if let Some(old) = next.get(candidate.place) {
            for table in &new.tables {
                if let Some(other) = old.tables.iter().find(|other| other.name == table.name && other.key != table.key)
                {
                    return Err(Refusal::Declaration(format!(
                        "it declares the key ({}) of table `{}`, and what serves declares ({}): rows are found by their \
                         key, so that those written so far would be lost; declare the same, or start a pipeline of \
                         another name on a fresh table",
                        table.key.join(", "),
                        table.name,
                        other.key.join(", ")
                    )));
                }
            }
        }
        if let Some(place) = next.get_mut(candidate.place) {
            *place = new.clone();
        }
        for bound in &self.inner.stores.sinks {
            let wanted = declared(&bound.ports, next.iter());
            if wanted != self.inner.stores.declared(bound) {
                let found = self.ask(bound, bound.sink.inspect(&self.inner.stores.pipeline, &wanted))?;
                if let Some(first) = found.faults.first() {
                    return Err(Refusal::Declaration(cut(format!("sink `{}`: {first}", bound.name), REASON)));
                }
            }
        }
        Ok(())
    }

    /// Which modules made what the sinks hold, those that keep a ledger: name of the sink, and a row. It waits for the
    /// stores, and changes nothing.
    ///
    /// # Errors
    /// When a store does not answer.
    pub fn history(&self) -> anyhow::Result<Vec<(String, HistoryRow)>> {
        let inner = &self.inner;
        let mut history = Vec::new();
        for bound in inner.stores.sinks.iter().filter(|bound| bound.sink.keeps_ledger()) {
            let rows = self.answer(bound, bound.sink.history(&inner.pipeline.name)).map_err(|cause| anyhow!(cause))?;
            history.extend(rows.into_iter().map(|row| (bound.name.clone(), row)));
        }
        Ok(history)
    }

    fn ask<T>(&self, bound: &BoundSink, question: impl Future<Output = Result<T, SinkError>>) -> Result<T, Refusal> {
        self.answer(bound, question).map_err(|cause| Refusal::Declaration(cut(cause, REASON)))
    }

    /// What a store answers, or why it does not.
    fn answer<T>(&self, bound: &BoundSink, question: impl Future<Output = Result<T, SinkError>>) -> Result<T, String> {
        let refused = |cause: String| format!("sink `{}`: {cause}", bound.name);
        match self.inner.runtime.block_on(async { tokio::time::timeout(PATIENCE, question).await }) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(SinkError::Retry(cause) | SinkError::Stop(cause))) => Err(refused(cause)),
            Err(_) => Err(refused(format!("it has not answered for {PATIENCE:?}"))),
        }
    }

    fn runs(&self) -> Result<(), Refusal> {
        if self.is_running() { Ok(()) } else { Err(Refusal::NotRunning(self.inner.pipeline.name.clone())) }
    }

    fn unknown(&self, transform: &str) -> Refusal {
        let known: Vec<_> = self.inner.pipeline.transforms.iter().map(|one| format!("`{}`", one.name)).collect();
        Refusal::Unknown {
            pipeline: self.inner.pipeline.name.to_string(),
            transform: transform.to_owned(),
            known: known.join(", "),
        }
    }
}

impl Candidate {
    /// The transform that it would replace.
    pub fn transform(&self) -> &str {
        self.started.name()
    }

    /// The SHA-256 of the module.
    pub fn digest(&self) -> &str {
        self.started.digest()
    }
}
