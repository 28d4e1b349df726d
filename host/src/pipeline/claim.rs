//! Taking a partition over in every sink.
//!
//! Every start is explicit: a partition that no sink knows begins at the start of the log, any other where the sink that
//! is furthest behind wants to go on. A sink without a ledger goes on where the group's commit says, or the ledgers of the
//! other sinks, whichever is further: a commit lags behind what is published, expires, and may be another group's. The same
//! holds for a sink that had no ledger before (its `delivery` was changed), until its ledger knows the partition.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use anyhow::Context;

use super::clash::Clashes;
use super::commit::{Claims, CommitMetadata, shortened};
use super::letters::Letters;
use super::memo::{LastRecord, Memo};
use super::open_marks::OpenMarks;
use super::write::{BoundSink, Stores};
use crate::command::Port;
use crate::sink::{LedgerKey, Token};
use crate::source::{Assigned, Claim, Lease, TopicFacts};

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
    /// The dead letters that are filed.
    pub(super) letters: Letters,
    /// What clashes with other partitions.
    pub(super) clashes: Clashes,
    /// The claims in a row that came to nothing.
    pub(super) claims: Claims,
    /// As long as it holds, the partition is this process's.
    pub(super) lease: Lease,
    /// What is known of its topic; none where nobody knows.
    pub(super) topic: Option<TopicFacts>,
    /// The sinks, by their places, whose last record nobody has seen again yet: where they stand may be about another log,
    /// and is written down nowhere else.
    pub(super) unverified: Vec<usize>,
}

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
    /// A number that no claim had before.
    pub(super) fn next_claim(&self) -> Claim {
        Claim(self.claims.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Takes a partition over in every sink, under one new token. `before` is where this process stood in it, if it
    /// did.
    ///
    /// # Errors
    /// When the pipeline has to stop: records are lost, a topic is another one, a store says so.
    /// [`super::topic::AnotherLog`] where the source has to be asked once more first.
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
            letters: Letters::default(),
            clashes: before.map(|before| before.clashes.clone()).unwrap_or_default(),
            claims: Claims::default(),
            lease: assigned.lease.clone(),
            topic: assigned.topic.clone(),
            unverified: Vec::new(),
        };
        let log_before = self.log_of(before, &committed);
        for (place, bound) in self.sinks.iter().enumerate() {
            let (mut next, mut epoch, mut memo) = (assigned.log_start, 0, Memo::default());
            let mut meanwhile = None;
            if bound.sink.keeps_ledger() {
                let epoch_before = before.map(|before| before.epochs[place]);
                let known_by = epoch_before.or_else(|| committed.sinks.get(&bound.name).copied());
                let before = WithoutLedger::take(&bound.name, &mut standing, &committed);
                if committed.positions.contains_key(&bound.name) {
                    self.compare_topic(bound, assigned, committed.topic.as_ref())?;
                }
                let is_fresh;
                (next, epoch, memo, is_fresh) =
                    self.claim_ledger(bound, assigned, &standing, known_by, before.next).await?;
                meanwhile = Some(before).filter(|before| before.next.is_some_and(|at| at > next || is_fresh));
            }
            standing.next.push(next);
            standing.epochs.push(epoch);
            standing.memos.push(memo);
            if let Some(meanwhile) = meanwhile {
                self.move_on(&mut standing, place, meanwhile).await?;
            }
        }
        for (place, bound) in self.sinks.iter().enumerate().filter(|(_, bound)| !bound.sink.keeps_ledger()) {
            let committed_at = committed.positions.get(&bound.name);
            let noted = standing.memos.iter().filter_map(|memo| memo.positions.get(&bound.name));
            let before_at = before.map(|before| &before.next[place]);
            let known = noted.chain(committed_at).chain(before_at).copied().max();
            // What a sink that kept a ledger until now has published.
            let kept = committed.kept.get(&bound.name).copied();
            let Some(next) = known.or(kept) else { continue };
            if before_at.or(committed_at).or(kept.as_ref()).is_some() {
                self.compare_topic(bound, assigned, log_before.topic.as_ref())?;
            }
            self.compare(bound, assigned, next)?;
            standing.next[place] = next;
            let committed_last = committed.last.get(&bound.name).copied();
            standing.memos[place].last = before.and_then(|before| before.memos[place].last).or(committed_last);
        }
        self.keep_own(&mut standing);
        let knows_none = committed.sinks.is_empty() && committed.positions.is_empty();
        if before.is_none() && knows_none && standing.memos.iter().any(|memo| memo.last.is_some()) {
            let (pipeline, partition, offset) = (&self.pipeline, &assigned.partition, standing.lowest());
            tracing::info!(
                pipeline,
                %partition,
                offset,
                "no position in the group's commits, continuing from the ledgers"
            );
        }
        let mut letters = before.map_or_else(|| Letters::from(committed.filed), |before| before.letters.clone());
        if !self.is_same_log(&log_before, assigned, &standing, letters.below()) {
            (letters, standing.clashes) = (Letters::default(), Clashes::default());
        }
        standing.letters = letters.begin(standing.lowest(), &self.refusers(&self.slot.serving()));
        // A process that claims again is alive, whatever its claim has come to.
        let claims = before.map_or(committed.claims, |before| before.claims);
        // At the end of the log is no record that could have ended the processes before.
        let is_at_end = assigned.log_end.is_some_and(|end| end <= standing.lowest());
        standing.claims = if is_at_end { Claims::default() } else { claims.found_at(standing.lowest()) };
        Ok(standing)
    }

    /// Takes the partition over in one sink. Answers the next offset that it wants, the topic's epoch there, the ledger's
    /// metadata, and whether the ledger has none yet. `known_by` is the epoch under which the ledger knew the partition
    /// before, if it did, and `published` how far the sink came without a ledger.
    async fn claim_ledger(
        &self,
        bound: &BoundSink,
        assigned: &Assigned,
        standing: &Standing,
        known_by: Option<u16>,
        published: Option<u64>,
    ) -> anyhow::Result<(u64, u16, Memo, bool)> {
        if self.rebuilds(bound) {
            self.begin_afresh_if_lost(bound, "is gone").await?;
        }
        if let Some(epoch) = known_by {
            self.miss_row(bound, assigned, &standing.key, epoch).await?;
        }
        self.enter_topic(bound, assigned).await?;
        let start = published.unwrap_or(assigned.log_start);
        let claim = || bound.sink.claim(&standing.key, standing.token, start);
        let found = self.patiently(bound, claim).await?;
        // Where the target was replaced while the claim waited, the epoch is another one.
        let epoch = self.enter_topic(bound, assigned).await?;
        if found.known || published.is_some() {
            self.compare(bound, assigned, found.next.max(published.unwrap_or_default()))?;
        }
        Ok((found.next, epoch, Memo::read(&found.note, epoch), found.note.is_empty()))
    }

    /// Moves the ledger of a sink that has kept none until now, or for a while, to where the sink came meanwhile, and has it
    /// note what was noted elsewhere.
    async fn move_on(&self, standing: &mut Standing, place: usize, meanwhile: WithoutLedger) -> anyhow::Result<()> {
        let WithoutLedger { next: Some(at), last, open } = meanwhile else { return Ok(()) };
        let to = standing.next[place].max(at);
        // What was open before is not known to be so still.
        let mut memo = standing.memos[place].clone();
        (memo.last, memo.open) = (last, open);
        // Where another claim is behind this one, its first write finds that.
        self.move_ledger(standing, place, to, memo, &self.slot.serving()).await?;
        Ok(())
    }

    /// The next offset of each sink without a ledger, to be kept in the ledger of the sink at this place. What is not
    /// verified stays as it is there.
    pub(super) fn positions_noted(&self, standing: &Standing, keeper: usize) -> BTreeMap<String, u64> {
        let noted = &standing.memos[keeper].positions;
        let mut positions = self.positions(standing);
        for place in &standing.unverified {
            let name = &self.sinks[*place].name;
            match noted.get(name) {
                Some(before) => positions.get_mut(name).map(|next| *next = *before),
                None => positions.remove(name).map(drop),
            };
        }
        positions
    }

    /// The next offset of each sink without a ledger.
    pub(super) fn positions(&self, standing: &Standing) -> BTreeMap<String, u64> {
        let sinks = self.sinks.iter().zip(&standing.next).filter(|(bound, _)| !bound.sink.keeps_ledger());
        sinks.map(|(bound, next)| (bound.name.clone(), *next)).collect()
    }

    /// What goes with the next commit of a partition.
    pub(super) fn commit_metadata(&self, standing: &Standing) -> String {
        let stands = standing.claims.at == Some(standing.lowest());
        let claims = if stands && standing.claims.count > 0 { standing.claims } else { Claims::default() };
        let (filed, positions) = (standing.letters.stretches().clone(), self.positions(standing));
        let modules = shortened(self.slot.serving().digests());
        let topic = standing.topic.clone();
        let mut metadata = CommitMetadata { filed, positions, claims, modules, topic, ..CommitMetadata::default() };
        for (place, bound) in self.sinks.iter().enumerate() {
            if bound.sink.ledger_outlives_the_process() {
                metadata.sinks.insert(bound.name.clone(), standing.epochs[place]);
                if bound.ports == [Port::Messages] {
                    metadata.kept.insert(bound.name.clone(), standing.next[place]);
                }
            } else if let Some(last) = standing.memos[place].last.filter(|_| !bound.sink.keeps_ledger()) {
                metadata.last.insert(bound.name.clone(), last);
            }
        }
        metadata.write()
    }
}

/// What is known of a sink that keeps a ledger now and kept none before, so that it does not publish everything again.
#[derive(Default)]
struct WithoutLedger {
    next: Option<u64>,
    last: Option<LastRecord>,
    open: OpenMarks,
}

impl WithoutLedger {
    /// Takes what the commit and the other ledgers hold of it. Its marks move into its own ledger.
    fn take(sink: &str, standing: &mut Standing, committed: &CommitMetadata) -> Self {
        let noted = standing.memos.iter().filter_map(|memo| memo.positions.get(sink));
        let next = noted.chain(committed.positions.get(sink)).copied().max();
        let marks = standing.memos.iter_mut().filter_map(|memo| memo.open_elsewhere.remove(sink));
        Self { next, last: committed.last.get(sink).copied(), open: marks.last().unwrap_or_default() }
    }
}

fn token() -> anyhow::Result<Token> {
    let half = || getrandom::u64().context("the system gives no random numbers, which a claim needs");
    Ok(Token(u128::from(half()?) << 64 | u128::from(half()?)))
}
