//! Taking a partition over in every sink, and what to do when a ledger is not as it was left.
//!
//! - Every start is explicit: a partition that no ledger knows begins at the start of the log, another one where the
//!   sink that is furthest behind stands.
//! - A ledger that is gone stops the pipeline, for the rows and documents may still be there and nobody knows of when.
//!   A cache alone is cleared and filled again.
//! - Offsets mean something as long as the topic is the same: one that has grown or was made anew stops the pipeline.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::commit::{Claims, CommitMetadata};
use super::memo::{LastRecord, Memo};
use super::write::{BoundSink, Stores};
use crate::command::Port;
use crate::config::{OnLost, OnLostCache};
use crate::sink::{LedgerKey, Token, TopicHead};
use crate::source::{Assigned, Claim, TopicPartition};

/// How long a look at a ledger may take that nobody waits for.
const LOOK: Duration = Duration::from_millis(500);

/// Where a lane stands in a partition.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// The row of the ledgers.
    pub(super) key: LedgerKey,
    /// The token of the claim.
    pub(super) token: Token,
    /// The next offset that each sink wants, in the order of the sinks.
    pub(super) next: Vec<u64>,
    /// The epoch of the topic in each sink.
    pub(super) epochs: Vec<u16>,
    /// What each sink's ledger keeps beside its offset.
    pub(super) memos: Vec<Memo>,
    /// The last record that this process has had written.
    pub(super) last: Option<LastRecord>,
    /// Everything below that had to be filed as a dead letter is filed.
    pub(super) letters: u64,
    /// The claims in a row that came to nothing.
    pub(super) claims: Claims,
}

/// A ledger that stands beyond the end of the log. The end was asked before the ledger was read, so that this may mean
/// no more than that records were written in between: by this process, or by an owner before it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BeyondTheEnd(String);

impl Standing {
    /// The lowest offset that a sink wants.
    pub(super) fn lowest(&self) -> u64 {
        self.next.iter().copied().min().unwrap_or_default()
    }

    /// The records that the sinks took last, by the sinks' places, where the source still has them.
    pub(super) fn seen_last(&self, assigned: &Assigned) -> Vec<(usize, LastRecord)> {
        let there = |last: &LastRecord| {
            last.offset >= assigned.log_start && assigned.log_end.is_none_or(|end| last.offset < end)
        };
        let memos = self.memos.iter().enumerate();
        memos.filter_map(|(place, memo)| Some((place, memo.last.filter(there)?))).collect()
    }
}

impl Stores {
    /// What a sink needs before its first claim: its tables and indexes held against the declaration, its head in the
    /// ledger. `committed` is what the group's commits say, read before this.
    ///
    /// # Errors
    /// When the sink is not as declared, or has lost its ledger.
    pub(super) async fn prepare(&self, bound: &BoundSink, committed: &[CommitMetadata]) -> anyhow::Result<()> {
        if bound.sink.keeps_ledger()
            && committed.iter().any(|commit| commit.sinks.contains(&bound.name))
            && !self.patiently(bound, || bound.sink.knows(&self.pipeline)).await?
        {
            self.begin_afresh(bound, "is gone").await?;
        }
        let declared = self.declared(bound);
        self.patiently(bound, || bound.sink.prepare(&self.pipeline, &declared)).await
    }

    /// A number that no claim had before.
    pub(super) fn next_claim(&self) -> Claim {
        Claim(self.claims.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Takes a partition over in every sink, under one new token. `before` is where this process stood in it, if it
    /// did.
    ///
    /// # Errors
    /// When the pipeline has to stop: records are lost, a topic is another one, a store says so. [`BeyondTheEnd`] where
    /// the source has to be asked once more first.
    pub(super) async fn claim(&self, assigned: &Assigned, before: Option<&Standing>) -> anyhow::Result<Standing> {
        let key = LedgerKey { pipeline: self.pipeline.clone(), partition: assigned.partition.clone() };
        let committed = assigned.committed.as_ref();
        let committed = committed.map(|commit| CommitMetadata::read(&commit.metadata)).unwrap_or_default();
        let mut standing = Standing {
            key,
            token: token()?,
            next: Vec::new(),
            epochs: Vec::new(),
            memos: Vec::new(),
            last: None,
            letters: committed.dead_letters.max(before.map_or(0, |before| before.letters)),
            claims: Claims::default(),
        };
        for (place, bound) in self.sinks.iter().enumerate() {
            let (mut next, mut epoch, mut memo) = (assigned.log_start, 0, Memo::default());
            if bound.sink.keeps_ledger() {
                if self.rebuilds(bound) {
                    self.begin_afresh_if_lost(bound, "is gone").await?;
                }
                self.enter_topic(bound, assigned).await?;
                let claim = || bound.sink.claim(&standing.key, standing.token, assigned.log_start);
                let found = self.patiently(bound, claim).await?;
                // Where the target was replaced while the claim waited, the epoch is another one.
                epoch = self.enter_topic(bound, assigned).await?;
                if found.known {
                    self.compare(bound, assigned, found.next)?;
                }
                (next, memo) = (found.next, Memo::read(&found.note, epoch));
            } else if let Some(position) = committed.positions.get(&bound.name) {
                next = *position;
            }
            if let Some(before) = before.filter(|_| !bound.sink.keeps_ledger()) {
                next = next.max(before.next[place]);
            }
            standing.next.push(next);
            standing.epochs.push(epoch);
            standing.memos.push(memo);
        }
        // A process that claims again is alive, whatever its claim has come to.
        let claims = before.map_or(committed.claims, |before| before.claims);
        standing.claims = claims.found_at(standing.lowest());
        Ok(standing)
    }

    /// Holds the topic against what the sink's ledger knows of it, and answers its epoch.
    async fn enter_topic(&self, bound: &BoundSink, assigned: &Assigned) -> anyhow::Result<u16> {
        let Some(facts) = &assigned.topic else { return Ok(0) };
        let topic = &assigned.partition.topic;
        // So that the lanes find a change one after another, and the first alone tells it.
        let _one = self.entering_topics.lock().await;
        let enter = async |head: TopicHead, replace: bool| {
            self.patiently(bound, || bound.sink.enter_topic(&self.pipeline, topic, &head, replace)).await
        };
        let held = enter(TopicHead { facts: facts.clone(), epoch: 0 }, false).await?;
        let another = held.facts.id.is_some() && facts.id.is_some() && held.facts.id != facts.id;
        let changed = if held.facts.partitions != facts.partitions {
            format!(
                "has {} partitions, and had {}: its keys lie elsewhere now",
                facts.partitions, held.facts.partitions
            )
        } else if another {
            "was made anew: its offsets begin again".to_owned()
        } else {
            return Ok(held.epoch);
        };
        if self.policies.on_changed_topic == OnLost::Stop {
            return Err(anyhow!(
                "pipeline `{}`: the topic {topic} {changed}, so that sink `{}` cannot tell older from newer. If every \
                 record of before was handled when it changed, start once with `on_changed_topic = \"continue\"`; else \
                 `tidegate rewind` fills the sink anew",
                self.pipeline,
                bound.name
            ));
        }
        tracing::warn!(pipeline = self.pipeline, sink = bound.name, %topic, changed, "going on with a changed topic");
        let epoch = held.epoch.checked_add(1).context("a topic cannot change more than 65,535 times")?;
        Ok(enter(TopicHead { facts: facts.clone(), epoch }, true).await?.epoch)
    }

    /// Holds where a ledger stands against what the source has.
    fn compare(&self, bound: &BoundSink, assigned: &Assigned, next: u64) -> anyhow::Result<()> {
        let Assigned { partition, log_start, log_end, .. } = assigned;
        let (pipeline, sink) = (&self.pipeline, &bound.name);
        if let Some(log_end) = log_end.filter(|end| next > *end) {
            let problem = format!(
                "pipeline `{pipeline}`: {partition} ends at offset {log_end}, but sink `{sink}` has come to {next} \
                 already: the topic was made anew, or the cluster has lost records. `tidegate rewind` fills the sink anew \
                 from what is there"
            );
            return Err(BeyondTheEnd(problem).into());
        }
        if next >= *log_start {
            return Ok(());
        }
        let lost = log_start - next;
        if self.policies.on_lost_records == OnLost::Continue {
            tracing::warn!(pipeline, sink, %partition, lost, "going on without records that the source has lost");
            return Ok(());
        }
        Err(anyhow!(
            "pipeline `{pipeline}`: {partition} begins at offset {log_start}, but sink `{sink}` has come to {next} \
             only: {lost} offsets are gone from the source. Bring the missing records back, give the sink a fresh \
             target, or start once with `on_lost_records = \"continue\"`"
        ))
    }

    /// A ledger does not know a partition any more. Answers why to claim it again.
    ///
    /// # Errors
    /// When that stops the pipeline.
    pub(super) async fn ledger_missing(&self, bound: &BoundSink, key: &LedgerKey) -> anyhow::Result<String> {
        let what = format!("does not know {} any more", key.partition);
        if self.rebuilds(bound) {
            self.begin_afresh_if_lost(bound, &what).await?;
        } else {
            self.begin_afresh(bound, &what).await?;
        }
        Ok(format!("the ledger of sink `{}` does not know it any more", bound.name))
    }

    /// Those of these partitions that a sink has elsewhere than they were left, and why to claim them again: the store
    /// was emptied, or set back. Where nothing comes to be written, nobody else would find out. A sink that does not
    /// answer at once is asked another time.
    ///
    /// # Errors
    /// When that stops the pipeline.
    pub(super) async fn moved(&self, left: &[&Standing]) -> anyhow::Result<BTreeMap<TopicPartition, String>> {
        let keys: Vec<LedgerKey> = left.iter().map(|standing| standing.key.clone()).collect();
        let mut moved = BTreeMap::new();
        for (place, bound) in self.sinks.iter().enumerate().filter(|(_, bound)| bound.sink.keeps_ledger()) {
            let look = tokio::time::timeout(LOOK, bound.sink.positions(&keys)).await;
            let Ok(Ok(positions)) = look else { continue };
            for (standing, position) in left.iter().zip(positions) {
                let why = match position {
                    Some((token, next)) if token == standing.token && next == standing.next[place] => continue,
                    Some((token, next)) if token == standing.token => bound.stands_at(next, standing.next[place]),
                    Some(_) => bound.is_fenced(),
                    None => self.ledger_missing(bound, &standing.key).await?,
                };
                moved.entry(standing.key.partition.clone()).or_insert(why);
            }
        }
        Ok(moved)
    }

    /// Whether a sink may be cleared and filled again: one that holds a cache and nothing else.
    fn rebuilds(&self, bound: &BoundSink) -> bool {
        bound.ports == [Port::Cache] && self.policies.on_lost_cache == OnLostCache::Rebuild
    }

    /// Clears a cache whose ledger does not know the pipeline.
    async fn begin_afresh_if_lost(&self, bound: &BoundSink, what: &str) -> anyhow::Result<()> {
        // Lanes that find it at once must not clear what one of them has filled already.
        let _one = self.beginning_afresh.lock().await;
        if !self.patiently(bound, || bound.sink.knows(&self.pipeline)).await? {
            self.begin_afresh(bound, what).await?;
        }
        Ok(())
    }

    /// Clears a cache that has lost its ledger; refuses for any other store.
    async fn begin_afresh(&self, bound: &BoundSink, what: &str) -> anyhow::Result<()> {
        let (pipeline, sink) = (&self.pipeline, &bound.name);
        if !self.rebuilds(bound) {
            return Err(anyhow!(
                "pipeline `{pipeline}`: the ledger of sink `{sink}` {what}: the store was emptied, replaced, or restored \
                 from elsewhere. Restore it; or begin anew with a pipeline of another name and a fresh target"
            ));
        }
        tracing::warn!(pipeline, sink, "the ledger of the cache is gone: clearing it, and filling it from the start");
        let declared = self.declared(bound);
        self.patiently(bound, || bound.sink.clear_cache(pipeline, &declared.cache_keys)).await
    }

    /// What goes with the next commit of a partition.
    pub(super) fn commit_metadata(&self, standing: &Standing) -> String {
        let stands = standing.claims.at == Some(standing.lowest());
        let claims = if stands && standing.claims.count > 0 { standing.claims } else { Claims::default() };
        let mut metadata = CommitMetadata { dead_letters: standing.letters, claims, ..CommitMetadata::default() };
        for (bound, next) in self.sinks.iter().zip(&standing.next) {
            if bound.sink.keeps_ledger() {
                metadata.sinks.insert(bound.name.clone());
            } else {
                metadata.positions.insert(bound.name.clone(), *next);
            }
        }
        metadata.write()
    }
}

fn token() -> anyhow::Result<Token> {
    let half = || getrandom::u64().context("the system gives no random numbers, which a claim needs");
    Ok(Token(u128::from(half()?) << 64 | u128::from(half()?)))
}
