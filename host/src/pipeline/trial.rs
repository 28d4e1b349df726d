//! The first half of a lane: records through the modules that serve, and the trial of those that are new.
//!
//! After an exchange the first records are on trial. Where the new modules fail at a record that those before handle,
//! the whole pipeline goes back to those at once, and nothing of the failed answer is used. A record at which both fail
//! is nobody's fault but its own, and goes the way of every bad record.

use std::sync::Arc;

use anyhow::anyhow;

use super::lane::Prepare;
use super::observe::ObservedPipeline;
use super::prepare::{Made, Witness, Work};
use super::serving::{Parts, Slot};
use super::write::Prepared;
use crate::config::OnTruncate;
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
}

impl Stage {
    /// The first half of a lane of this pipeline.
    ///
    /// # Errors
    /// When an instance of a module cannot be made.
    pub(super) fn new(
        observed: Arc<ObservedPipeline>,
        decoder: Decoder,
        slot: Arc<Slot>,
        on_truncate: OnTruncate,
    ) -> anyhow::Result<Self> {
        let work = Work { pipeline: observed.name.clone(), observed: Some(observed), decoder, on_truncate };
        Ok(Self { work, parts: Parts::new(slot)?, on_trial: 0 })
    }

    /// Has the modules on trial handle records, and goes back to those before where they fail at what those handle.
    fn try_newest(&mut self, records: &[Record], witnesses: &mut [Witness]) -> anyhow::Result<Made> {
        let why = match self.work.make_on_trial(records, &mut self.parts.current, witnesses) {
            Ok(made) => {
                let first = made.failures().next();
                let why = first.map(|first| format!("{}: {}", records[first.place].position(), first.why.reason));
                let Some(why) = why else {
                    self.on_trial = self.on_trial.saturating_sub(records.len());
                    return Ok(made);
                };
                why
            }
            Err(failure) => format!("{failure:#}"),
        };
        // Whoever compares with what serves has seen what does not hold.
        witnesses.iter_mut().for_each(|witness| witness.saw.clear());
        let held = match &mut self.parts.before {
            Some(before) => self.work.make(records, before).map(|made| (made, before.serving.clone())),
            None => Err(anyhow!("there are none")),
        };
        let Ok((held_made, held)) = held else { return self.work.make(records, &mut self.parts.current) };
        let failures = held_made.failures().count();
        if failures > 0 {
            let made = self.work.make(records, &mut self.parts.current);
            if made.as_ref().is_ok_and(|made| made.failures().count() <= failures) {
                return made;
            }
        }
        let failed = self.parts.current.serving.clone();
        if self.parts.fall_back(&why)? {
            if let Some(observed) = &self.work.observed {
                observed.served_by(self.parts.current.serving.transforms());
            }
            tracing::error!(
                pipeline = self.work.pipeline,
                failed = failed.digests(),
                serving = held.digests(),
                why,
                "the modules before serve again, for the new ones fail at what those handle"
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
            let served = self.parts.current.serving.clone();
            let is_new = self.parts.renew()?;
            if !self.parts.current.serving.is_of(&served) {
                self.on_trial = if is_new { ON_TRIAL } else { 0 };
            }
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
        shadows.iter().zip(witnesses).for_each(|(shadow, witness)| shadow.show(&records, witness));
        Ok(made.into_prepared(records, self.parts.current.serving.clone()))
    }
}
