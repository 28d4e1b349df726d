//! Records in, checked commands out.
//!
//! Records are understood one by one; changes of one table under one schema that follow each other go to each
//! transform in one call. What is refused on the way keeps its place and its reason.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use serde::Deserialize;

use super::dead_letter::Stage as Failed;
use super::observe::ObservedPipeline;
use super::partial::Partial;
use super::progress::{PipelineSummary, count};
use super::serving::{Part, Serving};
use super::write::{Prepared, Refused};
use crate::command::Command;
use crate::command::check::Checker;
use crate::command::collapse::{Origin, Tagged};
use crate::config::OnTruncate;
use crate::contract::{Fault, Operation};
use crate::engine::{Batch, Outcome, Transform};
use crate::event::{Change, Control, Decoder, Event, Projection};
use crate::source::Record;

/// A transform as one lane runs it.
pub(super) struct LaneTransform {
    /// Its name in the configuration.
    pub(super) name: String,
    /// The instance.
    pub(super) transform: Transform,
    /// What it reads.
    pub(super) projection: Projection,
    /// What it may do.
    pub(super) checker: Arc<Checker>,
}

/// What turns records into commands, whichever modules do it.
pub(super) struct Work {
    /// The pipeline's name.
    pub(super) pipeline: String,
    /// What is seen of its transforms; nothing where they handle for comparison alone.
    pub(super) observed: Option<Arc<ObservedPipeline>>,
    /// Understands the records.
    pub(super) decoder: Decoder,
    /// What to do about a table that is truncated.
    pub(super) on_truncate: OnTruncate,
}

/// Sees what one transform answers, before it is checked.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// The transform, by its place among the pipeline's.
    pub(super) transform: usize,
    /// The place of each change among the records, and the answer to it.
    pub(super) saw: Vec<(usize, Outcome)>,
    /// How long the transform took.
    pub(super) took: Duration,
}

/// What to do about a call that fails.
#[derive(Debug, Clone, Copy)]
enum Care {
    /// Find the changes that are at fault, and have the others handled.
    Whole,
    /// Nothing.
    None,
}

/// What became of the records of a batch.
#[derive(Default)]
pub(super) struct Made {
    /// The offset after the last record that was taken.
    to: u64,
    commands: Vec<Tagged>,
    partial: BTreeMap<Origin, Partial>,
    refused: Vec<Refused>,
    summary: PipelineSummary,
    happened: Option<i64>,
    stop: Option<anyhow::Error>,
}

impl Made {
    /// The records at which a module has failed, rather than judged: a trap, no answer in time, an answer that does not
    /// add up or is not granted.
    pub(super) fn failures(&self) -> impl Iterator<Item = &Refused> {
        let failed = [Fault::Trapped, Fault::Deadline, Fault::BadAnswer, Fault::NotGranted];
        self.refused.iter().filter(move |refused| failed.contains(&refused.why.fault))
    }

    /// The places of the records that a module refused or failed at.
    pub(super) fn refused_by_modules(&self) -> HashSet<usize> {
        self.refused.iter().filter(|refused| refused.transform.is_some()).map(|refused| refused.place).collect()
    }

    /// The batch of these records, as this set of modules handled it.
    pub(super) fn into_prepared(self, records: Vec<Record>, serving: Arc<Serving>) -> Prepared {
        let Self { to, commands, partial, refused, summary, happened, stop } = self;
        Prepared { records, to, serving, commands, partial, refused, summary, happened, stop }
    }
}

impl Work {
    /// Turns records of one partition into commands.
    ///
    /// # Errors
    /// When a transform cannot be run any more. A bad record is no error: it is among the refused.
    pub(super) fn make(&mut self, records: &[Record], part: &mut Part) -> anyhow::Result<Made> {
        self.make_by(records, part, Care::Whole, &mut [])
    }

    /// The same before witnesses.
    ///
    /// # Errors
    /// As [`Work::make`].
    pub(super) fn make_before(
        &mut self,
        records: &[Record],
        part: &mut Part,
        witnesses: &mut [Witness],
    ) -> anyhow::Result<Made> {
        self.make_by(records, part, Care::Whole, witnesses)
    }

    /// The same by modules on trial: a call that fails is not looked into, since another module may have the answer.
    ///
    /// # Errors
    /// When a call fails.
    pub(super) fn make_on_trial(
        &mut self,
        records: &[Record],
        part: &mut Part,
        witnesses: &mut [Witness],
    ) -> anyhow::Result<Made> {
        self.make_by(records, part, Care::None, witnesses)
    }

    fn make_by(
        &mut self,
        records: &[Record],
        part: &mut Part,
        care: Care,
        witnesses: &mut [Witness],
    ) -> anyhow::Result<Made> {
        let mut made = Made { to: records.last().map_or(0, |record| record.offset + 1), ..Made::default() };
        let mut source = None;
        let mut run: Vec<(usize, Change<'_>)> = Vec::with_capacity(records.len());
        for (place, record) in records.iter().enumerate() {
            let event = match self.decoder.decode(record) {
                Ok(event) => event,
                Err(why) => {
                    count(&mut made.summary.events, "undecodable");
                    made.refused.push(Refused { place, transform: None, stage: Failed::Decode, sink: None, why });
                    continue;
                }
            };
            let kind = kind(&event);
            match event {
                Event::Change(change) => {
                    if run.last().is_some_and(|(_, last)| !same_batch(last, &change)) {
                        apply((self, care), &mut run, part, &mut made, witnesses)?;
                    }
                    source = change.source;
                    run.push((place, change));
                }
                Event::Truncate if self.on_truncate != OnTruncate::Ignore => {
                    let what = match self.on_truncate {
                        OnTruncate::RefuseFill => {
                            "truncates its table: a fill from the start of the topic would bring back the rows from \
                             before. Have the connector take a new snapshot into an empty topic; or rewind with \
                             --ignore-truncates, and delete those rows afterwards"
                        }
                        OnTruncate::Stop | OnTruncate::Ignore => {
                            "truncates its table, which has no order against the changes of rows. Bring the stores in \
                             line, then go on past it with `on_truncate = \"ignore\"`"
                        }
                    };
                    made.to = record.offset;
                    made.stop = Some(anyhow!("pipeline `{}`: {} {what}", self.pipeline, record.position()));
                    break;
                }
                Event::Truncate | Event::Control(_) => {}
            }
            count(&mut made.summary.events, kind);
        }
        apply((self, care), &mut run, part, &mut made, witnesses)?;
        drop(run);
        if part.transforms.len() > 1 {
            made.commands.sort_by_key(|tagged| tagged.offset);
        }
        made.happened = source.and_then(changed_at).or_else(|| records.last().and_then(|record| record.timestamp));
        Ok(made)
    }
}

/// Has every transform handle the changes.
fn apply(
    (work, care): (&Work, Care),
    run: &mut Vec<(usize, Change<'_>)>,
    part: &mut Part,
    made: &mut Made,
    witnesses: &mut [Witness],
) -> anyhow::Result<()> {
    let Some((_, first)) = run.first() else { return Ok(()) };
    for (number, lane) in part.transforms.iter_mut().enumerate() {
        let changes: Vec<_> = run.iter().map(|(_, change)| change.project(&mut lane.projection)).collect();
        let batch = Batch {
            topic: &first.record.partition.topic,
            partition: first.record.partition.partition,
            table: &first.table,
            columns: first.columns.as_deref().map(Vec::as_slice),
        };
        let observed = work.observed.as_ref().and_then(|observed| observed.transforms.get(number));
        let begun = Instant::now();
        let applied = match care {
            Care::Whole => lane.transform.apply(batch, &changes).map_err(anyhow::Error::from),
            Care::None => lane
                .transform
                .try_apply(batch, &changes)
                .map_err(anyhow::Error::from)
                .and_then(|outcomes| outcomes.map_err(|rejection| anyhow!("{}", rejection.reason))),
        };
        let outcomes = applied.with_context(|| {
            format!(
                "pipeline `{}`: transform `{}` (sha256:{}) cannot serve {}",
                work.pipeline,
                lane.name,
                lane.transform.module().digest(),
                first.record.position()
            )
        })?;
        if let Some(observed) = observed {
            observed.applied(begun.elapsed(), lane.transform.memory());
        }
        for witness in witnesses.iter_mut().filter(|witness| witness.transform == number) {
            witness.took += begun.elapsed();
            witness.saw.extend(run.iter().zip(&outcomes).map(|((place, _), outcome)| (*place, outcome.clone())));
        }
        let mut partials = changes.iter().zip(run.iter()).map(|(change, (_, whole))| Partial::of(change, &whole.table));
        for ((place, change), outcome) in run.iter().zip(outcomes) {
            let partial = partials.next().flatten();
            let checked = outcome.map_err(|why| (Failed::Transform, why)).and_then(|commands| {
                let checked = lane.checker.check_all(commands, lane.transform.answer_bytes());
                let allowed = checked.and_then(|commands| match &partial {
                    Some(partial) => partial.check(&commands).map(|()| commands),
                    None => Ok(commands),
                });
                allowed.map_err(|why| (Failed::Check, why))
            });
            if let Some(partial) =
                partial.filter(|_| checked.as_ref().is_ok_and(|commands| commands.iter().any(Command::is_merge)))
            {
                made.partial.insert(Origin { offset: change.record.offset, transform: number }, partial);
            }
            match checked {
                Ok(commands) => made.commands.extend(commands.into_iter().map(|command| {
                    count(&mut made.summary.commands, command.kind());
                    Tagged { offset: change.record.offset, transform: number, command }
                })),
                Err((stage, why)) => {
                    if let Some(observed) = observed {
                        observed.faults.add(why.fault.label(), 1);
                    }
                    made.refused.push(Refused { place: *place, transform: Some(number), stage, sink: None, why });
                }
            }
        }
    }
    run.clear();
    Ok(())
}

/// Whether two changes may go to a transform in one call.
fn same_batch(one: &Change<'_>, other: &Change<'_>) -> bool {
    let same_schema = match (&one.columns, &other.columns) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    };
    same_schema && one.table == other.table
}

/// When the database made a change, as Debezium's `source` says, ms since 1970.
fn changed_at(source: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Source {
        ts_ms: Option<i64>,
    }
    serde_json::from_str::<Source>(source).ok()?.ts_ms.filter(|time| *time > 0)
}

fn kind(event: &Event<'_>) -> &'static str {
    match event {
        Event::Change(change) => match change.operation {
            Operation::Create => "create",
            Operation::Read => "read",
            Operation::Update => "update",
            Operation::Delete => "delete",
        },
        Event::Truncate => "truncate",
        Event::Control(Control::Tombstone) => "tombstone",
        Event::Control(Control::Heartbeat) => "heartbeat",
        Event::Control(Control::Transaction) => "transaction",
        Event::Control(Control::SchemaChange) => "schema-change",
        Event::Control(Control::Message) => "message",
    }
}
