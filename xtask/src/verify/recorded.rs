//! The recorded events, read anew for the check: it shares no code with the host that it checks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::json::{self, Json, Members};

/// What Debezium sends in the place of a value that the database did not tell (an unchanged TOAST column).
const PLACEHOLDER: &str = "__debezium_unavailable_value";

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It was inserted, or came from another key.
    Create,
    /// A snapshot found it.
    Read,
    /// It was changed under its key.
    Update,
    /// It was deleted, or left for another key.
    Delete,
}

/// One recorded change of a row.
#[derive(Debug)]
pub struct Change {
    /// The last segment of the topic.
    pub table: String,
    /// What happened.
    pub operation: Operation,
    /// The key columns.
    pub key: Members,
    /// The row before it, where it is known.
    pub before: Option<Members>,
    /// The row, without the columns that were not sent.
    pub after: Option<Members>,
    /// The columns that were not sent.
    pub unsent: Vec<String>,
    /// Whether it is the second half of a change of the primary key.
    pub moved_here: bool,
}

impl Change {
    /// The key's values as one text, to tell rows apart.
    pub fn identity(&self) -> String {
        self.key.iter().map(|(_, value)| value.bare()).collect::<Vec<_>>().join(":")
    }
}

/// The row as the events left it, for each key of one table.
#[derive(Debug, Default)]
pub struct Images {
    /// By the key's values. None: the row is there, but a column of it never came, so no store can hold it.
    rows: BTreeMap<String, Option<Members>>,
}

impl Images {
    /// Follows the changes of one table. Columns that were not sent are carried forward. With `keep_deleted` a
    /// deleted row stays as it was last.
    pub fn follow(changes: &[Change], table: &str, keep_deleted: bool) -> Self {
        let mut rows = BTreeMap::<String, Option<Members>>::new();
        for change in changes.iter().filter(|change| change.table == table) {
            let identity = change.identity();
            let Some(after) = &change.after else {
                if !keep_deleted {
                    rows.remove(&identity);
                }
                continue;
            };
            let previous = rows.remove(&identity).flatten();
            let mut image = Some(after.clone());
            for column in &change.unsent {
                let carried = previous.as_ref().and_then(|row| json::get(row, column));
                image = image.zip(carried).map(|(mut row, value)| {
                    row.push((column.clone(), value.clone()));
                    row
                });
            }
            rows.insert(identity, image);
        }
        Self { rows }
    }

    /// Whether the row is there, but a column of it never came.
    pub fn is_incomplete(&self, identity: &str) -> bool {
        matches!(self.rows.get(identity), Some(None))
    }

    /// The rows that are whole.
    pub fn whole(&self) -> impl Iterator<Item = (&str, &Members)> {
        self.rows.iter().filter_map(|(identity, row)| row.as_ref().map(|row| (identity.as_str(), row)))
    }
}

/// Reads every `*.jsonl` file of a folder. The changes of a partition come in order.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Vec<Change>> {
    read_files(&recorded_files(folder)?)
}

fn read_files(files: &[PathBuf]) -> anyhow::Result<Vec<Change>> {
    let mut records = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        // "\n" alone: the texts within hold other characters that end a line elsewhere.
        for (number, line) in text.split('\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let record = record(line).with_context(|| format!("{}, line {}", file.display(), number + 1))?;
            records.push(record);
        }
    }
    records.sort_by(|(one, _), (two, _)| one.cmp(two));
    Ok(records.into_iter().filter_map(|(_, change)| change).collect())
}

/// The files of recorded events in a folder.
fn recorded_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read the folder {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("the folder {} holds no recorded events (*.jsonl)", folder.display());
    }
    files.sort();
    Ok(files)
}

/// Where a record stands: topic, partition, offset.
type Position = (String, u64, u64);

fn record(line: &str) -> anyhow::Result<(Position, Option<Change>)> {
    let record = Json::parse(line)?;
    let topic = member(&record, "topic")?.text().context("`topic` is no string")?.to_owned();
    let number = |name| -> anyhow::Result<u64> {
        member(&record, name)?.bare().parse().with_context(|| format!("`{name}` is no number"))
    };
    let position = (topic, number("partition")?, number("offset")?);
    let change = change(&record, &position.0)?;
    Ok((position, change))
}

/// The change that a record tells, if it tells one.
fn change(record: &Json, topic: &str) -> anyhow::Result<Option<Change>> {
    let Some(value) = wire(record, "value")? else {
        return Ok(None);
    };
    let value = value.members().context("the value is no object")?;
    let key = wire(record, "key")?.context("the record has no key")?;
    let key = key.members().context("the key is no object")?.clone();
    let table = topic.rsplit('.').next().unwrap_or(topic).to_owned();
    let moved_here = headers(record)?.iter().any(|name| name == "__debezium.oldkey");

    let (label, before, after) = match json::get(value, "op") {
        Some(label) => (label, row(value, "before")?, row(value, "after")?),
        None => {
            let label = json::get(value, "__op").context("the value is neither an envelope nor a flattened row")?;
            let columns = value.iter().filter(|(name, _)| !name.starts_with("__")).cloned().collect();
            (label, None, Some(columns))
        }
    };
    let operation = match label.text() {
        Some("c") => Operation::Create,
        Some("r") => Operation::Read,
        Some("u") => Operation::Update,
        Some("d") => Operation::Delete,
        _ => bail!("the operation {label} is none of c, r, u, d"),
    };
    // What a delete holds beside its key looks like data and is not.
    let after = after.filter(|_| operation != Operation::Delete);
    let unsent = after.iter().flatten().filter(|(_, value)| is_placeholder(value)).map(|(name, _)| name.clone());
    let unsent: Vec<String> = unsent.collect();
    let after = after.map(|row| row.into_iter().filter(|(_, value)| !is_placeholder(value)).collect());
    Ok(Some(Change { table, operation, key, before, after, unsent, moved_here }))
}

fn member<'a>(object: &'a Json, name: &str) -> anyhow::Result<&'a Json> {
    object.get(name).with_context(|| format!("the record has no `{name}`"))
}

/// The JSON that is in the record as its wire text, without Kafka Connect's schema; none for a tombstone.
fn wire(record: &Json, name: &str) -> anyhow::Result<Option<Json>> {
    let Some(text) = member(record, name)?.text() else {
        return Ok(None);
    };
    let json = Json::parse(text).with_context(|| format!("`{name}`"))?;
    let json = match json {
        Json::Object(members) if members.len() == 2 && json::get(&members, "schema").is_some() => {
            members.into_iter().find(|(name, _)| name == "payload").map_or(Json::Null, |(_, payload)| payload)
        }
        other => other,
    };
    Ok(if matches!(json, Json::Null) { None } else { Some(json) })
}

fn headers(record: &Json) -> anyhow::Result<Vec<String>> {
    let Json::Array(headers) = member(record, "headers")? else {
        bail!("`headers` is no array");
    };
    let name = |header: &Json| match header {
        Json::Array(pair) => pair.first().and_then(Json::text).map(str::to_owned),
        _ => None,
    };
    headers.iter().map(|header| name(header).context("a header is no pair")).collect()
}

fn row(envelope: &Members, name: &str) -> anyhow::Result<Option<Members>> {
    match json::get(envelope, name) {
        None | Some(Json::Null) => Ok(None),
        Some(row) => Ok(Some(row.members().with_context(|| format!("`{name}` is no object"))?.clone())),
    }
}

/// Alone, and as the one element of an array of texts.
fn is_placeholder(value: &Json) -> bool {
    match value {
        Json::Text(text) => text == PLACEHOLDER,
        Json::Array(elements) => matches!(elements.as_slice(), [Json::Text(text)] if text == PLACEHOLDER),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{Images, Operation, read, read_files};
    use crate::verify::fixture;

    #[test]
    fn flattened_events_and_envelopes_with_and_without_schema_are_read() {
        for (group, creates, updates, deletes) in [("order-cache", 34, 78, 18), ("cdc-cascade", 52, 58, 27)] {
            let changes = read(&fixture::corpus().join(group)).unwrap();
            let count = |operation| changes.iter().filter(|change| change.operation == operation).count();
            assert_eq!(count(Operation::Create), creates, "{group}");
            assert_eq!(count(Operation::Update), updates, "{group}");
            assert_eq!(count(Operation::Delete), deletes, "{group}");
            assert_eq!(changes.iter().filter(|change| change.moved_here).count(), 2, "{group}");
        }
    }

    #[test]
    fn a_value_that_no_event_brought_makes_its_row_incomplete() {
        let file = fixture::corpus().join("torture/misc.public.toast_rekey.jsonl");
        let moved = read_files(&[file]).unwrap();
        let images = Images::follow(&moved, "toast_rekey", false);
        let incomplete = images.rows.iter().filter(|(_, row)| row.is_none()).count();
        assert_eq!(incomplete, 1);
        assert!(images.is_incomplete(images.rows.iter().find(|(_, row)| row.is_none()).unwrap().0));
    }

    #[test]
    fn an_unsent_value_is_carried_forward() {
        let changes = read(&fixture::corpus().join("company-search")).unwrap();
        let unsent = changes.iter().filter(|change| change.unsent == ["description"]).count();
        assert_eq!(unsent, 19);
        let images = Images::follow(&changes, "company", false);
        assert!(images.whole().all(|(_, row)| crate::verify::json::get(row, "description").is_some()));
    }
}
