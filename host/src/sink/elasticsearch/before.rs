//! What documents were before a batch: what its merges are laid over, and what is put back where an answer was refused
//! after a part of it had gone through.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::bulk::Line;
use super::error::{Cause, Class, classify, failure};
use super::http::Http;
use super::indexes::Names;
use super::ledger::{PutBack, content_of};
use super::plan::{ID_BYTES, Target, Targets, target};
use crate::command::Command;
use crate::command::collapse::Origin;
use crate::sink::{SinkError, Write};

/// Documents to read at once.
const READS: usize = 1000;

/// A document before the batch.
#[derive(Debug, Clone)]
pub(super) enum Was {
    Stored {
        version: u64,
        body: String,
    },
    /// It is there, and the index does not keep its body (`_source` is disabled).
    Hidden,
    Missing,
}

/// What is known of the documents of a batch, over all tries of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Before {
    /// By index and id.
    known: HashMap<String, HashMap<String, Was>>,
}

/// The highest version under which the tries of a batch have sent a document, by index and id.
pub(super) type Sent = HashMap<String, HashMap<String, u64>>;

impl Before {
    pub(super) fn get(&self, (index, id): Target<'_>) -> Option<&Was> {
        self.known.get(index)?.get(id)
    }

    /// The lines that put back documents that were sent and that the batch no longer writes. A document that an earlier
    /// owner has already sent of this batch stays: what it was before is unknown.
    pub(super) fn put_back<'a>(
        &'a self,
        names: &Names,
        begin: u64,
        sent: &Sent,
        targets: &Targets<'_>,
        put_back: &[PutBack],
    ) -> Vec<Line<'a>> {
        let known = self.known.iter().flat_map(|(index, ids)| ids.iter().map(move |(id, was)| (index, id, was)));
        let line = |(index, id, was): (&'a String, &'a String, &'a Was)| {
            let version = *sent.get(index)?.get(id)?;
            if targets.contains_key(&(index.as_str(), id.as_str())) {
                return None;
            }
            let (content, body) = match was {
                Was::Stored { version, body } => {
                    let content = content_of(put_back, (index, id), *version);
                    (content < begin).then_some((content, Some(Cow::Borrowed(body.as_str()))))?
                }
                Was::Missing => (0, None),
                Was::Hidden => return None,
            };
            let alias = names.alias(index);
            Some(Line { write: None, index, alias, id, version, content, body, last: true, is_taken: false })
        };
        known.filter_map(line).collect()
    }

    /// The targets of these writes that are to be read, and are not known yet.
    pub(super) fn unknown<'w>(&self, writes: &'w [Write<'w>]) -> Vec<Target<'w>> {
        let mut wanted: HashSet<Target<'w>> = HashSet::new();
        let mut commands: HashMap<Origin, u32> = HashMap::new();
        for origin in writes.iter().flat_map(|write| &write.origins) {
            *commands.entry(*origin).or_default() += 1;
        }
        for write in writes {
            // A command that is an answer by itself is refused before it has changed anything.
            let is_part = || write.origins.iter().any(|origin| commands.get(origin).is_some_and(|count| *count > 1));
            if matches!(*write.command, Command::DocumentMerge { .. }) || is_part() {
                wanted.extend(target(&write.command));
            }
        }
        let to_read = |target: &Target<'_>| (1..=ID_BYTES).contains(&target.1.len()) && self.get(*target).is_none();
        wanted.into_iter().filter(to_read).collect()
    }

    /// Reads documents as they are. Realtime: what no refresh has shown yet is seen.
    pub(super) async fn read(&mut self, http: &Http, names: &Names, targets: &[Target<'_>]) -> Result<(), SinkError> {
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
        let mut chunks: VecDeque<&[Target<'_>]> = targets.chunks(READS).collect();
        while let Some(targets) = chunks.pop_front() {
            // What is too much at once is read in halves, down to one document.
            let mut halve = || {
                let (first, second) = targets.split_at(targets.len() / 2);
                chunks.push_front(second);
                chunks.push_front(first);
            };
            let docs: Vec<_> =
                targets.iter().map(|(index, id)| json!({"_index": names.alias(index), "_id": id})).collect();
            let reply = http.post(&["_mget"], "", json!({"docs": docs}).to_string().into_bytes()).await?;
            if !reply.is_success() {
                let too_much =
                    reply.status == 413 || (reply.status == 429 && reply.cause().kind != "cluster_block_exception");
                if too_much && targets.len() > 1 {
                    halve();
                    continue;
                }
                return Err(failure("reading documents", &reply));
            }
            let answer: Answer = serde_json::from_slice(&reply.body)
                .map_err(|e| SinkError::Retry(format!("the answer to reading documents is broken: {e}")))?;
            if answer.docs.len() != targets.len() {
                return Err(SinkError::Retry("the answer to reading documents has other documents".into()));
            }
            // The breaker of a node may refuse the documents of one shard alone.
            let mut errors = answer.docs.iter().filter_map(|document| document.error.as_ref()).map(Cause::of);
            if targets.len() > 1 && errors.any(|cause| cause.is_rejected_execution()) {
                halve();
                continue;
            }
            for ((index, id), document) in targets.iter().copied().zip(answer.docs) {
                if let Some(error) = &document.error {
                    let cause = Cause::of(error);
                    return Err(match classify(0, &cause) {
                        Class::Stop(told) | Class::Bad(told) => SinkError::Stop(told),
                        Class::Retry(told) => SinkError::Retry(told),
                        Class::Conflict(_) => SinkError::Retry(cause.reason),
                    });
                }
                let was = match (document.found, document._version, document._source) {
                    (true, Some(version), Some(source)) => Was::Stored { version, body: source.get().to_owned() },
                    (true, ..) => Was::Hidden,
                    _ => Was::Missing,
                };
                self.known.entry(index.to_owned()).or_default().insert(id.to_owned(), was);
            }
        }
        Ok(())
    }
}
