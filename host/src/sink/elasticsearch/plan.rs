//! What a batch becomes: lines of bulk requests, merges computed here, and the commands that are bad before anything
//! is sent.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::bulk::Line;
use super::error::{Cause, Class, classify};
use super::http::Http;
use super::indexes::Names;
use super::ledger::{Deleting, Refused, Row};
use crate::command::Command;
use crate::command::json::merge_into;
use crate::sink::{BadWrite, SinkError, Step, Write};

/// Ids to read at once.
const READS: usize = 1000;
/// The bytes of the longest id that the server takes.
const ID_BYTES: usize = 512;
/// The largest document: where `http.max_content_length` is as it comes, the server hangs up on a larger one.
const DOCUMENT_BYTES: usize = 95 << 20;

/// An index and an id.
type Target<'a> = (&'a str, &'a str);

/// A batch, ready to be sent.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// Documents that are set, up to the first delete of an id.
    pub(super) sets: Vec<Line<'a>>,
    /// Deletes, and what follows them on the same ids.
    pub(super) deletes: Vec<Line<'a>>,
    /// What is deleted, for the ledger.
    pub(super) deleting: Vec<Deleting>,
    /// Commands that are bad as they stand.
    pub(super) bad: Vec<BadWrite>,
    /// Whether one of them is bad since a document is missing.
    pub(super) missed: bool,
}

/// A document as it is, or as the lines before will leave it.
enum State {
    Stored { version: u64, body: String },
    Planned(String),
    Missing,
}

/// The versions of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Versions {
    epoch: u64,
    /// A document of this version or above was sent by nobody who may have.
    pub(super) bound: u64,
}

impl Versions {
    /// For offsets below `bound` of this epoch.
    pub(super) fn new(epoch: u16, bound: u64) -> Result<Self, SinkError> {
        let versions = Self { epoch: u64::from(epoch), bound: 0 };
        if epoch > 0x7fff {
            return Err(SinkError::Stop(format!(
                "epoch {epoch} is beyond what a document's version can hold, 32767: give the sink a fresh target"
            )));
        }
        Ok(Self { bound: versions.of(bound)?, ..versions })
    }

    pub(super) fn of(self, offset: u64) -> Result<u64, SinkError> {
        if offset >> 48 != 0 {
            return Err(SinkError::Stop(format!("offset {offset} is beyond what a document's version can hold, 2^48")));
        }
        Ok(self.epoch << 48 | offset)
    }
}

/// Plans a batch. Reads the documents that merges need.
pub(super) async fn plan<'a>(
    http: &Http,
    names: &Names,
    step: &Step<'_>,
    row: &Row,
    versions: Versions,
    writes: &'a [Write<'a>],
) -> Result<Plan<'a>, SinkError> {
    let mut states = read(http, names, writes).await?;
    let mut deleted: HashSet<Target<'a>> = HashSet::new();
    let pending: HashMap<Target<'_>, u64> =
        row.deleting.iter().map(|d| ((d.index.as_str(), d.id.as_str()), d.offset)).collect();
    let same_modules = row.open_digest == step.digest;
    let mut plan = Plan::default();
    for (place, write) in writes.iter().enumerate() {
        let Some((index, id)) = target(&write.command) else {
            return Err(SinkError::Stop(format!(
                "a command {} came to a store of documents; please report this",
                write.command.kind()
            )));
        };
        let bad = |reason: String| BadWrite { index: place, reason };
        if id.is_empty() || id.len() > ID_BYTES {
            plan.bad.push(bad(format!(
                "the id of a document of {index:?} has {} bytes: an id has 1 to {ID_BYTES}",
                id.len()
            )));
            continue;
        }
        let offset = write.origins.last().map_or(step.to.saturating_sub(1), |origin| origin.offset);
        let version = versions.of(offset)?;
        // Also where the document was deleted after it, which would else make it one that is done.
        if same_modules && row.refused.iter().any(|refused| refused.is_of(write)) {
            plan.bad.push(bad(format!(
                "document {id:?} of {index:?} cannot be merged into: that was refused before, when this batch was cut short"
            )));
            continue;
        }
        // An owner before, or a try before, has sent a later delete of this document, or was about to.
        let deleted_later = pending.get(&(index, id)).is_some_and(|later| *later > offset);
        let is_delete = matches!(*write.command, Command::DocumentDelete { .. });
        if deleted_later && same_modules && !is_delete {
            continue;
        }
        let body: Option<Cow<'a, str>> = match &*write.command {
            Command::DocumentIndex { body, .. } => Some(one_line(body.get())),
            Command::DocumentMerge { fields, .. } => {
                let stored = match states.get(&(index, id)) {
                    Some(State::Stored { version: there, .. }) if *there > version => {
                        if *there >= versions.bound {
                            return Err(foreign(index, id, version, Some(*there)));
                        }
                        // What is there came from this event and later ones.
                        continue;
                    }
                    Some(State::Stored { body, .. } | State::Planned(body)) => Ok(body),
                    _ if deleted_later => continue,
                    _ => {
                        plan.missed = true;
                        Err("it does not exist".to_owned())
                    }
                };
                match stored.and_then(|stored| merge_into(stored.as_bytes(), fields)) {
                    Ok(merged) => Some(Cow::Owned(merged)),
                    Err(problem) => {
                        plan.bad.push(bad(format!("document {id:?} of {index:?} cannot be merged into: {problem}")));
                        continue;
                    }
                }
            }
            _ => None,
        };
        if body.as_ref().is_some_and(|body| body.len() > DOCUMENT_BYTES) {
            plan.bad.push(bad(format!("document {id:?} of {index:?} is larger than {DOCUMENT_BYTES} bytes")));
            continue;
        }
        // Only what a merge has asked for, or may ask for, is kept in mind.
        if let Some(state) = states.get_mut(&(index, id)) {
            *state = body.as_ref().map_or(State::Missing, |body| State::Planned(body.to_string()));
        }
        let is_set = body.is_some();
        let line = Line { write: place, alias: names.alias(index), id, version, body };
        if is_set && !deleted.contains(&(index, id)) {
            plan.sets.push(line);
        } else {
            deleted.insert((index, id));
            if !is_set {
                plan.deleting.push(Deleting { index: index.to_owned(), id: id.to_owned(), offset });
            }
            plan.deletes.push(line);
        }
    }
    Ok(plan)
}

/// A version that nobody who may write the document can have given it.
pub(super) fn foreign(index: &str, id: &str, version: u64, there: Option<u64>) -> SinkError {
    let there = there.map_or_else(|| "a higher version".to_owned(), |there| format!("version {there}"));
    SinkError::Stop(format!(
        "document {id:?} of {index} has {there}, above {version}, and this pipeline has not sent it: the index was \
         filled by something else, its ledger was lost, or two partitions write one id. Let one partition write an \
         id, or give the sink another index_prefix and the pipeline another name, and the new index is filled from \
         the start"
    ))
}

/// A line break in valid JSON stands between tokens.
fn one_line(json: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_some() {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

fn target(command: &Command) -> Option<Target<'_>> {
    match command {
        Command::DocumentIndex { index, id, .. }
        | Command::DocumentMerge { index, id, .. }
        | Command::DocumentDelete { index, id } => Some((index, id)),
        _ => None,
    }
}

/// The merges among commands that are bad.
pub(super) fn refused_merges(writes: &[Write<'_>], bad: &[BadWrite]) -> Vec<Refused> {
    let merges = bad.iter().filter_map(|bad| writes.get(bad.index)).filter_map(|write| match &*write.command {
        Command::DocumentMerge { index, id, .. } => Some((index, id, &write.origins)),
        _ => None,
    });
    let each = merges.flat_map(|(index, id, origins)| {
        // Of a folded command it is not known yet which event was at fault; it comes back unfolded.
        let alone = if origins.len() == 1 { origins.as_slice() } else { &[] };
        alone.iter().map(|origin| Refused {
            index: index.clone(),
            id: id.clone(),
            offset: origin.offset,
            transform: origin.transform,
        })
    });
    each.collect()
}

/// The documents that are merged into, as they are. Realtime: what no refresh has shown yet is seen.
async fn read<'a>(
    http: &Http,
    names: &Names,
    writes: &'a [Write<'a>],
) -> Result<HashMap<Target<'a>, State>, SinkError> {
    #[derive(Deserialize)]
    struct Answer {
        docs: Vec<Document>,
    }
    #[derive(Deserialize)]
    struct Document {
        #[serde(default)]
        found: bool,
        _version: Option<u64>,
        _source: Option<Box<RawValue>>,
        error: Option<Value>,
    }
    let merges = writes.iter().filter(|write| matches!(*write.command, Command::DocumentMerge { .. }));
    let targets: HashSet<Target<'a>> = merges.filter_map(|write| target(&write.command)).collect();
    let usable = |(_, id): &Target<'_>| (1..=ID_BYTES).contains(&id.len());
    let targets: Vec<Target<'a>> = targets.into_iter().filter(usable).collect();
    let mut states = HashMap::new();
    for targets in targets.chunks(READS) {
        let docs: Vec<_> = targets.iter().map(|(index, id)| json!({"_index": names.alias(index), "_id": id})).collect();
        let reply = http.post(&["_mget"], "", json!({"docs": docs}).to_string().into_bytes()).await?;
        if !reply.is_success() {
            return Err(super::error::failure("reading documents to merge into", &reply));
        }
        let answer: Answer = serde_json::from_slice(&reply.body)
            .map_err(|e| SinkError::Retry(format!("the answer to reading documents is broken: {e}")))?;
        if answer.docs.len() != targets.len() {
            return Err(SinkError::Retry("the answer to reading documents has other documents".into()));
        }
        for (target, document) in targets.iter().zip(answer.docs) {
            if let Some(error) = &document.error {
                let cause = Cause::of(error);
                return Err(match classify(0, &cause) {
                    Class::Stop(told) | Class::Bad(told) => SinkError::Stop(told),
                    Class::Retry(told) => SinkError::Retry(told),
                    Class::Conflict(_) => SinkError::Retry(cause.reason),
                });
            }
            let state = match (document.found, document._version, document._source) {
                (true, Some(version), Some(source)) => State::Stored { version, body: source.get().to_owned() },
                (true, ..) => {
                    return Err(SinkError::Stop(format!(
                        "index {} does not keep what was indexed (`_source` is disabled), so nothing can be \
                         merged into its documents: declare it with `_source`",
                        names.alias(target.0)
                    )));
                }
                _ => State::Missing,
            };
            states.insert(*target, state);
        }
    }
    Ok(states)
}
