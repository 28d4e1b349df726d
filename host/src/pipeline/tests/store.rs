//! A store in memory that keeps the contract of a sink, and fails as it is told.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;

use crate::command::Command;
use crate::inspection::Inspection;
use crate::sink::model::Model;
use crate::sink::{
    BadWrite, Declared, HistoryRow, LedgerKey, Sink, SinkError, Standing, Step, Token, TopicHead, Write, Written,
};
use crate::source::{TopicFacts, TopicPartition};

/// What goes wrong with one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// The store is away.
    Away,
    /// The write is applied, and its answer lost.
    AnswerLost,
    /// The store comes back as it was before its last writes, as after a failover.
    SetBack(usize),
    /// Another claim has taken the partition, and is gone again.
    Taken,
    /// The row of the ledger is deleted.
    Emptied,
    /// Another partition has what the first command needs.
    Clash,
    /// The process dies before the write.
    CrashBefore,
    /// The process dies after it.
    CrashAfter,
}

/// The store.
#[derive(Default)]
pub(super) struct Store {
    state: Mutex<State>,
    /// Where the dead letters are filed, to see which were there when a write became durable.
    letters: Option<PathBuf>,
    /// Whether it keeps no ledger.
    silent: bool,
    /// Whether it does not say where its ledger stands.
    mute: bool,
    /// What happens while a write is under way.
    during: Option<During>,
    /// Which commands clash at the moment.
    clashing: Option<Clashing>,
}

type Clashing = Box<dyn Fn(&Command) -> bool + Send + Sync>;

type During = Box<dyn Fn() + Send + Sync>;

/// Whether the ledger has its head.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    #[default]
    There,
    Lost,
}

/// The ledger.
type Rows = HashMap<LedgerKey, (Token, u64, String)>;

#[derive(Default, Clone)]
struct State {
    model: Model,
    rows: Rows,
    topics: HashMap<String, TopicHead>,
    head: Head,
    /// How often it was cleared.
    cleared: usize,
    faults: VecDeque<Fault>,
    /// The partitions that the pipeline has let go of.
    released: Vec<TopicPartition>,
    /// What was durable before each write, the oldest first.
    history: Vec<(Model, Rows)>,
    /// For each durable write where the ledger came to, the offsets of its events, and the dead letters at that time.
    writes: Vec<Seen>,
}

/// A write that became durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) to: u64,
    pub(super) offsets: Vec<u64>,
    pub(super) letters: Vec<u64>,
    pub(super) after: Model,
}

impl Store {
    pub(super) fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        let store = Self::default();
        store.state().faults.extend(faults);
        store
    }

    pub(super) fn watching(letters: PathBuf) -> Self {
        Self { letters: Some(letters), ..Self::default() }
    }

    /// A store without a ledger.
    pub(super) fn silent() -> Self {
        Self { silent: true, ..Self::default() }
    }

    /// A store without a ledger, which fails so, and in which this happens while each write is under way.
    pub(super) fn silent_during(
        faults: impl IntoIterator<Item = Fault>,
        during: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self { silent: true, during: Some(Box::new(during)), ..Self::new(faults) }
    }

    /// A store that does not say where its ledger stands.
    pub(super) fn mute() -> Self {
        Self { mute: true, ..Self::default() }
    }

    /// A store in which this happens while each write is under way.
    pub(super) fn during(during: impl Fn() + Send + Sync + 'static) -> Self {
        Self { during: Some(Box::new(during)), ..Self::default() }
    }

    /// A store with which these commands clash.
    pub(super) fn clashing(clashing: impl Fn(&Command) -> bool + Send + Sync + 'static) -> Self {
        Self { clashing: Some(Box::new(clashing)), ..Self::default() }
    }

    /// The same store, with this while each write is under way.
    pub(super) fn with_during(self, during: impl Fn() + Send + Sync + 'static) -> Self {
        Self { during: Some(Box::new(during)), ..self }
    }

    pub(super) fn released(&self) -> Vec<TopicPartition> {
        self.state().released.clone()
    }

    pub(super) fn model(&self) -> Model {
        self.state().model.clone()
    }

    /// How many messages it has taken.
    pub(super) fn published(&self) -> usize {
        self.state().model.messages.len()
    }

    pub(super) fn writes(&self) -> Vec<Seen> {
        self.state().writes.clone()
    }

    /// Where the ledger stands in a partition of the topic `t`.
    pub(super) fn next(&self, partition: u32) -> Option<u64> {
        self.state().rows.iter().find(|(key, _)| key.partition.partition == partition).map(|(_, row)| row.1)
    }

    /// What the ledger keeps beside its offset in a partition of the topic `t`.
    pub(super) fn note(&self, partition: u32) -> String {
        let state = self.state();
        let row = state.rows.iter().find(|(key, _)| key.partition.partition == partition);
        row.map(|(_, row)| row.2.clone()).unwrap_or_default()
    }

    /// How often it was cleared as a cache.
    pub(super) fn cleared(&self) -> usize {
        self.state().cleared
    }

    /// The ledger's head is gone, as everything else.
    pub(super) fn lose_everything(&self) {
        let mut state = self.state();
        (state.model, state.rows, state.head) = (Model::default(), Rows::new(), Head::Lost);
        state.topics.clear();
    }

    /// The row of a partition is gone from the ledger, and nothing else.
    pub(super) fn lose_row(&self, partition: u32) {
        self.state().rows.retain(|key, _| key.partition.partition != partition);
    }

    /// Another claim takes a partition.
    pub(super) fn taken(&self, partition: u32) {
        let mut state = self.state();
        let rows = state.rows.iter_mut().filter(|(key, _)| key.partition.partition == partition);
        rows.for_each(|(_, row)| row.0 = Token(row.0.0.wrapping_add(1)));
    }

    /// Comes back without its last writes, so many.
    pub(super) fn set_back(&self, writes: usize) {
        let mut state = self.state();
        let kept = state.history.len() - writes;
        state.history.truncate(kept + 1);
        (state.model, state.rows) = state.history.pop().unwrap();
    }

    /// The ledger has this of a topic.
    pub(super) fn put_topic(&self, topic: &str, facts: TopicFacts, epoch: u16) {
        self.state().topics.insert(topic.to_owned(), TopicHead { facts, epoch });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn write(&mut self, step: &Step<'_>, writes: &[Write<'_>], letters: Vec<u64>) -> Written {
        match self.rows.get(step.key) {
            None => return Written::LedgerMissing,
            Some((token, next, _)) if *token == step.token && *next == step.from => {}
            Some((token, next, _)) => return step.refused(*token, *next),
        }
        self.history.push((self.model.clone(), self.rows.clone()));
        let written = self.model.write(writes);
        if written == Written::Applied {
            self.rows.insert(step.key.clone(), (step.token, step.to, step.note.to_owned()));
            let offsets = writes.iter().flat_map(|write| &write.origins).map(|origin| origin.offset).collect();
            self.writes.push(Seen { to: step.to, offsets, letters, after: self.model.clone() });
        }
        written
    }
}

#[async_trait]
impl Sink for Store {
    fn keeps_ledger(&self) -> bool {
        !self.silent
    }

    async fn knows(&self, _pipeline: &str) -> Result<bool, SinkError> {
        Ok(self.state().head != Head::Lost)
    }

    async fn enter_topic(
        &self,
        _pipeline: &str,
        topic: &str,
        head: &TopicHead,
        replace: bool,
    ) -> Result<TopicHead, SinkError> {
        let mut state = self.state();
        let held = state.topics.entry(topic.to_owned()).or_insert_with(|| head.clone());
        if replace {
            held.clone_from(head);
        }
        Ok(held.clone())
    }

    async fn history(&self, _pipeline: &str) -> Result<Vec<HistoryRow>, SinkError> {
        Ok(Vec::new())
    }

    async fn clear_cache(&self, _pipeline: &str, _keys: &[String]) -> Result<(), SinkError> {
        let mut state = self.state();
        state.model.cache.clear();
        state.rows.clear();
        state.topics.clear();
        (state.head, state.cleared) = (Head::There, state.cleared + 1);
        Ok(())
    }

    async fn inspect(&self, _pipeline: &str, _declared: &Declared) -> Result<Inspection, SinkError> {
        Ok(Inspection::default())
    }

    async fn prepare(&self, _pipeline: &str, _declared: &Declared) -> Result<(), SinkError> {
        Ok(())
    }

    async fn claim(&self, key: &LedgerKey, token: Token, start: u64) -> Result<Standing, SinkError> {
        let mut state = self.state();
        let known = state.rows.contains_key(key);
        let row = state.rows.entry(key.clone()).or_insert((token, start, String::new()));
        row.0 = token;
        Ok(Standing { next: row.1, known, note: row.2.clone() })
    }

    fn release(&self, key: &LedgerKey) {
        self.state().released.push(key.partition.clone());
    }

    async fn positions(&self, keys: &[LedgerKey]) -> Result<Vec<Option<(Token, u64)>>, SinkError> {
        if self.mute {
            return Err(SinkError::Retry("away".into()));
        }
        let state = self.state();
        Ok(keys.iter().map(|key| state.rows.get(key).map(|(token, next, _)| (*token, *next))).collect())
    }

    async fn write(&self, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, SinkError> {
        step.check()?;
        if let Some(during) = &self.during {
            during();
        }
        let letters = self.letters.as_deref().map(letters).unwrap_or_default();
        let mut state = self.state();
        let fault = state.faults.pop_front().unwrap_or(Fault::None);
        if self.silent && fault != Fault::Away {
            let too_large = |write: &Write<'_>| matches!(&*write.command, Command::Publish { value: Some(value), .. } if value == b"too large");
            if let Some(index) = writes.iter().position(too_large) {
                return Ok(Written::Rejected(vec![BadWrite {
                    index,
                    clash: false,
                    by_trigger: false,
                    reason: "it is too large".into(),
                }]));
            }
            return Ok(state.model.write(writes));
        }
        if let Some(clashing) = &self.clashing {
            let bad: Vec<_> = writes
                .iter()
                .enumerate()
                .filter(|(_, write)| clashing(&write.command))
                .map(|(index, _)| BadWrite { index, clash: true, by_trigger: false, reason: "taken".into() })
                .collect();
            if !bad.is_empty() {
                return Ok(Written::Clashes(bad));
            }
        }
        match fault {
            Fault::Away => return Err(SinkError::Retry("away".into())),
            Fault::CrashBefore => return Err(SinkError::Stop("crashed".into())),
            Fault::SetBack(writes) => {
                let kept = state.history.len().saturating_sub(writes);
                state.history.truncate(kept + 1);
                if let Some((model, mut rows)) = state.history.pop() {
                    // The claims of the stream's beginning are durable: the rows never vanish.
                    rows.entry(step.key.clone()).or_insert((step.token, 0, String::new())).0 = step.token;
                    (state.model, state.rows) = (model, rows);
                }
            }
            Fault::Taken => {
                if let Some(row) = state.rows.get_mut(step.key) {
                    row.0 = Token(row.0.0.wrapping_add(1));
                }
            }
            Fault::Emptied => {
                state.rows.remove(step.key);
            }
            Fault::Clash => {
                return Ok(Written::Clashes(vec![BadWrite {
                    index: 0,
                    clash: true,
                    by_trigger: false,
                    reason: "taken".into(),
                }]));
            }
            Fault::None | Fault::AnswerLost | Fault::CrashAfter => {}
        }
        let written = state.write(step, writes, letters);
        match (fault, &written) {
            (Fault::AnswerLost, Written::Applied) => Err(SinkError::Retry("no answer".into())),
            (Fault::CrashAfter, Written::Applied) => Err(SinkError::Stop("crashed".into())),
            _ => Ok(written),
        }
    }
}

/// The offsets of the dead letters in a file.
pub(super) fn letters(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let offset = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["offset"].as_u64().unwrap();
    text.lines().map(offset).collect()
}
