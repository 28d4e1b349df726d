//! A sink that counts commands and forgets them, to measure everything else. Its ledger is real, and lasts as long as
//! the process.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Declared, HistoryRow, LedgerKey, Sink, SinkError, Standing, Step, Token, TopicHead, Write, Written, now};
use crate::command::Command;
use crate::inspection::Inspection;

/// The sink.
#[derive(Debug, Default)]
pub struct Null {
    ledger: Mutex<Ledger>,
    executed: [AtomicU64; Command::KINDS.len()],
}

#[derive(Debug, Default)]
struct Ledger {
    heads: HashSet<String>,
    /// By pipeline and topic.
    topics: HashMap<(String, String), TopicHead>,
    rows: HashMap<LedgerKey, Row>,
    history: HashMap<LedgerKey, BTreeMap<u64, HistoryRow>>,
}

#[derive(Debug)]
struct Row {
    token: Token,
    next: u64,
    digest: String,
    note: String,
}

impl Null {
    /// A sink that has executed nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many commands of each kind were executed; folded ones count as one.
    pub fn executed(&self) -> Vec<(&'static str, u64)> {
        let counts = self.executed.iter().map(|count| count.load(Ordering::Relaxed));
        Command::KINDS.into_iter().zip(counts).collect()
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        // Nothing is left half-done under this lock.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn advance(&mut self, step: &Step<'_>) -> Written {
        let row = match self.rows.get_mut(step.key) {
            None => return Written::LedgerMissing,
            Some(row) if row.token == step.token && row.next == step.from => row,
            Some(row) => return step.refused(row.token, row.next),
        };
        row.next = step.to;
        step.note.clone_into(&mut row.note);
        if row.digest != step.digest {
            step.digest.clone_into(&mut row.digest);
            let entry = HistoryRow::new(step.key.partition.clone(), step.from, step.digest, now());
            self.history.entry(step.key.clone()).or_default().insert(step.from, entry);
        }
        Written::Applied
    }
}

#[async_trait]
impl Sink for Null {
    fn ledger_outlives_the_process(&self) -> bool {
        false
    }

    async fn knows(&self, pipeline: &str) -> Result<bool, SinkError> {
        Ok(self.ledger().heads.contains(pipeline))
    }

    async fn prepare(&self, pipeline: &str, _declared: &Declared) -> Result<(), SinkError> {
        self.ledger().heads.insert(pipeline.to_owned());
        Ok(())
    }

    async fn enter_topic(
        &self,
        pipeline: &str,
        topic: &str,
        head: &TopicHead,
        replace: bool,
    ) -> Result<TopicHead, SinkError> {
        let mut ledger = self.ledger();
        let held = ledger.topics.entry((pipeline.to_owned(), topic.to_owned())).or_insert_with(|| head.clone());
        if replace {
            held.clone_from(head);
        }
        Ok(held.clone())
    }

    async fn claim(&self, key: &LedgerKey, token: Token, start: u64) -> Result<Standing, SinkError> {
        let mut ledger = self.ledger();
        if !ledger.heads.contains(&key.pipeline) {
            return Err(SinkError::Stop(format!("pipeline {} was not prepared", key.pipeline)));
        }
        if let Some(row) = ledger.rows.get_mut(key) {
            row.token = token;
            return Ok(Standing { next: row.next, known: true, note: row.note.clone() });
        }
        ledger.rows.insert(key.clone(), Row { token, next: start, digest: String::new(), note: String::new() });
        Ok(Standing { next: start, known: false, note: String::new() })
    }

    async fn positions(&self, keys: &[LedgerKey]) -> Result<Vec<Option<(Token, u64)>>, SinkError> {
        let ledger = self.ledger();
        Ok(keys.iter().map(|key| ledger.rows.get(key).map(|row| (row.token, row.next))).collect())
    }

    async fn write(&self, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, SinkError> {
        step.check()?;
        match self.ledger().advance(step) {
            Written::Applied => {}
            refused => return Ok(refused),
        }
        let mut counts = [0; Command::KINDS.len()];
        for write in writes {
            counts[write.command.kind_index()] += 1;
        }
        for (total, count) in self.executed.iter().zip(counts).filter(|(_, count)| *count > 0) {
            total.fetch_add(count, Ordering::Relaxed);
        }
        Ok(Written::Applied)
    }

    async fn history(&self, pipeline: &str) -> Result<Vec<HistoryRow>, SinkError> {
        let ledger = self.ledger();
        let of = ledger.history.iter().filter(|(key, _)| key.pipeline == pipeline);
        Ok(HistoryRow::ordered(of.flat_map(|(_, rows)| rows.values().cloned()).collect()))
    }

    async fn clear_cache(&self, pipeline: &str, _keys: &[String]) -> Result<(), SinkError> {
        let mut ledger = self.ledger();
        ledger.rows.retain(|key, _| key.pipeline != pipeline);
        ledger.topics.retain(|(of, _), _| of != pipeline);
        ledger.heads.insert(pipeline.to_owned());
        Ok(())
    }

    async fn inspect(&self, _pipeline: &str, _declared: &Declared) -> Result<Inspection, SinkError> {
        Ok(Inspection::default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::borrow::Cow;

    use super::*;
    use crate::command::collapse::Origin;
    use crate::source::TopicPartition;

    #[tokio::test]
    async fn it_counts_what_it_executed_by_kind() {
        let sink = Null::new();
        let key = LedgerKey { pipeline: "p".into(), partition: TopicPartition { topic: "t".into(), partition: 0 } };
        sink.prepare("p", &Declared::default()).await.unwrap();
        sink.claim(&key, Token(1), 0).await.unwrap();
        let writes: Vec<_> = (0..3)
            .map(|i| Write {
                command: Cow::Owned(Command::CacheDelete { key: "k".into() }),
                origins: vec![Origin { offset: i, transform: 0 }],
            })
            .collect();
        let step = Step { key: &key, token: Token(1), from: 0, to: 3, epoch: 0, digest: "", note: "" };
        assert_eq!(sink.write(&step, &writes).await.unwrap(), Written::Applied);
        assert_eq!(sink.write(&step, &writes).await.unwrap(), Written::AlreadyApplied);
        let executed: Vec<_> = sink.executed().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(executed, [("cache-delete", 3)]);
    }
}
