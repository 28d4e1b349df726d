//! Indexes: made at the first start behind an alias, held against their definition afterwards, never made again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::failure;
use super::http::Http;
use super::mapping::{Difference, differences};
use crate::contract::Index;
use crate::limits::NAME;
use crate::sink::SinkError;
use crate::sink::replace::BESIDE;

/// How indexes are named.
#[derive(Debug)]
pub(super) struct Names {
    /// What all names begin with.
    pub(super) prefix: String,
    /// The sink's name in the configuration.
    pub(super) sink: String,
    /// What follows an alias, other than that of readers.
    pub(super) suffix: &'static str,
    /// The alias of the ledger.
    pub(super) ledger: String,
}

impl Names {
    /// The alias through which an index is written.
    pub(super) fn alias(&self, index: &str) -> String {
        format!("{}{index}{}", self.prefix, self.suffix)
    }

    /// What the name of an index begins with: the alias of readers.
    pub(super) fn index(&self, index: &str) -> String {
        format!("{}{index}", self.prefix)
    }

    /// Why no transform may write an index of this name: it cannot be one, or is another's.
    pub(super) fn problem(&self, index: &str) -> Option<String> {
        let alias = self.index(index);
        let cannot_be = alias.chars().any(|c| c.is_control() || c.is_uppercase() || " \"*+,/\\:<>?|#".contains(c))
            || alias.starts_with(['-', '_'])
            || alias.len() > NAME.most;
        let numbers = alias.strip_prefix(&self.ledger).and_then(|rest| rest.strip_prefix('-'));
        let what = match () {
            () if cannot_be => {
                "no name of an index: write small letters, digits, `_`, `-` and `.`, a letter or digit first, and at most \
                 255 bytes"
            }
            () if alias.starts_with('.') => "the server's own, as all that begin with a dot are",
            () if alias == self.ledger || numbers.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit())) => {
                "the ledger's"
            }
            () if alias.ends_with(BESIDE) => "that of a replacement which is being filled",
            () => return None,
        };
        Some(format!("index {alias:?} is {what}"))
    }

    /// Whether the indexes are to take the place of others.
    pub(super) fn is_fresh(&self) -> bool {
        !self.suffix.is_empty()
    }
}

/// A pipeline's head in the ledger: the indexes that it has started on, by alias.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) indexes: BTreeMap<String, Made>,
    /// What is just being put in their place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) replacement: Option<Announced>,
}

/// A replacement that is about to be put in place. Nobody claims a partition meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Announced {
    /// When it ends unless it is renewed, ms since 1970 by the clock of the host that announced it. For people: who waits
    /// for it counts from when it saw it first.
    pub(super) until: i64,
    /// The sink's name in the fresh ledger.
    pub(super) sink: String,
    /// The fresh indexes, by the alias that they shall have.
    pub(super) indexes: BTreeMap<String, Made>,
}

/// The index behind an alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// The index.
    pub(super) index: String,
    /// Its UUID, which a deleted and remade one does not have.
    pub(super) uuid: String,
}

/// An index as the store has it.
pub(super) struct Stored {
    pub(super) made: Made,
    pub(super) is_alias: bool,
    pub(super) mappings: Value,
    pub(super) settings: Value,
}

/// What is behind a name: nothing, or one index.
pub(super) async fn look(http: &Http, alias: &str) -> Result<Option<Stored>, SinkError> {
    let asked = format!("looking at index {alias}");
    let reply = http.get(&[alias], "flat_settings=true").await?;
    if reply.status == 404 && reply.cause().kind == "index_not_found_exception" {
        return Ok(None);
    }
    let Value::Object(mut answer) = reply.json(&asked)? else { return Ok(None) };
    if answer.len() != 1 {
        let names: Vec<_> = answer.keys().map(String::as_str).collect();
        return Err(SinkError::Stop(format!(
            "alias {alias} names {} indexes ({}): let it name one alone, since a document is read, written and deleted \
             by its id there",
            names.len(),
            names.join(", ")
        )));
    }
    let Some(index) = answer.keys().next().cloned() else { return Ok(None) };
    let mut stored = answer.remove(&index).unwrap_or_default();
    let uuid = stored["settings"]["index.uuid"].as_str().unwrap_or_default().to_owned();
    Ok(Some(Stored {
        is_alias: index != alias,
        made: Made { index, uuid },
        mappings: stored["mappings"].take(),
        settings: stored["settings"].take(),
    }))
}

/// The UUID of the index behind an alias; none where there is none. Less to ask than [`look`].
pub(super) async fn uuid(http: &Http, alias: &str) -> Result<Option<String>, SinkError> {
    let reply = http.get(&[alias, "_settings", "index.uuid"], "flat_settings=true").await?;
    if reply.status == 404 && reply.cause().kind == "index_not_found_exception" {
        return Ok(None);
    }
    let answer = reply.json(&format!("looking at index {alias}"))?;
    let mut indexes = answer.as_object().into_iter().flatten();
    let uuid = indexes.next().and_then(|(_, index)| index["settings"]["index.uuid"].as_str().map(str::to_owned));
    Ok(uuid.filter(|_| indexes.next().is_none()))
}

/// A definition taken apart: mappings and settings, each an object.
pub(super) fn parts(index: &Index) -> Result<(Value, Map<String, Value>), SinkError> {
    let wrong = |problem: String| SinkError::Stop(format!("the definition of index {}: {problem}", index.name));
    let definition: Map<String, Value> =
        serde_json::from_str(&index.definition).map_err(|e| wrong(format!("it is no JSON object: {e}")))?;
    let mut mappings = json!({});
    let mut settings = Map::new();
    for (name, value) in definition {
        match (name.as_str(), value) {
            ("mappings", value @ Value::Object(_)) => mappings = value,
            ("settings", Value::Object(value)) => settings = value,
            _ => return Err(wrong(format!("{name:?} is not `mappings` or `settings` with an object as its value"))),
        }
    }
    Ok((mappings, settings))
}

/// The name of an index, by the name that readers use and a number from 1.
pub(super) fn numbered(name: &str, number: u32) -> String {
    format!("{name}-{number:06}")
}

/// The highest number of an index that there is of this name; 0 where there is none.
pub(super) async fn last_number(http: &Http, name: &str) -> Result<u32, SinkError> {
    let query = "flat_settings=true&expand_wildcards=all&allow_no_indices=true";
    let reply = http.get(&[&format!("{name}-*"), "_settings", "index.uuid"], query).await?;
    if reply.status == 404 && reply.cause().kind == "index_not_found_exception" {
        return Ok(0);
    }
    let answer = reply.json(&format!("looking for indexes {name}-*"))?;
    let numbers = answer.as_object().into_iter().flatten().filter_map(|(index, _)| {
        let digits = index.strip_prefix(name)?.strip_prefix('-')?;
        (digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
    });
    Ok(numbers.max().unwrap_or(0))
}

/// Makes an index and puts the alias on it, in one request. False when an index of that name is there already.
pub(super) async fn make(http: &Http, index: &str, alias: &str, definition: &Value) -> Result<bool, SinkError> {
    let mut body = definition.clone();
    body["aliases"] = json!({alias: {"is_write_index": true}});
    let reply = http.put(&[index], "", &body).await?;
    let cause = reply.cause();
    if reply.status == 400 && cause.kind == "resource_already_exists_exception" {
        return Ok(false);
    }
    if reply.status == 400 {
        return Err(SinkError::Stop(format!(
            "index {index} cannot be made: {}: correct the definition that the transform declares",
            cause.reason
        )));
    }
    reply.json(&format!("making index {index}"))?;
    Ok(true)
}

/// The whole definition of a new index: what was declared, tombstones that last an hour, and whose it is.
pub(super) fn definition(index: &Index, sink: &str, pipeline: &str) -> Result<Value, SinkError> {
    let (mut mappings, mut settings) = parts(index)?;
    let nested = settings.get("index").is_some_and(|index| !index["gc_deletes"].is_null());
    if !nested && !settings.contains_key("gc_deletes") && !settings.contains_key("index.gc_deletes") {
        settings.insert("index.gc_deletes".into(), "1h".into());
    }
    mark(&mut mappings, sink, pipeline);
    Ok(json!({"mappings": mappings, "settings": settings}))
}

/// Says in the mapping who writes the index.
fn mark(mappings: &mut Value, sink: &str, pipeline: &str) {
    if !mappings["_meta"].is_object() {
        mappings["_meta"] = json!({});
    }
    mappings["_meta"]["tidegate"] = json!({"pipeline": pipeline, "sink": sink});
}

/// Whether nothing was ever written to an index: not even something that was deleted since. An index that was made this
/// instant has no shards yet, of which that could be asked.
pub(super) async fn is_untouched(http: &Http, stored: &Stored) -> Result<bool, SinkError> {
    let index = &stored.made.index;
    let stats = http.get(&[index, "_stats"], "level=shards").await?.json(&format!("counting index {index}"))?;
    let shards = stats["indices"][index]["shards"].as_object();
    let copies = shards.into_iter().flat_map(Map::values).filter_map(Value::as_array).flatten();
    let numbers: Option<Vec<i64>> = copies.map(|copy| copy["seq_no"]["max_seq_no"].as_i64()).collect();
    let wanted = stored.settings["index.number_of_shards"].as_str().and_then(|number| number.parse().ok());
    match numbers {
        Some(numbers) if shards.map(Map::len) == wanted => Ok(numbers.iter().all(|number| *number == -1)),
        _ => Err(SinkError::Retry(format!("the shards of index {index} are not all there yet"))),
    }
}

/// Holds an index against its definition: new fields are added, a field that changed stops the pipeline.
pub(super) async fn agree(http: &Http, alias: &str, index: &Index, stored: &Stored) -> Result<(), SinkError> {
    let (declared, _) = parts(index)?;
    let found = differences(&declared, &stored.mappings);
    if found.is_empty() {
        return Ok(());
    }
    let conflict = |told: String| {
        SinkError::Stop(format!(
            "index {alias} does not agree with the definition that the transform declares: {told}. A field cannot be \
             changed in place: `tidegate rewind` fills a new index from the start and puts it in the place of this one"
        ))
    };
    if let Some(changed) = found.iter().find(|difference| matches!(difference, Difference::Type { .. })) {
        return Err(conflict(changed.to_string()));
    }
    let mut mappings = declared;
    // The request replaces all of `_meta`.
    if let (Some(own), Some(stored)) =
        (mappings.get_mut("_meta").and_then(Value::as_object_mut), stored.mappings.get("_meta"))
        && let Some(mark) = stored.get("tidegate")
    {
        own.insert("tidegate".into(), mark.clone());
    }
    let reply = http.put(&[alias, "_mapping"], "", &mappings).await?;
    if reply.status == 400 {
        return Err(conflict(reply.cause().reason));
    }
    if !reply.is_success() {
        return Err(failure(&format!("adding fields to index {alias}"), &reply));
    }
    Ok(())
}
