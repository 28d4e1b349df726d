//! A look at the store before a pipeline runs: what it would stop at, and what it would suffer from.

use serde_json::Value;

use super::Elasticsearch;
use super::indexes;
use super::mapping::{Difference, differences};
use crate::contract::Index;
use crate::inspection::Inspection;
use crate::sink::{Declared, SinkError};

/// A request that takes more of the heap than this share, 1 in so many, is refused by the server.
const HEAP_SHARE: u64 = 10;

impl Elasticsearch {
    /// What may not be looked at is told, and the rest is looked at all the same.
    pub(super) async fn look_at_store(&self, pipeline: &str, declared: &Declared) -> Result<Inspection, SinkError> {
        let mut found = Inspection::default();
        match self.server().await {
            Ok((_, problem)) => found.faults.extend(problem),
            Err(SinkError::Stop(problem)) => {
                found.faults.push(problem);
                return Ok(found);
            }
            Err(retry) => return Err(retry),
        }
        self.look_at_nodes(&mut found.faults).await?;
        match indexes::look(&self.http, &self.ledger.index).await {
            Ok(Some(ledger)) if !ledger.is_alias => found.faults.push(format!(
                "{} is an index, where the ledger's alias has to be: delete it, or give the sink another ledger_index",
                self.ledger.index
            )),
            Ok(Some(ledger)) => look_at_blocks(&self.ledger.index, &ledger.settings, &mut found.faults),
            Ok(None) => {}
            other => told(other.map(drop), &mut found.faults)?,
        }
        for index in &declared.indexes {
            let answer = self.look_at_index(pipeline, index, &mut found).await;
            told(answer, &mut found.faults)?;
        }
        Ok(found)
    }

    async fn look_at_index(&self, pipeline: &str, index: &Index, found: &mut Inspection) -> Result<(), SinkError> {
        if let Some(problem) = self.names.problem(&index.name) {
            found.faults.push(problem);
            return Ok(());
        }
        let alias = self.names.alias(&index.name);
        let (declared, _) = indexes::parts(index)?;
        let Some(stored) = indexes::look(&self.http, &alias).await? else { return Ok(()) };
        let head = self.ledger.head(&self.http, pipeline).await?.map(|(head, _)| head).unwrap_or_default();
        let known = head.indexes.get(&alias) == Some(&stored.made);
        if !known && let Some(problem) = self.not_fresh(&alias, &stored).await? {
            found.faults.push(problem);
            return Ok(());
        }
        look_at_blocks(&stored.made.index, &stored.settings, &mut found.faults);
        for difference in differences(&declared, &stored.mappings) {
            let (lines, remedy) = match difference {
                Difference::New { .. } => (&mut found.notes, "it is added when the pipeline starts"),
                Difference::Type { .. } => (
                    &mut found.faults,
                    "a field's type cannot be changed in place: `tidegate rewind` fills a new index from the start and \
                     puts it in the place of this one",
                ),
                Difference::Parameter { .. } => (
                    &mut found.notes,
                    "it is changed when the pipeline starts, where the server can; else a fresh index is needed",
                ),
            };
            lines.push(format!("index {}: {difference}: {remedy}", stored.made.index));
        }
        Ok(())
    }

    async fn look_at_nodes(&self, faults: &mut Vec<String>) -> Result<(), SinkError> {
        let path = ["_nodes", "stats", "jvm,fs"];
        let query = "filter_path=nodes.*.name,nodes.*.jvm.mem.heap_max_in_bytes";
        let stats = match self.http.get(&path, query).await?.json("looking at the nodes") {
            Ok(stats) => stats,
            Err(e) => return told(Err(e), faults),
        };
        let nodes = stats["nodes"].as_object().into_iter().flat_map(|nodes| nodes.values());
        let heap = nodes.filter_map(|node| node["jvm"]["mem"]["heap_max_in_bytes"].as_u64()).min();
        if let Some(heap) = heap
            && self.max_request_bytes as u64 > heap / HEAP_SHARE
        {
            faults.push(format!(
                "max_request_bytes is {}, and the smallest heap is {heap} bytes: the server refuses what takes more than \
                 a tenth of it: set max_request_bytes to {} or less",
                self.max_request_bytes,
                heap / HEAP_SHARE
            ));
        }
        Ok(())
    }
}

/// Blocks keep an index from being written.
fn look_at_blocks(index: &str, settings: &Value, faults: &mut Vec<String>) {
    for block in ["read_only", "read_only_allow_delete", "write", "metadata"] {
        let name = format!("index.blocks.{block}");
        if settings[&name] == "true" {
            faults.push(format!(
                "index {index} is blocked by {name}: make room where a disk is full, and set it to null"
            ));
        }
    }
}

/// A problem that will not pass is a fault.
fn told(answer: Result<(), SinkError>, faults: &mut Vec<String>) -> Result<(), SinkError> {
    match answer {
        Err(SinkError::Stop(problem)) => {
            faults.push(problem);
            Ok(())
        }
        other => other,
    }
}
