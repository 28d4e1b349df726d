//! The first half of a lane: records through the modules that serve, and the trial of those that are new.
//!
//! After an exchange the first records are on trial. Where the new modules fail at a record that those before handle,
//! or reject so many that the pipeline would soon have to stop, the whole pipeline goes back to those before at once, and
//! nothing of the failed answer is used. A record at which both fail is nobody's fault but its own, and goes the way of
//! every bad record.

use std::sync::Arc;

use anyhow::anyhow;

use super::breaker::Breaker;
use super::lane::Prepare;
use super::observe::ObservedPipeline;
use super::prepare::{Made, Witness, Work};
use super::serving::{Parts, Serving, Slot};
use super::write::Prepared;
use crate::config;
use crate::event::Decoder;
use crate::source::Record;

/// How many records of a lane new modules must handle before they are taken for healthy.
const ON_TRIAL: usize = 10_000;

/// By which modules records are to be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// By the newest ones.
    Newest,
    /// By those that the lane serves by already, whether there are newer ones or not.
    Current,
    /// By those that it served by before.
    Before,
}

/// The first half of a lane.
pub(super) struct Stage {
    work: Work,
    parts: Parts,
    /// How many records the modules of the last exchange have still to handle without a failure.
    on_trial: usize,
    /// How much the modules on trial may reject.
    bounds: (config::Breaker, usize),
    /// What the modules on trial have rejected.
    rejects: Breaker,
}

impl Stage {
    /// The first half of a lane of this pipeline.
    ///
    /// # Errors
    /// When an instance of a module cannot be made.
    pub(super) fn new(
        pipeline: &config::Pipeline,
        observed: Arc<ObservedPipeline>,
        slot: Arc<Slot>,
    ) -> anyhow::Result<Self> {
        let work = Work {
            pipeline: observed.name.clone(),
            observed: Some(observed),
            decoder: Decoder::new(pipeline.event_options()),
            on_truncate: pipeline.on_truncate,
        };
        let bounds = (pipeline.breaker, pipeline.lanes);
        let rejects = Breaker::on_trial(bounds.0, bounds.1);
        Ok(Self { work, parts: Parts::new(slot)?, on_trial: 0, bounds, rejects })
    }

    /// Has the modules on trial handle records, and goes back to those before where they fail at what those handle.
    fn try_newest(&mut self, records: &[Record], witnesses: &mut [Witness]) -> anyhow::Result<Made> {
        let mut rejects_too_much = false;
        let why = match self.work.make_on_trial(records, &mut self.parts.current, witnesses) {
            Ok(made) => {
                let first = made.failures().next();
                let why = first.map(|first| format!("{}: {}", records[first.place].position(), first.why.reason));
                let rejected = made.refused_by_modules();
                rejects_too_much = why.is_none();
                let Some(why) = why.or_else(|| self.rejects.trips(records.len(), &rejected)) else {
                    self.rejects.passed(records.len(), &rejected);
                    self.on_trial = self.on_trial.saturating_sub(records.len());
                    return Ok(made);
                };
                why
            }
            Err(failure) => format!("{failure:#}"),
        };
        // Whoever compares with what serves has seen what does not hold.
        witnesses.iter_mut().for_each(|witness| witness.saw.clear());
        let held = match self.parts.fallback() {
            Some(before) => self.work.make(records, before).map(|made| (made, before.serving.clone())),
            None => Err(anyhow!("there are none")),
        };
        let Ok((held_made, held)) = held else { return self.work.make(records, &mut self.parts.current) };
        let bad =
            |made: &Made| if rejects_too_much { made.refused_by_modules().len() } else { made.failures().count() };
        if bad(&held_made) > 0 {
            let made = self.work.make(records, &mut self.parts.current);
            if made.as_ref().is_ok_and(|made| bad(made) <= bad(&held_made)) {
                self.on_trial = self.on_trial.saturating_sub(records.len());
                return made;
            }
        }
        let failed = self.parts.current.serving.clone();
        if self.parts.fall_back(&why)? {
            if let Some(observed) = &self.work.observed {
                observed.exchanges.add("failed", 1);
                observed.served_by(self.parts.current.serving.transforms());
            }
            tracing::error!(
                pipeline = self.work.pipeline,
                failed = failed.digests(),
                serving = held.digests(),
                why,
                "the modules before serve again, for the new ones fail at or reject what those handle"
            );
        }
        self.on_trial = 0;
        if self.parts.current.serving.is_of(&held) {
            return Ok(held_made);
        }
        // The operator was first, with yet other modules.
        self.work.make(records, &mut self.parts.current)
    }
}

impl Prepare for Stage {
    fn prepare(&mut self, records: Vec<Record>, by: By) -> anyhow::Result<Prepared> {
        let (pipeline, number) = (self.work.pipeline.as_str(), records.len());
        // By it a subscriber measures each batch, and what an exchange costs it: up to `set`, which is what serves.
        let batch = tracing::trace_span!("batch", pipeline, records = number, set = tracing::field::Empty).entered();
        if by == By::Newest {
            self.renew()?;
        }
        batch.record("set", self.parts.current.serving.number());
        if by == By::Before
            && let Some(before) = &mut self.parts.before
        {
            let made = self.work.make(&records, before)?;
            return Ok(made.into_prepared(records, before.serving.clone()));
        }
        let shadows = self.parts.shadows();
        let mut witnesses: Vec<Witness> = shadows.iter().map(|shadow| shadow.witness()).collect();
        let made = match self.on_trial {
            0 => self.work.make_before(&records, &mut self.parts.current, &mut witnesses)?,
            _ => self.try_newest(&records, &mut witnesses)?,
        };
        self.parts.handled();
        shadows.iter().zip(witnesses).for_each(|(shadow, witness)| shadow.show(&records, witness));
        Ok(made.into_prepared(records, self.parts.current.serving.clone()))
    }

    fn renew(&mut self) -> anyhow::Result<Arc<Serving>> {
        let served = self.parts.current.serving.clone();
        let is_new = self.parts.renew()?;
        if !self.parts.current.serving.is_of(&served) {
            self.on_trial = if is_new { ON_TRIAL } else { 0 };
            self.rejects = Breaker::on_trial(self.bounds.0, self.bounds.1);
        }
        Ok(self.parts.current.serving.clone())
    }
}
