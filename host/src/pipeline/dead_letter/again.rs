//! Dead letters handed to the pipelines again, and what became of each.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Filed, Wanted, read};
use crate::config::Config;
use crate::pipeline::Observed;
use crate::source::{Fate, Record};

/// What the records of one request may hold together.
const BYTES: usize = 64 << 20;

/// Which letters are to be replayed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// Of this pipeline alone.
    pub pipeline: Option<String>,
    /// Of this fault alone.
    pub fault: Option<String>,
    /// Of these records alone, as `orders-0@17`; empty for any.
    pub positions: Vec<String>,
    /// Pass over so many of what lies there: the `next` of the answer before.
    pub skip: u64,
}

/// What became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Each record once, in the order in which they were filed.
    pub records: Vec<Handled>,
    /// Where to go on; none where this was all.
    pub next: Option<u64>,
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handled {
    /// The pipeline.
    pub pipeline: String,
    /// Where the record stands, as `orders-0@17`.
    pub position: String,
    /// `applied`, `superseded`, `rejected`, `not-now`, or `elsewhere`: this process does not own its partition.
    pub outcome: String,
    /// Why, where it was not applied.
    pub reason: String,
}

/// Replays letters that lie where the configuration has them filed, up to this moment and a bounded number of them.
/// `go_on` is asked before each.
///
/// # Errors
/// When what is filed cannot be read, or `go_on` says no.
pub fn replay(
    config: &Config,
    observed: &Observed,
    request: &Request,
    until: Instant,
    limit: usize,
    mut go_on: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Report> {
    let wanted = Wanted { pipeline: request.pipeline.clone(), fault: request.fault.clone() };
    let mut report = Report::default();
    let mut records: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    let (mut seen, mut bytes, mut filed) = (HashSet::new(), 0, 0);
    read(config, |Filed { letter, .. }| {
        go_on()?;
        filed += 1;
        let Some(letter) = letter.filter(|_| filed > request.skip && report.next.is_none()) else { return Ok(()) };
        let position = letter.record.position();
        let named = request.positions.is_empty() || request.positions.contains(&position);
        // A record may be filed for each of several transforms, and again after a crash.
        let key = (letter.pipeline.clone(), position.clone());
        if !named || !wanted.is(&letter.pipeline, &letter.fault) || seen.contains(&key) {
            return Ok(());
        }
        if report.records.len() == limit || (bytes > 0 && bytes + letter.record.size() > BYTES) {
            report.next = Some(filed - 1);
            return Ok(());
        }
        seen.insert(key);
        bytes += letter.record.size();
        let omitted: Vec<_> = letter.omitted.iter().map(|(mark, _)| mark.as_str()).collect();
        let (outcome, reason) = match omitted.as_slice() {
            [] => ("elsewhere", "no lane of this process owns its partition, or it did not answer in time".to_owned()),
            _ => ("rejected", format!("the letter is not whole: {}", omitted.join(", "))),
        };
        if omitted.is_empty() {
            records.entry(letter.pipeline.clone()).or_default().push(letter.record);
        }
        report.records.push(Handled { pipeline: letter.pipeline, position, outcome: outcome.to_owned(), reason });
        Ok(())
    })?;
    for (name, records) in &records {
        let Some(pipeline) = observed.pipeline(name) else { continue };
        for replayed in pipeline.replay(records, until.saturating_duration_since(Instant::now())) {
            let position = format!("{}@{}", replayed.partition, replayed.offset);
            let (outcome, reason) = match replayed.fate {
                Fate::Applied => ("applied", String::new()),
                Fate::Superseded => ("superseded", "a later event of its key was handled, or it was replayed".into()),
                Fate::Rejected(reason) => ("rejected", reason),
                Fate::NotNow(reason) => ("not-now", reason),
            };
            let same = |handled: &&mut Handled| handled.pipeline == *name && handled.position == position;
            if let Some(handled) = report.records.iter_mut().find(same) {
                (handled.outcome, handled.reason) = (outcome.to_owned(), reason);
            }
        }
    }
    Ok(report)
}
