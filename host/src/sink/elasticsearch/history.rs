//! Which modules made what is held of a partition.
//!
//! Since when the present digests hold stands in the partition's row, and changes with it. What held before is entered
//! beside it, as a document of its own, just before the row changes: whoever is overtaken at that has entered nothing
//! that was not true.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::http::Http;
use super::ledger::{Ledger, Row};
use crate::sink::{HISTORY_ROWS, HistoryRow, LedgerKey, SinkError};
use crate::source::TopicPartition;

/// What a row of the ledger and a document of its history have in common.
#[derive(Serialize, Deserialize)]
struct Stretch {
    since: u64,
    digest: String,
    changed_at: i64,
}

impl Ledger {
    /// Keeps the stretch that ends where other digests begin.
    pub(super) async fn keep_stretch(&self, http: &Http, key: &LedgerKey, row: &Row) -> Result<(), SinkError> {
        let LedgerKey { pipeline, partition: TopicPartition { topic, partition } } = key;
        let id = self.id("history", &[pipeline, topic, &partition.to_string(), &row.since.to_string()]);
        let names = json!({"kind": "history", "pipeline": pipeline, "topic": &**topic, "partition": partition});
        let stretch = Stretch { since: row.since, digest: row.digest.clone(), changed_at: row.changed_at };
        self.put(http, &id, names, &stretch, "").await.map(drop)
    }

    /// All stretches of a pipeline, those that last among them.
    pub(super) async fn history(&self, http: &Http, pipeline: &str) -> Result<Vec<HistoryRow>, SinkError> {
        // A search sees what a refresh has made visible.
        let refreshed = http.post(&[&self.index, "_refresh"], "", Vec::new()).await?;
        if refreshed.status == 404 && refreshed.cause().kind == "index_not_found_exception" {
            return Ok(Vec::new());
        }
        let asked = format!("searching the ledger {}", self.index);
        refreshed.json(&asked)?;
        let query = json!({
            "size": HISTORY_ROWS,
            "_source": ["topic", "partition", "since", "digest", "changed_at"],
            "sort": [{"changed_at": "desc"}, {"since": "desc"}, {"kind": "asc"}],
            "query": {"bool": {
                "filter": [
                    {"terms": {"kind": ["history", "partition"]}},
                    {"term": {"pipeline": pipeline}},
                    {"term": {"sink": self.sink}},
                    // Else nothing was written yet.
                    {"range": {"changed_at": {"gt": 0}}},
                ],
            }},
        });
        let mut answer =
            http.post(&[&self.index, "_search"], "", query.to_string().into_bytes()).await?.json(&asked)?;
        let hits = answer["hits"]["hits"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let mut rows = Vec::with_capacity(hits.len());
        for mut hit in hits {
            let (partition, stretch) = found(hit["_source"].take()).map_err(|e| {
                SinkError::Stop(format!(
                    "{asked}: a document of it is not what tidegate writes ({e}): it was tampered with; restore it"
                ))
            })?;
            rows.push(HistoryRow::new(partition, stretch.since, &stretch.digest, stretch.changed_at));
        }
        // A stretch that was kept while it lasted; or one that began again where an older one had, which is replaced.
        let mut seen = HashSet::new();
        rows.retain(|row| seen.insert((row.partition.clone(), row.offset)));
        Ok(HistoryRow::ordered(rows))
    }
}

fn found(source: Value) -> Result<(TopicPartition, Stretch), serde_json::Error> {
    #[derive(Deserialize)]
    struct Found {
        topic: String,
        partition: u32,
        #[serde(flatten)]
        stretch: Stretch,
    }
    let Found { topic, partition, stretch } = serde_json::from_value(source)?;
    Ok((TopicPartition { topic: topic.into(), partition }, stretch))
}
