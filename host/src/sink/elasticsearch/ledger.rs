//! The ledger: an index of its own behind an alias, a document a partition, a pipeline or a topic.
//!
//! Each document is changed by compare and set on the place of its last change (`if_seq_no`, `if_primary_term`). It is
//! read by its id, which is realtime: what a search would still miss is seen.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::failure;
use super::http::Http;
use super::indexes::Head;
use super::plan::Target;
use crate::command::Command;
use crate::sink::{LedgerKey, SinkError, Token, TopicHead, Write};
use crate::source::TopicFacts;

/// How the ledger's index is made. Only what people search for is mapped.
pub(super) fn definition() -> Value {
    json!({
        "settings": {"number_of_shards": 1, "auto_expand_replicas": "0-1"},
        "mappings": {"dynamic": false, "properties": {
            "kind": {"type": "keyword"}, "pipeline": {"type": "keyword"}, "sink": {"type": "keyword"},
            "topic": {"type": "keyword"}, "partition": {"type": "long"}, "next": {"type": "long"},
            "since": {"type": "long"}, "changed_at": {"type": "long"},
        }},
    })
}

/// Where a document was last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    seq_no: u64,
    primary_term: u64,
}

impl Place {
    pub(super) fn new(seq_no: u64, primary_term: u64) -> Self {
        Self { seq_no, primary_term }
    }
}

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// The owner's token, 32 hexadecimal digits.
    token: String,
    /// Whether a replacement keeps every owner from it, as long as the pipeline's head says that there is one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) held: bool,
    /// The next offset that the sink wants.
    pub(super) next: u64,
    /// No owner has ever sent a document of this offset or a later one.
    pub(super) until: u64,
    /// What the owner may have deleted from `next` on.
    pub(super) deleting: Vec<Deleting>,
    /// The sets and merges from `next` on that were refused, before what came after them was sent.
    pub(super) refused: Vec<Refused>,
    /// The documents that were put back last, the newest behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) put_back: Vec<PutBack>,
    /// The digests of the modules that made `deleting` and `refused`; empty where they differ.
    pub(super) open_digest: String,
    /// The digests of the modules that made the last commands; empty before the first.
    pub(super) digest: String,
    /// Where the first write under these digests began.
    pub(super) since: u64,
    /// When that was, ms since 1970.
    pub(super) changed_at: i64,
    /// The epoch of the last write.
    pub(super) epoch: u16,
    /// The note of the last write.
    pub(super) note: String,
}

/// A delete that may have been sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Deleting {
    pub(super) index: String,
    pub(super) id: String,
    pub(super) offset: u64,
}

/// A set or merge that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refused {
    pub(super) index: String,
    pub(super) id: String,
    pub(super) offset: u64,
    pub(super) transform: usize,
}

/// A document whose body is older than its version: an answer was refused after it had been sent, and what was there
/// before was put back under its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PutBack {
    pub(super) index: String,
    pub(super) id: String,
    /// What the document bears.
    pub(super) version: u64,
    /// The version of the event that its body is of, at least; 0 where no document was.
    pub(super) content: u64,
}

/// The documents put back that a row remembers.
const PUT_BACK: usize = 500;

/// The version of the event that a document's body is of, when it bears this one.
pub(super) fn content_of(put_back: &[PutBack], (index, id): Target<'_>, version: u64) -> u64 {
    let same = |known: &&PutBack| (&*known.index, &*known.id, known.version) == (index, id, version);
    put_back.iter().find(same).map_or(version, |known| known.content)
}

impl Refused {
    /// Whether the command is this write, or was folded into it.
    pub(super) fn is_of(&self, write: &Write<'_>) -> bool {
        matches!(&*write.command, Command::DocumentMerge { index, id, .. } | Command::DocumentIndex { index, id, .. }
            if *index == self.index && *id == self.id)
            && write.origins.iter().any(|origin| (origin.offset, origin.transform) == (self.offset, self.transform))
    }
}

impl Row {
    /// Of a partition that is new.
    pub(super) fn new(token: Token, start: u64) -> Self {
        Self {
            token: text(token),
            held: false,
            next: start,
            until: start,
            deleting: Vec::new(),
            refused: Vec::new(),
            put_back: Vec::new(),
            open_digest: String::new(),
            digest: String::new(),
            since: start,
            changed_at: 0,
            epoch: 0,
            note: String::new(),
        }
    }

    pub(super) fn token(&self) -> Result<Token, SinkError> {
        u128::from_str_radix(&self.token, 16).map(Token).map_err(|_| {
            SinkError::Stop("the ledger holds a token that is none: it was tampered with; restore it".into())
        })
    }

    pub(super) fn own(&mut self, token: Token) {
        self.token = text(token);
        self.held = false;
    }

    /// Remembers that a document bears a later version than its body has.
    pub(super) fn enter_put_back(&mut self, (index, id): Target<'_>, version: u64, content: u64) {
        if content >= version {
            return;
        }
        let same = |known: &&mut PutBack| (&*known.index, &*known.id, known.version) == (index, id, version);
        if let Some(known) = self.put_back.iter_mut().find(same) {
            // What is written over it may not arrive.
            known.content = known.content.min(content);
            return;
        }
        self.put_back.push(PutBack { index: index.to_owned(), id: id.to_owned(), version, content });
        let beyond = self.put_back.len().saturating_sub(PUT_BACK);
        self.put_back.drain(..beyond);
    }

    /// Notes under which version a document was written.
    pub(super) fn written(&mut self, target: Target<'_>, version: u64, content: u64) {
        self.put_back.retain(|known| (&*known.index, &*known.id) != target || known.version > version);
        self.enter_put_back(target, version, content);
    }
}

fn text(token: Token) -> String {
    format!("{:032x}", token.0)
}

/// What is held of a topic.
#[derive(Serialize, Deserialize)]
pub(super) struct Topic {
    pub(super) partitions: u32,
    pub(super) topic_id: Option<String>,
    pub(super) epoch: u16,
}

/// The ledger of one sink.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The alias.
    pub(super) index: String,
    /// The sink's name.
    pub(super) sink: String,
}

/// What came of a change.
#[derive(Debug)]
pub(super) enum Changed {
    /// It stands.
    Done(Place),
    /// The document was changed, or made, by another meanwhile; or by a try whose answer was lost.
    Otherwise,
}

impl Ledger {
    pub(super) async fn row(&self, http: &Http, key: &LedgerKey) -> Result<Option<(Row, Place)>, SinkError> {
        self.read(http, &self.row_id(key)).await
    }

    /// Changes a row where it stands as it was read; without a place it makes one that is not there.
    pub(super) async fn set_row(
        &self,
        http: &Http,
        key: &LedgerKey,
        row: &Row,
        place: Option<Place>,
    ) -> Result<Changed, SinkError> {
        let LedgerKey { pipeline, partition } = key;
        let names = json!({"kind": "partition", "pipeline": pipeline, "topic": &*partition.topic, "partition": partition.partition});
        self.write(http, &self.row_id(key), names, row, place).await
    }

    pub(super) async fn head(&self, http: &Http, pipeline: &str) -> Result<Option<(Head, Place)>, SinkError> {
        self.read(http, &self.id("pipeline", &[pipeline])).await
    }

    pub(super) async fn set_head(
        &self,
        http: &Http,
        pipeline: &str,
        head: &Head,
        place: Option<Place>,
    ) -> Result<Changed, SinkError> {
        let names = json!({"kind": "pipeline", "pipeline": pipeline});
        self.write(http, &self.id("pipeline", &[pipeline]), names, head, place).await
    }

    /// Enters a topic where it is not there, or in any case, and answers what is there then.
    pub(super) async fn enter_topic(
        &self,
        http: &Http,
        pipeline: &str,
        topic: &str,
        head: &TopicHead,
        replace: bool,
    ) -> Result<TopicHead, SinkError> {
        let id = self.id("topic", &[pipeline, topic]);
        let names = json!({"kind": "topic", "pipeline": pipeline, "topic": topic});
        let entered = Topic { partitions: head.facts.partitions, topic_id: head.facts.id.clone(), epoch: head.epoch };
        for _ in 0..5 {
            let held: Option<(Topic, Place)> = self.read(http, &id).await?;
            let place = match held {
                Some((held, _)) if !replace => {
                    let facts = TopicFacts { partitions: held.partitions, id: held.topic_id };
                    return Ok(TopicHead { facts, epoch: held.epoch });
                }
                held => held.map(|(_, place)| place),
            };
            if let Changed::Done(_) = self.write(http, &id, names.clone(), &entered, place).await? {
                return Ok(head.clone());
            }
        }
        Err(self.contended(&id))
    }

    pub(super) fn contended(&self, what: &str) -> SinkError {
        SinkError::Retry(format!("others keep changing {what} in the ledger {}", self.index))
    }

    pub(super) fn row_id(&self, key: &LedgerKey) -> String {
        let LedgerKey { pipeline, partition } = key;
        self.id("partition", &[pipeline, &partition.topic, &partition.partition.to_string()])
    }

    /// Names have no slash in them.
    pub(super) fn id(&self, kind: &str, names: &[&str]) -> String {
        format!("{kind}/{}/{}", self.sink, names.join("/"))
    }

    /// Deletes a document of the ledger; with a place, only where it was last changed there.
    pub(super) async fn delete(&self, http: &Http, id: &str, place: Option<Place>) -> Result<(), SinkError> {
        let condition = place.map(|at| format!("if_seq_no={}&if_primary_term={}", at.seq_no, at.primary_term));
        let reply = http.delete(&[&self.index, "_doc", id], &condition.unwrap_or_default()).await?;
        match reply.status {
            // Deleted before, or changed since.
            404 | 409 => Ok(()),
            _ => reply.json(&format!("deleting {id} of the ledger {}", self.index)).map(drop),
        }
    }

    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        http: &Http,
        id: &str,
    ) -> Result<Option<(T, Place)>, SinkError> {
        #[derive(Deserialize)]
        struct Found<T> {
            _seq_no: u64,
            _primary_term: u64,
            _source: T,
        }
        let reply = http.get(&[&self.index, "_doc", id], "").await?;
        let asked = || format!("reading {id} of the ledger {}", self.index);
        if reply.status == 404 {
            let cause = reply.cause();
            // The document is missing, or the whole index: the same to whoever asks. Anything else is no Elasticsearch.
            let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            if answer["found"] == false || cause.kind == "index_not_found_exception" {
                return Ok(None);
            }
        }
        if !reply.is_success() {
            return Err(failure(&asked(), &reply));
        }
        let found: Found<T> = serde_json::from_slice(&reply.body).map_err(|e| {
            SinkError::Stop(format!(
                "{}: it is not what tidegate writes ({e}): it was tampered with; restore it",
                asked()
            ))
        })?;
        Ok(Some((found._source, Place { seq_no: found._seq_no, primary_term: found._primary_term })))
    }

    async fn write<T: Serialize>(
        &self,
        http: &Http,
        id: &str,
        names: Value,
        value: &T,
        place: Option<Place>,
    ) -> Result<Changed, SinkError> {
        let condition = match place {
            Some(Place { seq_no, primary_term }) => format!("if_seq_no={seq_no}&if_primary_term={primary_term}"),
            None => "op_type=create".to_owned(),
        };
        self.put(http, id, names, value, &format!("&{condition}")).await
    }

    /// Writes a document under this condition, a further parameter of the request.
    pub(super) async fn put<T: Serialize>(
        &self,
        http: &Http,
        id: &str,
        names: Value,
        value: &T,
        condition: &str,
    ) -> Result<Changed, SinkError> {
        let asked = format!("writing {id} of the ledger {}", self.index);
        let broken = |e: serde_json::Error| SinkError::Stop(format!("{asked}: {e}; please report this"));
        let mut body = serde_json::to_value(value).map_err(broken)?;
        if let (Value::Object(body), Value::Object(names)) = (&mut body, names) {
            body.insert("sink".into(), self.sink.as_str().into());
            body.extend(names);
        }
        // An index that was deleted must not be made again by writing to it.
        let reply = http.put(&[&self.index, "_doc", id], &format!("require_alias=true{condition}"), &body).await?;
        if reply.status == 409 {
            return Ok(Changed::Otherwise);
        }
        if reply.status == 404 && reply.cause().kind == "index_not_found_exception" {
            return Err(SinkError::Stop(format!(
                "{asked}: the ledger was deleted while the pipeline ran: restore it, or give the sink a fresh target"
            )));
        }
        #[derive(Deserialize)]
        struct Stored {
            _seq_no: u64,
            _primary_term: u64,
        }
        if !reply.is_success() {
            return Err(failure(&asked, &reply));
        }
        let stored: Stored = serde_json::from_slice(&reply.body).map_err(broken)?;
        Ok(Changed::Done(Place { seq_no: stored._seq_no, primary_term: stored._primary_term }))
    }
}
