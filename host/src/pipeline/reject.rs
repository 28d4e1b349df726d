//! Files what is rejected as dead letters, unless it is too much.

use std::collections::HashSet;

use anyhow::anyhow;

use super::dead_letter::{DeadLetter, Stage};
use super::letters::{Letters, Refusers};
use super::progress::{Counts, count};
use super::write::{BoundSink, Prepared, Refused, Stores};
use crate::command::collapse::{Origin, Verdict};
use crate::contract::{Fault, Rejection};

impl Stores {
    /// Files records as dead letters, those that are not filed yet; they are durable when this returns. `places` are all
    /// that are rejected of the batch so far: when they are too many, nothing is filed. What is filed already counts
    /// there too, for a sink that was added is not to be filled past everything that it refuses.
    pub(super) async fn file(
        &self,
        batch: &Prepared,
        (letters, refusers): (&mut Letters, &Refusers),
        refused: &[&Refused],
        places: &HashSet<usize>,
        rejected: &mut Counts,
    ) -> anyhow::Result<()> {
        let records = &batch.records;
        let Some(first) = refused.first() else { return Ok(()) };
        if let Some(too_much) = self.breaker.trips(records.len(), places) {
            return Err(anyhow!(
                "pipeline `{}`: {too_much}, which is no matter of single records. At {}: {}: {}. Is `format` right, does \
                 the module fit these events? Mend it and start again: nothing of this batch was filed or written. Or \
                 raise [pipelines.breaker]",
                self.pipeline,
                records[first.place].position(),
                first.why.fault.label(),
                first.why.reason
            ));
        }
        let is_new = |refused: &&&Refused| {
            records.get(refused.place).is_some_and(|record| !letters.have(refused, record.offset, refusers))
        };
        let refused: Vec<&Refused> = refused.iter().filter(is_new).copied().collect();
        if refused.is_empty() {
            return Ok(());
        }
        let new: Vec<DeadLetter<'_>> = refused
            .iter()
            .map(|refused| {
                count(rejected, refused.why.fault.label());
                let (transform, digest) = refused
                    .transform
                    .and_then(|transform| batch.serving.transforms().get(transform))
                    .map_or(("", ""), |(name, digest)| (name.as_str(), digest.as_str()));
                DeadLetter {
                    record: &records[refused.place],
                    pipeline: &self.pipeline,
                    transform,
                    digest,
                    fault: refused.why.fault,
                    stage: refused.stage,
                    sink: refused.sink.and_then(|sink| self.sinks.get(sink)).map_or("", |bound| bound.name.as_str()),
                    reason: &refused.why.reason,
                }
            })
            .collect();
        self.retry("cannot file dead letters", || self.dead_letters.file(&new)).await?;
        refused.iter().for_each(|refused| letters.add(refused, records[refused.place].offset));
        for letter in &new {
            tracing::warn!(
                pipeline = self.pipeline,
                position = letter.record.position(),
                transform = letter.transform,
                digest = letter.digest,
                fault = letter.fault.label(),
                reason = letter.reason,
                "dead letter"
            );
        }
        Ok(())
    }
}

/// The records that a sink refuses, with the answers that it refuses.
pub(super) fn refused_by(
    place: usize,
    bound: &BoundSink,
    batch: &Prepared,
    verdict: Verdict,
) -> Vec<(Origin, Refused)> {
    let refused = |(origin, reason): (Origin, String)| {
        let at = batch.records.binary_search_by_key(&origin.offset, |record| record.offset).ok()?;
        let partial = batch.partial.get(&origin).map(ToString::to_string).unwrap_or_default();
        let why = Rejection::new(Fault::Store, format!("sink `{}`: {reason}{partial}", bound.name));
        let transform = Some(origin.transform);
        Some((origin, Refused { place: at, transform, stage: Stage::Write, sink: Some(place), why }))
    };
    verdict.rejected.into_iter().filter_map(refused).collect()
}
