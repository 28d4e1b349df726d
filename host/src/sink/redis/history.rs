//! Which modules made what is held of a partition: a list of its changes, the oldest first, that an operator can read.

use std::collections::BTreeMap;

use ::redis::Pipeline;
use serde::Deserialize;
use serde_json::json;

use super::connection::Connection;
use super::ledger::{self, Names};
use crate::sink::{HistoryRow, SinkError, Step};
use crate::source::TopicPartition;

/// The most rows of a partition that are kept; older ones go.
const ROWS: isize = 1000;

/// One entry of a list.
#[derive(Deserialize)]
struct Entry {
    offset: u64,
    digests: String,
    /// Milliseconds since 1970.
    time: i64,
}

/// Enters that the ledger moves under other digests than before. The partitions that have a list are named in a set,
/// since looking for the keys by pattern goes over all entries of the cache.
pub(super) fn add(change: &mut Pipeline, names: &Names, step: &Step<'_>, now: i64) {
    let partition = &step.key.partition;
    let all = names.histories(&step.key.pipeline);
    let list = key(&all, &partition.topic, partition.partition);
    let entry = json!({"offset": step.from, "digests": step.digest, "time": now});
    change.cmd("RPUSH").arg(&list).arg(entry.to_string());
    change.cmd("LTRIM").arg(&list).arg(-ROWS).arg(-1);
    change.cmd("SADD").arg(&all).arg(member(&partition.topic, partition.partition));
}

/// All of a pipeline's rows.
pub(super) async fn read(
    connection: &mut Connection,
    names: &Names,
    pipeline: &str,
) -> Result<Vec<HistoryRow>, SinkError> {
    let all = names.histories(pipeline);
    let mut commands = Pipeline::new();
    commands.cmd("SMEMBERS").arg(&all);
    let answer = connection.demand(&commands).await?.pop().unwrap_or_default();
    let members: Vec<String> = ledger::fields(&answer, &all)?;
    let mut rows = Vec::new();
    // One list a request: all together may be more than is to be held at once.
    for member in members {
        let (topic, number) = member.rsplit_once(':').ok_or_else(|| ledger::broken(&all))?;
        let number: u32 = number.parse().map_err(|_| ledger::broken(&all))?;
        let list = key(&all, topic, number);
        let mut commands = Pipeline::new();
        commands.cmd("LRANGE").arg(&list).arg(0).arg(-1);
        let answer = connection.demand(&commands).await?.pop().unwrap_or_default();
        let entries: Vec<String> = ledger::fields(&answer, &list)?;
        rows.extend(rows_of(entries, &TopicPartition { topic: topic.into(), partition: number }, &list)?);
        rows = HistoryRow::ordered(rows);
    }
    Ok(rows)
}

/// The rows of a list, without those that a later one of the same offset replaces.
fn rows_of(entries: Vec<String>, partition: &TopicPartition, list: &str) -> Result<Vec<HistoryRow>, SinkError> {
    let mut rows = BTreeMap::new();
    let mut latest = 0;
    for entry in entries {
        let Entry { offset, digests, time } = serde_json::from_str(&entry).map_err(|_| ledger::broken(list))?;
        // The hosts' clocks may differ; the list's order does not.
        latest = time.max(latest);
        rows.insert(offset, HistoryRow::new(partition.clone(), offset, &digests, latest));
    }
    Ok(rows.into_values().collect())
}

/// The lists of a pipeline's partitions, by the partition's name in their set.
pub(super) async fn lists(
    connection: &mut Connection,
    names: &Names,
    pipeline: &str,
) -> Result<Vec<(String, Vec<String>)>, SinkError> {
    let all = names.histories(pipeline);
    let mut commands = Pipeline::new();
    commands.cmd("SMEMBERS").arg(&all);
    let members: Vec<String> = ledger::fields(&connection.demand(&commands).await?.pop().unwrap_or_default(), &all)?;
    let mut lists = Vec::new();
    for member in members {
        let list = format!("{all}:{member}");
        let mut commands = Pipeline::new();
        commands.cmd("LRANGE").arg(&list).arg(0).arg(-1);
        let entries = ledger::fields(&connection.demand(&commands).await?.pop().unwrap_or_default(), &list)?;
        lists.push((member, entries));
    }
    Ok(lists)
}

fn key(all: &str, topic: &str, partition: u32) -> String {
    format!("{all}:{}", member(topic, partition))
}

fn member(topic: &str, partition: u32) -> String {
    format!("{topic}:{partition}")
}
