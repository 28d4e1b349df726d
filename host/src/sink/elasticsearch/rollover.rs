//! The one moment in which fresh indexes take the place of others, and what becomes of it when its process dies.
//!
//! Aliases are moved in one request, which the cluster does as a whole or not at all. It takes the fresh indexes from the
//! aliases under which they were filled, and fails where they are not there: whoever takes those away first has decided
//! that nothing is replaced. So of the two, the switch and its taking back, one alone comes to pass, in whatever order and
//! however late the requests come.
//!
//! The ledger follows. Before the switch, the pipeline's head says what is to come ([`Announced`]), and the rows are held;
//! afterwards the rows are set to what the fresh ledger says, and then the head. Whoever finds a head that announces
//! something, when the aliases have moved or it was not renewed for as long as a hold lasts, finishes it in either
//! direction.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Elasticsearch;
use super::http::Http;
use super::indexes::{self, Announced, Head};
use super::ledger::{Changed, Ledger, Place, Row, Topic};
use crate::sink::replace::BESIDE;
use crate::sink::{LedgerKey, SinkError, Token, TopicHead};
use crate::source::{TopicFacts, TopicPartition};

/// How often to look again at what others change.
const CONTENTIONS: usize = 10;

impl Elasticsearch {
    /// The pipeline's head when nothing is being replaced.
    ///
    /// # Errors
    /// `Retry` while something is; else as [`SinkError`] says.
    pub(super) async fn settled_head(&self, pipeline: &str) -> Result<Option<(Head, Place)>, SinkError> {
        for _ in 0..CONTENTIONS {
            let Some((head, place)) = self.ledger.head(&self.http, pipeline).await? else { return Ok(None) };
            let Some(announced) = &head.replacement else { return Ok(Some((head, place))) };
            if self.has_moved(announced).await? {
                self.roll_forward(pipeline, head, place).await?;
                continue;
            }
            let left = self.hold_left(pipeline, place);
            if !left.is_zero() {
                return Err(SinkError::Retry(format!(
                    "its indexes are being replaced by `tidegate rewind`, for {} s more unless that renews it",
                    left.as_secs() + 1
                )));
            }
            self.take_back(announced).await?;
            if !self.has_moved(announced).await? {
                tracing::warn!(pipeline, sink = self.names.sink, "a rewind did not come to its end: the indexes stay");
                let head = Head { replacement: None, ..head };
                self.ledger.set_head(&self.http, pipeline, &head, Some(place)).await?;
            }
        }
        Err(self.ledger.contended(&format!("pipeline {pipeline}")))
    }

    /// How long to leave a replacement alone that the head announces, where it was last changed here: as long as a hold
    /// lasts since this process first saw it so. No two hosts' clocks are compared.
    fn hold_left(&self, pipeline: &str, place: Place) -> Duration {
        let mut seen = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry(pipeline.to_owned()).or_insert_with(|| (place, Instant::now()));
        if seen.0 != place {
            *seen = (place, Instant::now());
        }
        self.hold.saturating_sub(seen.1.elapsed())
    }

    /// That a row which is held was left so by a replacement that is over.
    pub(super) async fn not_replaced(&self, pipeline: &str) -> Result<(), SinkError> {
        match self.ledger.head(&self.http, pipeline).await? {
            Some((Head { replacement: Some(_), .. }, _)) => {
                Err(SinkError::Retry("its indexes are being replaced by `tidegate rewind`".into()))
            }
            _ => Ok(()),
        }
    }

    /// The same for a row that was made just now; where something is being replaced, the row is held too.
    pub(super) async fn not_replaced_behind(
        &self,
        key: &LedgerKey,
        row: &mut Row,
        place: Place,
    ) -> Result<(), SinkError> {
        let answer = self.not_replaced(&key.pipeline).await;
        if answer.is_err() {
            row.held = true;
            self.ledger.set_row(&self.http, key, row, Some(place)).await?;
        }
        answer
    }

    /// Whether the aliases of readers name the announced indexes.
    pub(super) async fn has_moved(&self, announced: &Announced) -> Result<bool, SinkError> {
        let Some((alias, made)) = announced.indexes.first_key_value() else { return Ok(true) };
        Ok(indexes::uuid(&self.http, alias).await?.as_deref() == Some(made.uuid.as_str()))
    }

    /// Takes from the fresh indexes the aliases without which they cannot be put in place, unless they were.
    async fn take_back(&self, announced: &Announced) -> Result<(), SinkError> {
        let removed = announced.indexes.iter().map(|(alias, made)| {
            json!({"remove": {"index": made.index, "alias": format!("{alias}{BESIDE}"), "must_exist": true}})
        });
        self.move_aliases(removed.collect()).await.map(drop)
    }

    /// Moves the aliases of readers to the announced indexes. False where the fresh aliases are gone.
    pub(super) async fn move_to(&self, head: &Head, announced: &Announced) -> Result<bool, SinkError> {
        let mut actions = Vec::new();
        for (alias, made) in &announced.indexes {
            let fresh = format!("{alias}{BESIDE}");
            actions.push(json!({"remove": {"index": made.index, "alias": fresh, "must_exist": true}}));
            if let Some(old) = head.indexes.get(alias) {
                actions.push(json!({"remove": {"index": old.index, "alias": alias, "must_exist": true}}));
            }
            actions.push(json!({"add": {"index": made.index, "alias": alias, "is_write_index": true}}));
        }
        self.move_aliases(actions).await
    }

    /// False where one of the aliases or indexes is not there; then nothing is changed.
    async fn move_aliases(&self, actions: Vec<Value>) -> Result<bool, SinkError> {
        let body = json!({ "actions": actions }).to_string().into_bytes();
        let reply = self.http.post(&["_aliases"], "", body).await?;
        if reply.status == 404 {
            return Ok(false);
        }
        reply.json("moving aliases").map(|_| true)
    }

    /// Sets the ledger to what the fresh one says. Others may be at the same: a row is set once, since it is not held
    /// afterwards.
    pub(super) async fn roll_forward(&self, pipeline: &str, head: Head, place: Place) -> Result<(), SinkError> {
        let Some(announced) = head.replacement else { return Ok(()) };
        let fresh = Ledger { index: self.ledger.index.clone(), sink: announced.sink };
        let rows = fresh.rows(&self.http, pipeline).await?;
        for (key, row, _) in &rows {
            for _ in 0..CONTENTIONS {
                let real = self.ledger.row(&self.http, key).await?;
                let place = match real {
                    Some((real, place)) if real.held => {
                        if !real.digest.is_empty() {
                            self.ledger.keep_stretch(&self.http, key, &real).await?;
                        }
                        Some(place)
                    }
                    Some(_) => break,
                    None => None,
                };
                let mut row = row.clone();
                row.own(random()?);
                if let Changed::Done(_) = self.ledger.set_row(&self.http, key, &row, place).await? {
                    break;
                }
            }
        }
        let known: BTreeMap<_, _> = rows.iter().map(|(key, ..)| (&key.partition, ())).collect();
        for (key, row, place) in self.ledger.rows(&self.http, pipeline).await? {
            // The fresh indexes have nothing of it, and begin with it when it is there again.
            if row.held && !known.contains_key(&key.partition) {
                self.ledger.delete(&self.http, &self.ledger.row_id(&key), Some(place)).await?;
            }
        }
        for (topic, held) in fresh.topics(&self.http, pipeline).await? {
            self.ledger.enter_topic(&self.http, pipeline, &topic, &held, true).await?;
        }
        let mut indexes = head.indexes;
        indexes.extend(announced.indexes);
        // Where another was quicker, it has done the same.
        self.ledger.set_head(&self.http, pipeline, &Head { indexes, replacement: None }, Some(place)).await?;
        Ok(())
    }
}

impl Ledger {
    /// All rows of a pipeline.
    pub(super) async fn rows(&self, http: &Http, pipeline: &str) -> Result<Vec<(LedgerKey, Row, Place)>, SinkError> {
        let found = self.all(http, "partition", pipeline).await?;
        found
            .into_iter()
            .map(|(topic, partition, row, place)| {
                let partition = TopicPartition { topic: topic.into(), partition };
                Ok((LedgerKey { pipeline: pipeline.to_owned(), partition }, row, place))
            })
            .collect()
    }

    /// All topics of a pipeline.
    pub(super) async fn topics(&self, http: &Http, pipeline: &str) -> Result<Vec<(String, TopicHead)>, SinkError> {
        let found = self.all::<Topic>(http, "topic", pipeline).await?;
        let head = |held: Topic| TopicHead {
            facts: TopicFacts { partitions: held.partitions, id: held.topic_id },
            epoch: held.epoch,
        };
        Ok(found.into_iter().map(|(topic, _, held, _)| (topic, head(held))).collect())
    }
}

/// The most documents of one kind that a pipeline has in the ledger.
const MOST: usize = 10_000;

impl Ledger {
    /// All documents of this kind that a pipeline has, whatever a refresh has shown so far: topic, partition (0 where it
    /// has none), content and place.
    async fn all<T: DeserializeOwned>(
        &self,
        http: &Http,
        kind: &str,
        pipeline: &str,
    ) -> Result<Vec<(String, u32, T, Place)>, SinkError> {
        #[derive(Deserialize)]
        struct Hit {
            _seq_no: u64,
            _primary_term: u64,
            _source: Value,
        }
        #[derive(Deserialize)]
        struct Names {
            topic: String,
            #[serde(default)]
            partition: u32,
        }
        let tampered = |e: serde_json::Error| {
            SinkError::Stop(format!(
                "searching the ledger {}: a document of it is not what tidegate writes ({e}): it was tampered with; \
                 restore it",
                self.index
            ))
        };
        let hits = self.search(http, kind, pipeline, true).await?;
        let each = hits.into_iter().map(|hit| {
            let hit: Hit = serde_json::from_value(hit).map_err(tampered)?;
            let names: Names = serde_json::from_value(hit._source.clone()).map_err(tampered)?;
            let content = serde_json::from_value(hit._source).map_err(tampered)?;
            Ok((names.topic, names.partition, content, Place::new(hit._seq_no, hit._primary_term)))
        });
        each.collect()
    }

    /// The ids of the same.
    pub(super) async fn ids(&self, http: &Http, kind: &str, pipeline: &str) -> Result<Vec<String>, SinkError> {
        let hits = self.search(http, kind, pipeline, false).await?;
        Ok(hits.iter().filter_map(|hit| hit["_id"].as_str().map(ToOwned::to_owned)).collect())
    }

    async fn search(&self, http: &Http, kind: &str, pipeline: &str, whole: bool) -> Result<Vec<Value>, SinkError> {
        let asked = format!("searching the ledger {}", self.index);
        http.post(&[&self.index, "_refresh"], "", Vec::new()).await?.json(&asked)?;
        let query = json!({
            "size": MOST, "_source": whole, "seq_no_primary_term": true,
            "query": {"bool": {"filter": [
                {"term": {"kind": kind}}, {"term": {"pipeline": pipeline}}, {"term": {"sink": self.sink}},
            ]}},
        });
        // All of them, or none: what follows would leave out those of a shard that is away.
        let all = "allow_partial_search_results=false";
        let reply = http.post(&[&self.index, "_search"], all, query.to_string().into_bytes()).await?;
        let mut answer = reply.json(&asked)?;
        Ok(answer["hits"]["hits"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }
}

/// A token that nobody has.
pub(super) fn random() -> Result<Token, SinkError> {
    let half = || getrandom::u64().map_err(|e| SinkError::Stop(format!("the system gives no random numbers: {e}")));
    Ok(Token(u128::from(half()?) << 64 | u128::from(half()?)))
}
