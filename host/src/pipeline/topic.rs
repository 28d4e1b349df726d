//! Compares a topic, and the start and end of its log, with what the sinks have of it. Offsets are valid as long as the topic
//! is the same and still has what the sinks lack: a topic that has grown, was recreated or has lost records stops the
//! pipeline.

use anyhow::{Context, anyhow};

use super::write::{BoundSink, Stores};
use crate::command::Port;
use crate::config::OnLost;
use crate::sink::TopicHead;
use crate::source::{Assigned, TopicFacts};

/// A sink is further than the end of the log, or was filled from another topic of this name. The source was asked before the
/// ledger was read, so this may only mean that records were written in between, by this process or by an earlier owner, or
/// that the broker that answered had not heard of the topic yet.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct AnotherLog(String);

impl BoundSink {
    /// What the operator can do when the sink is further than a topic that was recreated.
    pub(super) fn remedy(&self) -> &'static str {
        if self.sink.keeps_ledger() && self.ports == [Port::Messages] {
            "A pipeline of another name publishes everything that is there"
        } else if self.sink.keeps_ledger() {
            "`tidegate rewind` fills the sink anew from what is there"
        } else {
            "When the stores of the pipeline are in line, delete the group's commits of the topic \
             (`kafka-consumer-groups --delete-offsets`): then everything that is there is published"
        }
    }
}

impl Stores {
    /// Compares the topic with what the sink's ledger knows of it, and answers its epoch. The epoch of a cache begins with a
    /// random number, so that other processes see by a new one that the cache was cleared.
    pub(super) async fn enter_topic(&self, bound: &BoundSink, assigned: &Assigned) -> anyhow::Result<u16> {
        let Some(facts) = &assigned.topic else { return Ok(0) };
        let topic = &assigned.partition.topic;
        // One lane at a time, so that only the first logs a change.
        let _one = self.entering_topics.lock().await;
        let enter = async |head: TopicHead, replace: bool| {
            self.patiently(bound, || bound.sink.enter_topic(&self.pipeline, topic, &head, replace)).await
        };
        let first = if bound.is_cache() { any_epoch()? } else { 0 };
        let held = enter(TopicHead { facts: facts.clone(), epoch: first }, false).await?;
        if facts.is_another(&held.facts) {
            return Err(self.made_anew(bound, topic));
        }
        let changed = if held.facts.partitions != facts.partitions {
            has_grown(facts, &held.facts)
        } else if held.facts.id.is_none() && facts.id.is_some() {
            // Entered by a version, or by way of a broker, that did not tell.
            return Ok(enter(TopicHead { facts: facts.clone(), epoch: held.epoch }, true).await?.epoch);
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

    /// Compares the topic with what was noted of it together with the position of a sink that keeps no ledger. That the topic
    /// has grown is for the pipeline's ledgers to say, where it has any.
    pub(super) fn compare_topic(
        &self,
        bound: &BoundSink,
        assigned: &Assigned,
        noted: Option<&TopicFacts>,
    ) -> anyhow::Result<()> {
        let (Some(facts), Some(noted)) = (&assigned.topic, noted) else { return Ok(()) };
        let topic = &assigned.partition.topic;
        if facts.is_another(noted) {
            return Err(self.made_anew(bound, topic));
        }
        if facts.partitions == noted.partitions || self.fencing().is_some() {
            return Ok(());
        }
        let (pipeline, sink, changed) = (&self.pipeline, &bound.name, has_grown(facts, noted));
        if self.policies.on_changed_topic == OnLost::Stop {
            return Err(anyhow!(
                "pipeline `{pipeline}`: the topic {topic} {changed}, so that sink `{sink}` may get an older message of a key \
                 behind a newer one. If every record of before was handled when it changed, start once with \
                 `on_changed_topic = \"continue\"`"
            ));
        }
        let partition = &assigned.partition;
        tracing::warn!(pipeline, sink, %partition, changed, "going on with a changed topic");
        Ok(())
    }

    /// Offsets that a sink has of one topic say nothing of another of its name.
    pub(super) fn made_anew(&self, bound: &BoundSink, topic: &str) -> anyhow::Error {
        let (pipeline, sink) = (&self.pipeline, &bound.name);
        AnotherLog(format!(
            "pipeline `{pipeline}`: the topic {topic} was made anew since sink `{sink}` was filled from it: its offsets begin \
             again. {}",
            bound.remedy()
        ))
        .into()
    }

    /// Compares the next offset of a sink with the start and end of the log.
    pub(super) fn compare(&self, bound: &BoundSink, assigned: &Assigned, next: u64) -> anyhow::Result<()> {
        let Assigned { partition, log_start, log_end, .. } = assigned;
        let (pipeline, sink) = (&self.pipeline, &bound.name);
        if let Some(log_end) = log_end.filter(|end| next > *end) {
            let problem = format!(
                "pipeline `{pipeline}`: {partition} ends at offset {log_end}, but sink `{sink}` has come to {next} \
                 already: the topic was made anew, or the cluster has lost records. {}",
                bound.remedy()
            );
            return Err(AnotherLog(problem).into());
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

fn has_grown(facts: &TopicFacts, before: &TopicFacts) -> String {
    format!("has {} partitions, and had {}: its keys lie elsewhere now", facts.partitions, before.partitions)
}

/// A random number from 1 to 32,767: as many changes of the topic may still follow.
fn any_epoch() -> anyhow::Result<u16> {
    let number = getrandom::u32().context("the system gives no random numbers, which a claim needs")?;
    Ok(u16::try_from(number % 0x7fff).unwrap_or_default() + 1)
}
