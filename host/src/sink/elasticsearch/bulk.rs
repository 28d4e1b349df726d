//! Sends lines by `_bulk`, and finds out what became of each.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::error::{Cause, Class, classify, failure};
use super::http::{Http, Reply};
use super::indexes::Made;
use super::plan::foreign;
use crate::sink::{BadWrite, SinkError};

/// How often what the store had no room for is sent again before the pipeline is told to wait.
const TRIES: u32 = 3;
/// How long to wait before the second try; the wait doubles.
const PAUSE: Duration = Duration::from_millis(100);

/// A document to set or delete.
#[derive(Debug, Clone)]
pub(super) struct Line<'a> {
    /// The place of its command in the writes.
    pub(super) write: usize,
    pub(super) alias: String,
    pub(super) id: &'a str,
    pub(super) version: u64,
    /// One line of JSON; none deletes.
    pub(super) body: Option<Cow<'a, str>>,
}

/// How lines are sent.
#[derive(Debug)]
pub(super) struct Bulk<'a> {
    pub(super) http: &'a Http,
    /// Requests are cut at this size; a larger document is a request by itself.
    pub(super) max_bytes: usize,
    /// The index behind each alias.
    pub(super) indexes: &'a HashMap<String, Made>,
    /// Versions below may stand there already, sent by an earlier try or owner.
    pub(super) bound: u64,
    /// Versions below are this batch's own.
    pub(super) end: u64,
    /// An earlier try of this batch had answers that were rejected since: where its version stands, write over it.
    pub(super) redo: bool,
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
    /// Sends lines in order; names the commands that the store refuses. All others are durable.
    ///
    /// # Errors
    /// As a sink's write. Some of the lines may then be durable.
    pub(super) async fn send(&self, lines: Vec<Line<'_>>) -> Result<Vec<BadWrite>, SinkError> {
        let mut bad = Vec::new();
        let mut left = lines;
        let mut bound = self.bound;
        for attempt in 0.. {
            let mut again = Vec::new();
            let mut why = String::new();
            let mut chunks = self.cut(left);
            while let Some(chunk) = chunks.pop_front() {
                let reply = self.post(&chunk).await?;
                if reply.is_success() {
                    self.take(&reply, chunk, bound, &mut bad, &mut again, &mut why)?;
                } else {
                    let cause = reply.cause();
                    let busy = reply.status == 429 && cause.kind != "cluster_block_exception";
                    let input =
                        reply.status == 413 || (reply.status == 400 && !cause.kind.is_empty()) || cause.is_input();
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
                        why = format!("the store has too much to do ({}: {})", cause.kind, cause.reason);
                        again.extend(chunk);
                    } else {
                        let reason = whole(&reply, &cause);
                        bad.extend(chunk.iter().map(|line| refused(line, &reason)));
                    }
                }
            }
            if again.is_empty() {
                break;
            }
            if attempt >= TRIES {
                return Err(SinkError::Retry(format!("{} documents are not taken: {why}", again.len())));
            }
            if !why.is_empty() {
                tokio::time::sleep(PAUSE * 2_u32.saturating_pow(attempt)).await;
            }
            left = again;
            // A later line of the same id may have gone through.
            bound = bound.max(self.end);
        }
        bad.sort_by_key(|bad| bad.index);
        bad.dedup_by_key(|bad| bad.index);
        Ok(bad)
    }

    /// Sorts the lines by what became of them.
    fn take<'l>(
        &self,
        reply: &Reply,
        chunk: Vec<Line<'l>>,
        bound: u64,
        bad: &mut Vec<BadWrite>,
        again: &mut Vec<Line<'l>>,
        why: &mut String,
    ) -> Result<(), SinkError> {
        let answer: Answer = serde_json::from_slice(&reply.body)
            .map_err(|e| SinkError::Retry(format!("the answer to writing documents is broken: {e}")))?;
        if answer.items.len() != chunk.len() {
            return Err(SinkError::Retry("the answer to writing documents has another number of items".into()));
        }
        for (mut line, Item { index: done }) in chunk.into_iter().zip(answer.items) {
            let Some(error) = done.error else {
                // A delete of what is not there has status 404 and no error, and is done.
                if self.indexes.get(&line.alias).is_some_and(|made| made.index != done._index) {
                    return Err(SinkError::Stop(format!(
                        "alias {} was moved to index {} while the pipeline ran, and the ledger does not belong to that \
                         one: move it back, or give the sink another index_prefix and the pipeline another name",
                        line.alias, done._index
                    )));
                }
                continue;
            };
            match classify(done.status, &Cause::of(&error)) {
                Class::Conflict(there) => {
                    if there.unwrap_or(line.version.saturating_add(1)) >= bound {
                        return Err(foreign(&line.alias, line.id, line.version, there));
                    }
                    if let Some(there) = there.filter(|there| self.redo && *there < self.end) {
                        line.version = there;
                        again.push(line);
                    }
                }
                Class::Bad(reason) => bad.push(refused(&line, &reason)),
                Class::Stop(reason) => return Err(SinkError::Stop(reason)),
                Class::Retry(reason) => {
                    *why = reason;
                    again.push(line);
                }
            }
        }
        Ok(())
    }

    async fn post(&self, chunk: &[Line<'_>]) -> Result<Reply, SinkError> {
        let mut body = String::with_capacity(chunk.iter().map(size).sum());
        for line in chunk {
            line.write_to(&mut body);
        }
        let query = "require_alias=true&filter_path=items.*._index,items.*.status,items.*.error";
        self.http.post(&["_bulk"], query, body.into_bytes()).await
    }

    fn cut<'l>(&self, lines: Vec<Line<'l>>) -> VecDeque<Vec<Line<'l>>> {
        let mut chunks = VecDeque::new();
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        for line in lines {
            let more = size(&line);
            if !chunk.is_empty() && bytes + more > self.max_bytes {
                chunks.push_back(std::mem::take(&mut chunk));
                bytes = 0;
            }
            bytes += more;
            chunk.push(line);
        }
        if !chunk.is_empty() {
            chunks.push_back(chunk);
        }
        chunks
    }
}

impl Line<'_> {
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

fn refused(line: &Line<'_>, reason: &str) -> BadWrite {
    BadWrite { index: line.write, reason: format!("document {:?} of {} is refused: {reason}", line.id, line.alias) }
}
