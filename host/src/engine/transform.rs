//! Batches through a warm instance, and the narrowing of a failed one down to the changes that cause it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::bindings::exports::tidegate::transform::transformer as wit;
use super::convert::{self, Lists};
use super::error::{ApplyError, LoadError};
use super::instance::{Failure, Instance};
use super::module::Module;
use super::{Batch, Outcome};
use crate::contract::{Description, Fault, Rejection};
use crate::event::Projected;

/// Changes of one batch that may run over the deadline. Each costs up to ten deadlines and one for each halving; with
/// more of them it is the module that hangs, and the pipeline should know it soon.
const HANGING_CHANGES: usize = 8;

/// A module with its settings, and a warm instance. One a lane.
pub struct Transform {
    module: Module,
    settings: Arc<str>,
    description: Arc<Description>,
    /// None after a failed call.
    instance: Option<Instance>,
}

/// What a failed call means for a change that was alone in it.
struct Verdict {
    rejection: Rejection,
    /// The instance had handled nothing before: what went wrong is not an earlier batch's fault.
    fresh: bool,
}

impl Transform {
    pub(super) fn new(module: Module, settings: Arc<str>, description: Arc<Description>, instance: Instance) -> Self {
        Self { module, settings, description, instance: Some(instance) }
    }

    /// What it declared.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Its module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// What the commands of one change may take, bytes.
    pub fn answer_bytes(&self) -> usize {
        self.module.limits().answer_bytes
    }

    /// The memory that its instance holds, bytes; 0 after a failed call.
    pub fn memory(&self) -> usize {
        self.instance.as_ref().map_or(0, Instance::memory)
    }

    /// Another transform of the same module and settings, for another lane.
    ///
    /// # Errors
    /// As for [`Module::start`].
    pub fn fork(&self) -> Result<Self, LoadError> {
        Ok(Self {
            module: self.module.clone(),
            settings: Arc::clone(&self.settings),
            description: Arc::clone(&self.description),
            instance: Some(self.start()?),
        })
    }

    /// Handles one batch: one outcome a change, in their order.
    ///
    /// A trap, a call beyond the deadline or an answer that does not add up is narrowed down by halving, in fresh
    /// instances, to the changes that cause it. Those are rejected; the others are handled. A change is rejected for
    /// the deadline only when it has been tried alone with ten times as long.
    ///
    /// # Errors
    /// When a fresh instance is needed and cannot be started, or the module hangs on so many changes that it is at
    /// fault itself. Nothing of the batch counts as handled then.
    pub fn apply(&mut self, batch: Batch<'_>, changes: &[Projected<'_>]) -> Result<Vec<Outcome>, ApplyError> {
        let lists = Lists::new(batch, changes);
        let lowered = lists.changes(changes);
        let mut outcomes = Vec::with_capacity(changes.len());
        let mut hanging = 0;
        // The ranges that are still to be handled, the first one last.
        let mut ranges = vec![Range { start: 0, end: changes.len() }];
        while let Some(range) = ranges.pop() {
            if range.is_empty() {
                continue;
            }
            let part = &lowered[range.clone()];
            let Err(verdict) = self.call(lists.batch(batch), part, false, &mut outcomes)? else { continue };
            if range.len() > 1 {
                let [first, second] = halves(range);
                ranges.extend([second, first]);
                continue;
            }
            let overdue = verdict.rejection.fault == Fault::Deadline;
            if verdict.fresh && !overdue {
                outcomes.push(Err(verdict.rejection));
                continue;
            }
            let Err(verdict) = self.call(lists.batch(batch), part, overdue, &mut outcomes)? else { continue };
            hanging += usize::from(verdict.rejection.fault == Fault::Deadline);
            if hanging > HANGING_CHANGES {
                let (module, deadline) = (self.module.name().to_owned(), self.module.limits().call_deadline);
                return Err(ApplyError::Hangs { module, changes: hanging, deadline });
            }
            outcomes.push(Err(verdict.rejection));
        }
        Ok(outcomes)
    }

    /// Handles one batch in one call, without looking for the changes that are at fault when that fails: for a module
    /// that has still to show that it is healthy.
    ///
    /// # Errors
    /// Why the call failed.
    pub fn try_apply(
        &mut self,
        batch: Batch<'_>,
        changes: &[Projected<'_>],
    ) -> Result<Result<Vec<Outcome>, Rejection>, ApplyError> {
        let lists = Lists::new(batch, changes);
        let mut outcomes = Vec::with_capacity(changes.len());
        let called = self.call(lists.batch(batch), &lists.changes(changes), false, &mut outcomes)?;
        Ok(called.map(|()| outcomes).map_err(|verdict| verdict.rejection))
    }

    /// One call. Its outcomes are appended; after a failure nothing is, and the instance is gone.
    fn call(
        &mut self,
        batch: wit::Batch<'_>,
        changes: &[wit::Change<'_>],
        patient: bool,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<Result<(), Verdict>, ApplyError> {
        let mut instance = match self.instance.take() {
            Some(instance) if instance.calls() < self.module.limits().calls_per_instance => instance,
            _ => self.start()?,
        };
        let fresh = instance.calls() == 0;
        let limits = self.module.limits();
        let deadline = if patient { limits.patience() } else { limits.call_deadline };
        let rejection = match instance.apply(batch, changes, deadline) {
            Ok(answer) => match convert::outcomes(answer, changes.len(), limits.commands_per_change, outcomes) {
                Ok(()) => {
                    self.instance = Some(instance);
                    return Ok(Ok(()));
                }
                Err(cause) => {
                    Rejection::new(Fault::BadAnswer, format!("the transform's answer does not add up: {cause}"))
                }
            },
            Err(Failure::Trapped(cause)) => Rejection::new(Fault::Trapped, format!("the transform trapped: {cause}")),
            Err(Failure::Deadline) => Rejection::new(
                Fault::Deadline,
                format!("the transform did not answer within {deadline:?}: mend it, or raise the deadline"),
            ),
            Err(Failure::Unreadable(cause)) => {
                Rejection::new(Fault::BadAnswer, format!("the transform's answer cannot be read: {cause}"))
            }
        };
        Ok(Err(Verdict { rejection, fresh }))
    }

    fn start(&self) -> Result<Instance, LoadError> {
        let (instance, description) = self.module.instance(&self.settings)?;
        if description != *self.description {
            return Err(LoadError::Changed { module: self.module.name().into() });
        }
        Ok(instance)
    }
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transform").field("module", &self.module).finish_non_exhaustive()
    }
}

fn halves(range: Range<usize>) -> [Range<usize>; 2] {
    let middle = range.start + range.len() / 2;
    [range.start..middle, middle..range.end]
}
