//! What to do when a ledger, or a partition's row of it, is gone. The pipeline stops, since rows and documents may still be
//! there, and nothing says up to which event they are current. Only a cache is cleared and filled again.

use anyhow::anyhow;

use super::commit::CommitMetadata;
use super::write::{BoundSink, Stores};
use crate::command::Port;
use crate::config::OnLostCache;
use crate::sink::LedgerKey;
use crate::source::Assigned;

impl BoundSink {
    /// Why a pipeline stops whose sink has lost its ledger, or a part of it, and what to do.
    pub(super) fn is_lost(&self, what: &str) -> String {
        let sink = &self.name;
        if self.ports == [Port::Messages] {
            return format!(
                "the ledger of sink `{sink}` {what}: its topic was deleted or recreated, or `ledger_topic` names another. \
                 Name the topic that has it; or publish by `delivery = \"at-least-once\"` for one start, end that in good \
                 order, and change back: the ledger begins where the messages stood then"
            );
        }
        format!(
            "the ledger of sink `{sink}` {what}: the store was emptied, replaced, or restored from elsewhere. Restore it; or \
             begin anew with a pipeline of another name and a fresh target"
        )
    }
}

impl Stores {
    /// What a sink needs before its first claim: its tables and indexes are compared with the declaration, and its
    /// head is entered into the ledger. `committed` is what the group's commits say, read before this.
    ///
    /// # Errors
    /// When the sink is not as declared, or has lost its ledger.
    pub(super) async fn prepare(&self, bound: &BoundSink, committed: &[CommitMetadata]) -> anyhow::Result<()> {
        if bound.sink.ledger_outlives_the_process()
            && committed.iter().any(|commit| commit.sinks.contains_key(&bound.name))
            && !self.patiently(bound, || bound.sink.knows(&self.pipeline)).await?
        {
            self.begin_afresh(bound, "is gone").await?;
        }
        let declared = self.declared(bound);
        self.patiently(bound, || bound.sink.prepare(&self.pipeline, &declared)).await
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

    /// Whether a sink may be cleared and filled again: one that holds a cache and nothing else.
    pub(super) fn rebuilds(&self, bound: &BoundSink) -> bool {
        bound.is_cache() && self.policies.on_lost_cache == OnLostCache::Rebuild
    }

    /// Clears a cache whose ledger does not know the pipeline.
    pub(super) async fn begin_afresh_if_lost(&self, bound: &BoundSink, what: &str) -> anyhow::Result<()> {
        // Lanes that find it at once must not clear what one of them has filled already.
        let _one = self.beginning_afresh.lock().await;
        if !self.patiently(bound, || bound.sink.knows(&self.pipeline)).await? {
            self.begin_afresh(bound, what).await?;
        }
        Ok(())
    }

    /// Checks whether the ledger has lost the row of a partition that it had under this epoch. It must be done before a claim
    /// enters a new row, which would hide the loss. A cache is then cleared, unless this process or another has done that
    /// already: its epoch is another one then.
    ///
    /// # Errors
    /// When that stops the pipeline.
    pub(super) async fn miss_row(
        &self,
        bound: &BoundSink,
        assigned: &Assigned,
        key: &LedgerKey,
        epoch: u16,
    ) -> anyhow::Result<()> {
        let keys = std::slice::from_ref(key);
        let is_lost = async || {
            let positions = self.patiently(bound, || bound.sink.positions(keys)).await?;
            anyhow::Ok(positions.iter().all(Option::is_none))
        };
        if !is_lost().await? {
            return Ok(());
        }
        let what = format!("does not know {} any more", key.partition);
        if !self.rebuilds(bound) {
            return self.begin_afresh(bound, &what).await;
        }
        let _one = self.beginning_afresh.lock().await;
        // A source without topics, as files, has one process: there, the loss of the whole ledger is what clears a cache.
        if assigned.topic.is_some() && self.enter_topic(bound, assigned).await? == epoch && is_lost().await? {
            self.begin_afresh(bound, &what).await?;
        }
        Ok(())
    }

    /// Clears a cache that has lost its ledger; refuses for any other store.
    async fn begin_afresh(&self, bound: &BoundSink, what: &str) -> anyhow::Result<()> {
        let (pipeline, sink) = (&self.pipeline, &bound.name);
        if !self.rebuilds(bound) {
            return Err(anyhow!("pipeline `{pipeline}`: {}", bound.is_lost(what)));
        }
        tracing::warn!(pipeline, sink, "the ledger of the cache is gone: clearing it, and filling it from the start");
        let declared = self.declared(bound);
        self.patiently(bound, || bound.sink.clear_cache(pipeline, &declared.cache_keys)).await
    }
}
