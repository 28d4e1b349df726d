//! The records of the ledger topic: what their keys name, and what their values hold. Both are JSON. A key has
//! one spelling only, since compaction compares its bytes.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::sink::{HistoryRow, LedgerKey, SinkError, Standing, Step, Token, TopicHead, Written};
use crate::source::{TopicFacts, TopicPartition};

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Key {
    /// The pipeline has started on the sink.
    Pipeline { pipeline: String, sink: String },
    /// A topic of the pipeline.
    Topic { pipeline: String, sink: String, topic: String },
    /// Where a partition stands.
    Row { pipeline: String, sink: String, topic: String, partition: u32 },
    /// From which offset on other modules made the messages.
    History { pipeline: String, sink: String, topic: String, partition: u32, offset: u64 },
}

impl Key {
    /// The key of a row.
    pub(super) fn row(sink: &str, key: &LedgerKey) -> Self {
        let LedgerKey { pipeline, partition: TopicPartition { topic, partition } } = key;
        let (pipeline, sink, topic) = (pipeline.clone(), sink.to_owned(), topic.to_string());
        Self::Row { pipeline, sink, topic, partition: *partition }
    }

    /// The key of an entry of the history.
    pub(super) fn history(sink: &str, key: &LedgerKey, offset: u64) -> Self {
        let LedgerKey { pipeline, partition: TopicPartition { topic, partition } } = key;
        let (pipeline, sink, topic) = (pipeline.clone(), sink.to_owned(), topic.to_string());
        Self::History { pipeline, sink, topic, partition: *partition, offset }
    }

    /// The `transactional.id` of the producers that write it: of these only the one that was opened last can. It begins with
    /// the ledger topic, since another one is another installation's.
    pub(super) fn transactional_id(&self, ledger_topic: &str) -> String {
        match self {
            Self::Pipeline { pipeline, sink } | Self::Topic { pipeline, sink, .. } => {
                format!("{ledger_topic}:{pipeline}:{sink}")
            }
            Self::Row { pipeline, sink, topic, partition } | Self::History { pipeline, sink, topic, partition, .. } => {
                format!("{ledger_topic}:{pipeline}:{sink}:{topic}:{partition}")
            }
        }
    }
}

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    token: String,
    /// The next offset that the sink wants.
    pub(super) next: u64,
    /// The digests of the modules that made the last messages; empty before the first.
    pub(super) digest: String,
    /// The note of the last write.
    pub(super) note: String,
    /// Rises by one with each write: that shows whether a write whose answer was lost has come through.
    pub(super) number: u64,
    /// When the digests changed last, ms since 1970.
    changed: i64,
}

impl Row {
    /// The row after a claim.
    pub(super) fn claimed(before: Option<&Self>, token: Token, start: u64) -> Self {
        let token = format!("{:032x}", token.0);
        match before {
            Some(row) => Self { token, number: row.number + 1, ..row.clone() },
            None => Self { token, next: start, digest: String::new(), note: String::new(), number: 0, changed: 0 },
        }
    }

    /// The row after a step, and the time of the history's entry where the digests change.
    pub(super) fn after(&self, step: &Step<'_>, now: i64) -> (Self, Option<i64>) {
        let changes = self.digest != step.digest;
        let changed = if changes { now.max(self.changed) } else { self.changed };
        let row = Self {
            token: self.token.clone(),
            next: step.to,
            digest: step.digest.to_owned(),
            note: step.note.to_owned(),
            number: self.number + 1,
            changed,
        };
        (row, changes.then_some(changed))
    }

    /// The owner's token. What cannot be read as one is nobody's.
    pub(super) fn token(&self) -> Token {
        Token(u128::from_str_radix(&self.token, 16).unwrap_or_default())
    }

    /// Whether it lets a step through.
    pub(super) fn admits(&self, step: &Step<'_>) -> bool {
        self.token() == step.token && self.next == step.from
    }

    /// What to answer where it does not.
    pub(super) fn refuses(&self, step: &Step<'_>) -> Written {
        step.refused(self.token(), self.next)
    }

    /// What a claim finds here.
    pub(super) fn standing(&self, known: bool) -> Standing {
        Standing { next: self.next, known, note: self.note.clone() }
    }
}

/// The value of [`Key::Topic`].
#[derive(Serialize, Deserialize)]
struct TopicValue {
    facts: TopicFacts,
    epoch: u16,
}

/// The value of [`Key::History`].
#[derive(Serialize, Deserialize)]
struct HistoryValue {
    digests: String,
    time: i64,
}

/// The value of an entry of the history.
pub(super) fn history_value(digests: &str, time: i64) -> String {
    json(&HistoryValue { digests: digests.to_owned(), time })
}

/// The value of a topic.
pub(super) fn topic_value(head: &TopicHead) -> String {
    json(&TopicValue { facts: head.facts.clone(), epoch: head.epoch })
}

/// The values here are texts and numbers only, which can always be written.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// What the ledger topic holds of one sink.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) pipelines: HashSet<String>,
    /// By pipeline and topic.
    pub(super) topics: HashMap<(String, String), TopicHead>,
    pub(super) rows: HashMap<LedgerKey, Row>,
    history: HashMap<LedgerKey, BTreeMap<u64, HistoryRow>>,
}

impl Ledger {
    /// Takes in a record. Those of other sinks and programs are skipped.
    pub(super) fn take(&mut self, sink: &str, key: &[u8], value: Option<&[u8]>) -> Result<(), SinkError> {
        let Ok(key) = serde_json::from_slice::<Key>(key) else { return Ok(()) };
        let of = match &key {
            Key::Pipeline { sink, .. } | Key::Topic { sink, .. } => sink,
            Key::Row { sink, .. } | Key::History { sink, .. } => sink,
        };
        if of != sink {
            return Ok(());
        }
        let place = |pipeline, topic: String, partition| {
            let partition = TopicPartition { topic: topic.into(), partition };
            LedgerKey { pipeline, partition }
        };
        let shown = json(&key);
        match (key, value) {
            (Key::Pipeline { pipeline, .. }, Some(_)) => drop(self.pipelines.insert(pipeline)),
            (Key::Pipeline { pipeline, .. }, None) => drop(self.pipelines.remove(&pipeline)),
            (Key::Topic { pipeline, topic, .. }, Some(value)) => {
                let TopicValue { facts, epoch } = read(&shown, value)?;
                self.topics.insert((pipeline, topic), TopicHead { facts, epoch });
            }
            (Key::Topic { pipeline, topic, .. }, None) => drop(self.topics.remove(&(pipeline, topic))),
            (Key::Row { pipeline, topic, partition, .. }, Some(value)) => {
                self.rows.insert(place(pipeline, topic, partition), read(&shown, value)?);
            }
            (Key::Row { pipeline, topic, partition, .. }, None) => {
                self.rows.remove(&place(pipeline, topic, partition));
            }
            (Key::History { pipeline, topic, partition, offset, .. }, Some(value)) => {
                let HistoryValue { digests, time } = read(&shown, value)?;
                let key = place(pipeline, topic, partition);
                let entry = HistoryRow::new(key.partition.clone(), offset, &digests, time);
                self.history.entry(key).or_default().insert(offset, entry);
            }
            (Key::History { pipeline, topic, partition, offset, .. }, None) => {
                if let Some(entries) = self.history.get_mut(&place(pipeline, topic, partition)) {
                    entries.remove(&offset);
                }
            }
        }
        Ok(())
    }

    /// The history of a pipeline.
    pub(super) fn history(&self, pipeline: &str) -> Vec<HistoryRow> {
        let of = self.history.iter().filter(|(key, _)| key.pipeline == pipeline);
        HistoryRow::ordered(of.flat_map(|(_, entries)| entries.values().cloned()).collect())
    }
}

fn read<'a, T: Deserialize<'a>>(key: &str, value: &'a [u8]) -> Result<T, SinkError> {
    serde_json::from_slice(value).map_err(|error| {
        SinkError::Stop(format!(
            "the ledger topic holds under {key} what is no entry of a ledger ({error}): it was tampered with; restore it"
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place() -> LedgerKey {
        LedgerKey { pipeline: "p".into(), partition: TopicPartition { topic: "t".into(), partition: 3 } }
    }

    #[test]
    fn keys_are_written_in_one_way() {
        let row = Key::row("s", &place());
        assert_eq!(json(&row), r#"{"kind":"row","pipeline":"p","sink":"s","topic":"t","partition":3}"#);
        assert_eq!(row.transactional_id("l"), "l:p:s:t:3");
        let entry = Key::history("s", &place(), 7);
        assert_eq!(
            json(&entry),
            r#"{"kind":"history","pipeline":"p","sink":"s","topic":"t","partition":3,"offset":7}"#
        );
        assert_eq!(entry.transactional_id("l"), row.transactional_id("l"));
        let head = Key::Topic { pipeline: "p".into(), sink: "s".into(), topic: "t".into() };
        assert_eq!(head.transactional_id("l"), "l:p:s");
    }

    #[test]
    fn ledger_takes_in_the_records_of_its_sink_alone() {
        let mut ledger = Ledger::default();
        let row = Row::claimed(None, Token(0xab), 5);
        let key = json(&Key::row("s", &place()));
        ledger.take("other", key.as_bytes(), Some(json(&row).as_bytes())).unwrap();
        ledger.take("s", b"\xff", Some(b"of another program")).unwrap();
        assert!(ledger.rows.is_empty());
        ledger.take("s", key.as_bytes(), Some(json(&row).as_bytes())).unwrap();
        assert_eq!(ledger.rows[&place()], row);
        assert_eq!(row.token(), Token(0xab));
        ledger.take("s", key.as_bytes(), None).unwrap();
        assert!(ledger.rows.is_empty());
        assert!(matches!(ledger.take("s", key.as_bytes(), Some(b"{}")), Err(SinkError::Stop(_))));
    }
}
