//! Sends lines by `_bulk`, and finds out what became of each.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::error::{Cause, Class, classify, failure};
use super::http::Reply;
use super::indexes::Made;
use super::ledger::{PutBack, content_of};
use super::plan::foreign;
use super::{Elasticsearch, Step, Written};
use crate::sink::{BadWrite, SinkError};

/// How often what the store had no room for is sent again before the pipeline is told to wait.
const TRIES: u32 = 3;
/// How long to wait before the second try; the wait doubles.
const PAUSE: Duration = Duration::from_millis(100);

/// A shorter document holds no term that is too long, 32,766 bytes, also where a normalizer makes it half as long again.
const LONG: usize = 16 << 10;

/// A document to set or delete.
#[derive(Debug, Clone)]
pub(super) struct Line<'a> {
    /// The place of its command in the writes; none for what is put back.
    pub(super) write: Option<usize>,
    pub(super) index: &'a str,
    pub(super) alias: String,
    pub(super) id: &'a str,
    pub(super) version: u64,
    /// The version of the event that the body is of. What is written over something refused bears that one's version.
    pub(super) content: u64,
    /// One line of JSON; none deletes.
    pub(super) body: Option<Cow<'a, str>>,
    /// Whether no later line of the batch has its id: what the batch leaves there is this line's.
    pub(super) last: bool,
    /// Whether the server has taken it.
    pub(super) is_taken: bool,
}

/// Long documents that the server has taken, as hashes: it takes them again.
pub(super) type Taken = HashSet<u64>;

/// How lines are sent.
#[derive(Debug)]
pub(super) struct Bulk<'a> {
    pub(super) sink: &'a Elasticsearch,
    pub(super) step: &'a Step<'a>,
    /// Requests are cut at this size; a larger document is a request by itself.
    pub(super) max_bytes: usize,
    /// The index behind each alias.
    pub(super) indexes: &'a HashMap<String, Made>,
    /// Versions below may stand there already, sent by an earlier try or owner.
    pub(super) bound: u64,
    /// Versions below are this batch's own.
    pub(super) end: u64,
    /// Whether an earlier try of this batch had answers that were rejected since. A line that meets the version of that try
    /// is sent again under it: the last line of its id, to be what stays; and an earlier long one that the server has not
    /// taken yet, since the conflict may hide a refusal. Any other earlier line is done.
    pub(super) redo: bool,
    /// What the server has taken of this batch.
    pub(super) taken: &'a Taken,
    /// What an earlier event is written over: documents that bear a later version than their bodies have.
    pub(super) put_back: &'a [PutBack],
}

/// What became of lines in one round of requests, by their places.
#[derive(Debug, Default)]
struct Round {
    /// To be sent again: the store had no room for them, or they are to be written over what is there.
    again: HashSet<usize>,
    bad: Vec<(usize, String)>,
    /// Why there was no room.
    busy: String,
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(alias = "delete")]
    index: Done,
}

#[derive(Deserialize)]
struct Done {
    _index: String,
    status: u16,
    error: Option<Value>,
}

impl Bulk<'_> {
    /// Sends lines in order; names the commands that the store refuses. All others are durable. Afterwards the lines bear the
    /// versions under which they were last sent. Before each further round the row is read again, in case of another owner.
    ///
    /// # Errors
    /// As a sink's write. Some of the lines may then be durable.
    pub(super) async fn send(&self, lines: &mut [Line<'_>]) -> Result<Written, SinkError> {
        let mut bad = Vec::new();
        let mut left: Vec<usize> = (0..lines.len()).collect();
        let mut bound = self.bound;
        for attempt in 0.. {
            let mut round = Round::default();
            let mut chunks = self.cut(lines, &left);
            while let Some(chunk) = chunks.pop_front() {
                let reply = self.post(lines, &chunk).await?;
                if reply.is_success() {
                    self.take(&reply, lines, &chunk, bound, &mut round)?;
                    continue;
                }
                let cause = reply.cause();
                let busy = reply.status == 429 && cause.kind != "cluster_block_exception";
                let input = reply.status == 413 || (reply.status == 400 && !cause.kind.is_empty()) || cause.is_input();
                if !busy && !input {
                    return Err(failure("writing documents", &reply));
                }
                // One line fails the whole request, or it is too large for now: halve until it is alone.
                if chunk.len() > 1 {
                    let mut first = chunk;
                    let second = first.split_off(first.len() / 2);
                    chunks.push_front(second);
                    chunks.push_front(first);
                } else if busy {
                    round.busy = format!("the store has too much to do ({}: {})", cause.kind, cause.reason);
                    round.again.extend(chunk);
                } else {
                    let reason = whole(&reply, &cause);
                    round.bad.extend(chunk.into_iter().map(|place| (place, reason.clone())));
                }
            }
            let Round { again, bad: found, busy } = round;
            if attempt >= TRIES && !again.is_empty() {
                return Err(SinkError::Retry(format!("{} documents are not taken: {busy}", again.len())));
            }
            left = with_later(lines, &left, &again, &found);
            bad.extend(found.iter().filter_map(|(place, reason)| refused(lines.get(*place)?, reason)));
            if left.is_empty() {
                break;
            }
            if !busy.is_empty() {
                tokio::time::sleep(PAUSE * 2_u32.saturating_pow(attempt)).await;
            }
            if let Some(refused) = self.sink.refused_now(self.step).await? {
                return Ok(refused);
            }
            // A later line of the same id may have gone through.
            bound = bound.max(self.end);
        }
        bad.sort_by_key(|bad| bad.index);
        bad.dedup_by_key(|bad| bad.index);
        Ok(if bad.is_empty() { Written::Applied } else { Written::Rejected(bad) })
    }

    /// Sorts the lines of a request by what became of them.
    fn take(
        &self,
        reply: &Reply,
        lines: &mut [Line<'_>],
        chunk: &[usize],
        bound: u64,
        round: &mut Round,
    ) -> Result<(), SinkError> {
        let answer: Answer = serde_json::from_slice(&reply.body)
            .map_err(|e| SinkError::Retry(format!("the answer to writing documents is broken: {e}")))?;
        if answer.items.len() != chunk.len() {
            return Err(SinkError::Retry("the answer to writing documents has another number of items".into()));
        }
        for (place, Item { index: done }) in chunk.iter().copied().zip(answer.items) {
            let Some(line) = lines.get_mut(place) else { continue };
            let Some(error) = done.error else {
                // A delete of what is not there has status 404 and no error, and is done.
                if self.indexes.get(&line.alias).is_some_and(|made| made.index != done._index) {
                    return Err(SinkError::Stop(format!(
                        "alias {} was moved to index {} while the pipeline ran, and the ledger does not belong to that \
                         one: move it back, or give the sink another index_prefix and the pipeline another name",
                        line.alias, done._index
                    )));
                }
                line.is_taken = true;
                continue;
            };
            match classify(done.status, &Cause::of(&error)) {
                Class::Conflict(there) => {
                    let is_older =
                        |there: &u64| content_of(self.put_back, (line.index, line.id), *there) <= line.content;
                    // An earlier line of its id, which the last one replaces, is sent only to learn whether it is refused.
                    let is_open = line.last || !line.is_among(self.taken);
                    if let Some(there) = there.filter(is_older) {
                        if is_open {
                            line.version = there;
                            round.again.insert(place);
                        }
                        continue;
                    }
                    if there.unwrap_or(line.version.saturating_add(1)) >= bound {
                        return Err(foreign(&line.alias, line.id, line.version, there));
                    }
                    let left_over = |there: &u64| self.redo && is_open && *there < self.end;
                    if let Some(there) = there.filter(left_over) {
                        line.version = there;
                        round.again.insert(place);
                    }
                }
                Class::Bad(reason) => round.bad.push((place, reason)),
                Class::Stop(reason) => return Err(SinkError::Stop(reason)),
                Class::Retry(reason) => {
                    round.busy = reason;
                    round.again.insert(place);
                }
            }
        }
        Ok(())
    }

    async fn post(&self, lines: &[Line<'_>], chunk: &[usize]) -> Result<Reply, SinkError> {
        let chunk = || chunk.iter().filter_map(|place| lines.get(*place));
        let mut body = String::with_capacity(chunk().map(size).sum());
        chunk().for_each(|line| line.write_to(&mut body));
        let query = "require_alias=true&filter_path=items.*._index,items.*.status,items.*.error";
        self.sink.http.post(&["_bulk"], query, body.into_bytes()).await
    }

    /// The places of lines, cut into requests.
    fn cut(&self, lines: &[Line<'_>], left: &[usize]) -> VecDeque<Vec<usize>> {
        let mut chunks = VecDeque::new();
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        for place in left.iter().copied() {
            let more = lines.get(place).map_or(0, size);
            if !chunk.is_empty() && bytes + more > self.max_bytes {
                chunks.push_back(std::mem::take(&mut chunk));
                bytes = 0;
            }
            bytes += more;
            chunk.push(place);
        }
        if !chunk.is_empty() {
            chunks.push_back(chunk);
        }
        chunks
    }
}

/// The lines to send again, and behind each the later ones of its id: of two under one version, as those of one event
/// are, the one that arrives last is what stays. What was refused is not sent again.
fn with_later(lines: &[Line<'_>], left: &[usize], again: &HashSet<usize>, bad: &[(usize, String)]) -> Vec<usize> {
    if again.is_empty() {
        return Vec::new();
    }
    let bad: HashSet<usize> = bad.iter().map(|(place, _)| *place).collect();
    let mut ids: HashSet<(&str, &str)> = HashSet::new();
    let mut sent_again = |place: &usize| {
        let Some(line) = lines.get(*place) else { return false };
        let id = (line.alias.as_str(), line.id);
        !bad.contains(place) && (ids.contains(&id) || (again.contains(place) && ids.insert(id)))
    };
    left.iter().copied().filter(|place| sent_again(place)).collect()
}

impl Line<'_> {
    /// The document that it sets, as a hash, if a conflict of versions may hide that the server refuses it. Most of what it
    /// refuses it finds before it compares versions; terms that are too long it finds behind that.
    pub(super) fn document(&self) -> Option<u64> {
        let body = self.body.as_ref().filter(|body| body.len() >= LONG)?;
        let mut hasher = DefaultHasher::new();
        (self.index, self.id, body).hash(&mut hasher);
        Some(hasher.finish())
    }

    /// Whether nothing is to be learned from sending it again: the server has taken the same before, or could not have hidden
    /// that it refuses it.
    pub(super) fn is_among(&self, taken: &Taken) -> bool {
        self.document().is_none_or(|document| taken.contains(&document))
    }

    fn write_to(&self, text: &mut String) {
        let action = if self.body.is_some() { "index" } else { "delete" };
        text.push_str("{\"");
        text.push_str(action);
        text.push_str("\":{\"_index\":");
        text.push_str(&Value::from(self.alias.as_str()).to_string());
        text.push_str(",\"_id\":");
        text.push_str(&Value::from(self.id).to_string());
        text.push_str(",\"version\":");
        text.push_str(&self.version.to_string());
        text.push_str(",\"version_type\":\"external_gte\"}}\n");
        if let Some(body) = &self.body {
            text.push_str(body);
            text.push('\n');
        }
    }
}

/// About what a line takes in a request.
fn size(line: &Line<'_>) -> usize {
    100 + line.alias.len() + line.id.len() + line.body.as_ref().map_or(0, |body| body.len())
}

/// Why a request with one line alone is refused.
fn whole(reply: &Reply, cause: &Cause) -> String {
    match (reply.status, cause.reason.as_str()) {
        // A node says no more than that.
        (413, _) => "HTTP 413: it is larger than the server takes: make it smaller, or raise http.max_content_length, \
                     or what a proxy between allows"
            .to_owned(),
        (status, reason) => format!("HTTP {status}: {reason}"),
    }
}

/// Whose command a line is that is refused.
fn refused(line: &Line<'_>, reason: &str) -> Option<BadWrite> {
    let reason = format!("document {:?} of {} is refused: {reason}", line.id, line.alias);
    if line.write.is_none() {
        tracing::warn!("{reason}: it stays as a refused record has left it, until its next event");
    }
    line.write.map(|index| BadWrite { index, clash: false, by_trigger: false, reason })
}
