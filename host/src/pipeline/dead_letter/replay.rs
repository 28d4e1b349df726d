//! Hands dead letters to the lanes that own their partitions, to be processed again, and reports what became of each.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Filed, Letter, Wanted, read};
use crate::config::Config;
use crate::pipeline::Observed;
use crate::source::Fate;

/// How long to wait for a lane at the least, even if reading the letters has used up the time.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which letters are to be replayed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// Of this pipeline alone.
    pub pipeline: Option<String>,
    /// Of this fault alone.
    pub fault: Option<String>,
    /// Of these records alone, as `orders-0@17` or, with the record's checksum, `orders-0@17:9f3a01bc`; empty for any.
    pub positions: Vec<String>,
    /// Where to go on: the `next` of the answer before.
    pub from: BTreeMap<u32, u64>,
}

/// What became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Each record once, in the order in which they were filed.
    pub records: Vec<Handled>,
    /// Where to go on, by the partition of the topic in which they are filed; a file has one. None where this was all.
    pub next: Option<BTreeMap<u32, u64>>,
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handled {
    /// The pipeline.
    pub pipeline: String,
    /// Where the record stands, as `orders-0@17`.
    pub position: String,
    /// The record's checksum, which tells it from another one that has stood there.
    pub checksum: String,
    /// `applied`, `superseded`, `rejected`, `not-now`, or `elsewhere`: this process does not own its partition.
    pub outcome: String,
    /// Why, where it was not applied.
    pub reason: String,
}

/// Replays letters that lie where the configuration has them filed, one after the other, up to this moment and a bounded
/// number of them, at least one. `go_on` is asked before each.
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
    let mut seen = HashSet::new();
    let mut next = request.from.clone();
    let mut has_come_further = false;
    read(config, &request.from, |Filed { next: (partition, after), letter, .. }| {
        go_on()?;
        if report.records.len() == limit || (has_come_further && Instant::now() >= until) {
            report.next = Some(next.clone());
            return Ok(ControlFlow::Break(()));
        }
        next.insert(partition, after);
        has_come_further = true;
        let Some(letter) = letter else { return Ok(ControlFlow::Continue(())) };
        let named = request.positions.is_empty() || request.positions.iter().any(|position| letter.is_at(position));
        // A record may be filed for each of several transforms, and again after a crash.
        if named
            && wanted.is(&letter.pipeline, &letter.fault)
            && seen.insert((letter.pipeline.clone(), letter.record.position(), letter.checksum))
        {
            let patience = until.saturating_duration_since(Instant::now()).max(PATIENCE);
            report.records.push(replay_one(observed, letter, patience));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(report)
}

fn replay_one(observed: &Observed, letter: Letter, patience: Duration) -> Handled {
    let (position, checksum) = (letter.record.position(), letter.shown_checksum());
    let omitted: Vec<_> = letter.omitted.iter().map(|(mark, _)| mark.as_str()).collect();
    let fate = match omitted.as_slice() {
        [] => observed.pipeline(&letter.pipeline).and_then(|pipeline| pipeline.replay(letter.record, patience)),
        _ => Some(Fate::Rejected(format!("the letter is not whole: {}", omitted.join(", ")))),
    };
    let (outcome, reason) = match fate {
        Some(Fate::Applied) => ("applied", String::new()),
        Some(Fate::Superseded) => ("superseded", SUPERSEDED.to_owned()),
        Some(Fate::Rejected(reason)) => ("rejected", reason),
        Some(Fate::NotNow(reason)) => ("not-now", reason),
        None => ("elsewhere", "no lane of this process owns its partition".to_owned()),
    };
    Handled { pipeline: letter.pipeline, position, checksum, outcome: outcome.to_owned(), reason }
}

/// Why nothing was done. The ledger does not remember which columns the later event has written.
const SUPERSEDED: &str = "a later event of its key was written, or this record was replayed before; columns that it \
                          alone changed keep their values";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::contract::Fault;
    use crate::pipeline::dead_letter::{DeadLetter, DeadLetterFile, Stage};
    use crate::source::{Claim, Record, TopicPartition};

    const CONFIG: &str = "[source.file]\npaths = [\"e.jsonl\"]\n[dead_letters.file]\npath = \"d.jsonl\"\n\
        [sinks.s.null]\n[[pipelines]]\nname = \"p\"\ntopics = [\"t\"]\nsinks = { cache = \"s\" }\n\
        [[pipelines.transforms]]\nname = \"first\"\nmodule = \"m.wasm\"\n";

    fn file(path: &std::path::Path, offset: u64, value: &str) {
        let record = Record {
            partition: TopicPartition { topic: "t".into(), partition: 0 },
            offset,
            timestamp: Some(5),
            headers: vec![],
            key: None,
            value: Some(value.into()),
            claim: Claim(0),
        };
        let letter = DeadLetter {
            record: &record,
            pipeline: "p",
            transform: "first",
            digest: "",
            fault: Fault::Refused,
            stage: Stage::Transform,
            sink: "",
            reason: "",
        };
        DeadLetterFile::open(path, 1000).unwrap().file(&[letter]).unwrap();
    }

    #[test]
    fn letters_replayed_in_parts_are_each_record_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidegate.toml");
        std::fs::write(&path, CONFIG).unwrap();
        for name in ["m.wasm", "e.jsonl"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        for number in 0..7 {
            file(&folder.path().join("d.jsonl"), number / 2, if number % 2 == 0 { "old" } else { "new" });
        }
        let config = Config::load(&path).unwrap();
        let observed = Observed::new(&config);
        let all = |positions: &[String]| {
            let mut request = Request { positions: positions.to_vec(), ..Request::default() };
            let (mut records, mut parts) = (Vec::new(), 0);
            loop {
                let report = replay(&config, &observed, &request, Instant::now() + PATIENCE, 3, || Ok(())).unwrap();
                parts += 1;
                records.extend(report.records);
                match report.next {
                    Some(next) => request.from = next,
                    None => return (records, parts),
                }
            }
        };
        let (records, parts) = all(&[]);
        let positions: Vec<_> = records.iter().map(|record| record.position.as_str()).collect();
        assert_eq!(
            (positions.as_slice(), parts),
            (&["t-0@0", "t-0@0", "t-0@1", "t-0@1", "t-0@2", "t-0@2", "t-0@3"][..], 3)
        );
        assert!(records.iter().all(|record| record.outcome == "elsewhere"), "{records:?}");
        // Where two have stood, the checksum names one.
        let named = format!("t-0@1:{}", records[3].checksum);
        assert_eq!(all(&["t-0@1".into()]).0, records[2..4]);
        assert_eq!(all(&[named]).0, records[3..4]);
        // At least one a part, however late it is.
        let late = replay(&config, &observed, &Request::default(), Instant::now(), 3, || Ok(())).unwrap();
        assert_eq!((late.records.len(), late.next), (1, Some([(0, 1)].into())));
    }
}
