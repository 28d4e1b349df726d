//! A topic, and how far its log reaches, held against what the sinks have of it. Offsets mean something as long as the topic
//! is the same and has what the sinks lack: one that has grown, was made anew or has lost records stops the pipeline.

use anyhow::{Context, anyhow};

use super::write::{BoundSink, Stores};
use crate::config::OnLost;
use crate::sink::TopicHead;
use crate::source::Assigned;

/// A sink that stands beyond the end of the log. The end was asked before the ledger was read, so that this may mean
/// no more than that records were written in between: by this process, or by an owner before it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BeyondTheEnd(String);

impl BoundSink {
    /// How the operator goes on where the sink has come further than a topic that was made anew.
    pub(super) fn remedy(&self) -> &'static str {
        if self.sink.keeps_ledger() {
            "`tidegate rewind` fills the sink anew from what is there"
        } else {
            "When the stores of the pipeline are in line, delete the group's commits of the topic \
             (`kafka-consumer-groups --delete-offsets`): then everything that is there is published"
        }
    }
}

impl Stores {
    /// Holds the topic against what the sink's ledger knows of it, and answers its epoch. That of a cache begins with any
    /// number, so that one that was cleared is known by another.
    pub(super) async fn enter_topic(&self, bound: &BoundSink, assigned: &Assigned) -> anyhow::Result<u16> {
        let Some(facts) = &assigned.topic else { return Ok(0) };
        let topic = &assigned.partition.topic;
        // So that the lanes find a change one after another, and the first alone tells it.
        let _one = self.entering_topics.lock().await;
        let enter = async |head: TopicHead, replace: bool| {
            self.patiently(bound, || bound.sink.enter_topic(&self.pipeline, topic, &head, replace)).await
        };
        let first = if bound.is_cache() { any_epoch()? } else { 0 };
        let held = enter(TopicHead { facts: facts.clone(), epoch: first }, false).await?;
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

    /// Holds where a sink stands against what the source has.
    pub(super) fn compare(&self, bound: &BoundSink, assigned: &Assigned, next: u64) -> anyhow::Result<()> {
        let Assigned { partition, log_start, log_end, .. } = assigned;
        let (pipeline, sink) = (&self.pipeline, &bound.name);
        if let Some(log_end) = log_end.filter(|end| next > *end) {
            let problem = format!(
                "pipeline `{pipeline}`: {partition} ends at offset {log_end}, but sink `{sink}` has come to {next} \
                 already: the topic was made anew, or the cluster has lost records. {}",
                bound.remedy()
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
        let fresh = if bound.sink.keeps_ledger() { ", give the sink a fresh target" } else { "" };
        Err(anyhow!(
            "pipeline `{pipeline}`: {partition} begins at offset {log_start}, but sink `{sink}` has come to {next} \
             only: {lost} offsets are gone from the source. Bring the missing records back{fresh}, or start once with \
             `on_lost_records = \"continue\"`"
        ))
    }
}

/// Any of some thousand numbers, from which a topic may still change as often.
fn any_epoch() -> anyhow::Result<u16> {
    let number = getrandom::u32().context("the system gives no random numbers, which a claim needs")?;
    Ok(u16::try_from(number % 0x7fff).unwrap_or_default() + 1)
}
