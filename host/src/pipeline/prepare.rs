//! The first half of a lane: records in, checked commands out.
//!
//! Records are understood one by one; changes of one table under one schema that follow each other go to each
//! transform in one call. What is refused on the way keeps its place and its reason.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use serde::Deserialize;

use super::dead_letter::Stage as Failed;
use super::observe::ObservedPipeline;
use super::progress::{PipelineSummary, count};
use super::serving::{Serving, Slot};
use super::write::{Prepared, Refused};
use crate::command::check::Checker;
use crate::command::collapse::Tagged;
use crate::config::OnTruncate;
use crate::contract::Operation;
use crate::engine::{Batch, Transform};
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

/// The first half of a lane.
pub(super) struct Stage {
    pipeline: String,
    observed: Arc<ObservedPipeline>,
    decoder: Decoder,
    slot: Arc<Slot>,
    serving: Arc<Serving>,
    transforms: Vec<LaneTransform>,
    on_truncate: OnTruncate,
}

impl Stage {
    /// The first half of a lane of this pipeline, which begins with these instances of what serves.
    pub(super) fn new(
        observed: Arc<ObservedPipeline>,
        decoder: Decoder,
        slot: Arc<Slot>,
        transforms: Vec<LaneTransform>,
        on_truncate: OnTruncate,
    ) -> Self {
        let serving = slot.serving();
        Self { pipeline: observed.name.clone(), observed, decoder, slot, serving, transforms, on_truncate }
    }

    /// Turns records of one partition into commands, all by the set of modules that is the newest now.
    ///
    /// # Errors
    /// When a transform cannot be run any more. A bad record is no error: it is among the refused.
    pub(super) fn prepare(&mut self, records: Vec<Record>) -> anyhow::Result<Prepared> {
        if let Some((serving, transforms)) = self.slot.newer_than(&self.serving) {
            (self.serving, self.transforms) = (serving, transforms);
        }
        let mut made = Made::default();
        let mut to = records.last().map_or(0, |record| record.offset + 1);
        let mut stop = None;
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
                        self.apply(&mut run, &mut made)?;
                    }
                    source = change.source;
                    run.push((place, change));
                }
                Event::Truncate if self.on_truncate == OnTruncate::Stop => {
                    to = record.offset;
                    stop = Some(anyhow!(
                        "pipeline `{}`: {} truncates its table, which has no order against the changes of rows. Bring \
                         the stores in line, then go on past it with `on_truncate = \"ignore\"`",
                        self.pipeline,
                        record.position()
                    ));
                    break;
                }
                Event::Truncate | Event::Control(_) => {}
            }
            count(&mut made.summary.events, kind);
        }
        self.apply(&mut run, &mut made)?;
        drop(run);
        let happened = source.and_then(changed_at).or_else(|| records.last().and_then(|record| record.timestamp));
        if self.transforms.len() > 1 {
            made.commands.sort_by_key(|tagged| tagged.offset);
        }
        let Made { commands, refused, summary } = made;
        Ok(Prepared { records, to, serving: self.serving.clone(), commands, refused, summary, happened, stop })
    }

    /// Has every transform handle the changes.
    fn apply(&mut self, run: &mut Vec<(usize, Change<'_>)>, made: &mut Made) -> anyhow::Result<()> {
        let Some((_, first)) = run.first() else { return Ok(()) };
        for (number, lane) in self.transforms.iter_mut().enumerate() {
            let changes: Vec<_> = run.iter().map(|(_, change)| change.project(&mut lane.projection)).collect();
            let batch = Batch {
                topic: &first.record.partition.topic,
                partition: first.record.partition.partition,
                table: &first.table,
                columns: first.columns.as_deref().map(Vec::as_slice),
            };
            let (observed, begun) = (self.observed.transforms.get(number), Instant::now());
            let outcomes = lane.transform.apply(batch, &changes).with_context(|| {
                format!(
                    "pipeline `{}`: transform `{}` (sha256:{}) cannot serve {}",
                    self.pipeline,
                    lane.name,
                    lane.transform.module().digest(),
                    first.record.position()
                )
            })?;
            if let Some(observed) = observed {
                observed.applied(begun.elapsed(), lane.transform.memory());
            }
            for ((place, change), outcome) in run.iter().zip(outcomes) {
                let checked = outcome.map_err(|why| (Failed::Transform, why)).and_then(|commands| {
                    let checked: Result<Vec<_>, _> =
                        commands.into_iter().map(|command| lane.checker.check(command)).collect();
                    checked.map_err(|why| (Failed::Check, why))
                });
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
}

#[derive(Default)]
struct Made {
    commands: Vec<Tagged>,
    refused: Vec<Refused>,
    summary: PipelineSummary,
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
