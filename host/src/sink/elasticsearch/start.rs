//! The start of a pipeline: the server is one that this sink knows, and ledger and indexes are made or found again.

use super::Elasticsearch;
use super::indexes::{self, Head, Made, Stored};
use super::ledger::{self, Changed};
use crate::contract::Index;
use crate::sink::{Declared, SinkError};

/// How often to look again at what another host is making.
const CONTENTIONS: usize = 5;

impl Elasticsearch {
    /// Makes what a first start has to make, and checks everything else.
    pub(super) async fn start(&self, pipeline: &str, declared: &Declared) -> Result<(), SinkError> {
        let (_, problem) = self.server().await?;
        if let Some(problem) = problem {
            return Err(SinkError::Stop(problem));
        }
        let problems: Vec<_> = declared.indexes.iter().filter_map(|index| self.names.problem(&index.name)).collect();
        if !problems.is_empty() {
            return Err(SinkError::Stop(problems.join("; ")));
        }
        self.make_ledger().await?;
        for _ in 0..CONTENTIONS {
            let (mut head, place) = match self.settled_head(pipeline).await? {
                Some((head, place)) => (head, Some(place)),
                None => (Head::default(), None),
            };
            self.check_indexes(&head).await?;
            let before = head.clone();
            let mut again = false;
            for index in &declared.indexes {
                let alias = self.names.alias(&index.name);
                if head.indexes.contains_key(&alias) {
                    if let Some(stored) = indexes::look(&self.http, &alias).await? {
                        indexes::agree(&self.http, &alias, index, &stored).await?;
                    }
                    continue;
                }
                match self.first(pipeline, &alias, index).await {
                    Ok(made) => {
                        head.indexes.insert(alias, made);
                    }
                    // Another host may have made it and be at work already: then the head says so by now.
                    Err(SinkError::Stop(cause)) => {
                        let now = self.ledger.head(&self.http, pipeline).await?.map(|(head, _)| head);
                        if now.unwrap_or_default() == before {
                            return Err(SinkError::Stop(cause));
                        }
                        again = true;
                        break;
                    }
                    Err(other) => return Err(other),
                }
            }
            if again {
                continue;
            }
            if (place.is_none() || head != before)
                && let Changed::Otherwise = self.ledger.set_head(&self.http, pipeline, &head, place).await?
            {
                continue;
            }
            self.indexes().extend(head.indexes);
            return Ok(());
        }
        Err(self.ledger.contended(&format!("pipeline {pipeline}")))
    }

    /// Whether every index that the ledger knows is the one that it knew.
    pub(super) async fn check_indexes(&self, head: &Head) -> Result<(), SinkError> {
        for (alias, made) in &head.indexes {
            let remedy = "give the sink another index_prefix and the pipeline another name, and new indexes are filled \
                          from the start";
            let told = match indexes::look(&self.http, alias).await? {
                None => format!(
                    "alias {alias} is gone, which the ledger knows to be index {}: put the alias back, or, where the index \
                     is gone too, {remedy}",
                    made.index
                ),
                Some(stored) if !stored.is_alias => {
                    format!(
                        "{alias} is an index and no alias any more: put the alias back on index {}, or {remedy}",
                        made.index
                    )
                }
                Some(stored) if stored.made != *made => format!(
                    "alias {alias} names index {} ({}), and the ledger belongs to {} ({}): put the alias back, or {remedy}",
                    stored.made.index, stored.made.uuid, made.index, made.uuid
                ),
                Some(_) => continue,
            };
            return Err(SinkError::Stop(told));
        }
        Ok(())
    }

    /// An index of a first start: made, or found as this start left it when it was cut short.
    async fn first(&self, pipeline: &str, alias: &str, index: &Index) -> Result<Made, SinkError> {
        let mut stored = indexes::look(&self.http, alias).await?;
        if stored.is_none() {
            let definition = indexes::definition(index, &self.names.sink, pipeline)?;
            let name = self.names.index(&index.name);
            // A fresh index has those before it beside it.
            let number = if self.names.is_fresh() { indexes::last_number(&self.http, &name).await? + 1 } else { 1 };
            let made = indexes::numbered(&name, number);
            if !indexes::make(&self.http, &made, alias, &definition).await?
                && indexes::look(&self.http, alias).await?.is_none()
            {
                return Err(SinkError::Stop(format!(
                    "index {made} is there already, without the alias {alias}: delete it, or give the sink another \
                     index_prefix"
                )));
            }
            stored = indexes::look(&self.http, alias).await?;
        }
        let Some(stored) = stored else {
            return Err(SinkError::Retry(format!("index {alias} was made and is not there yet")));
        };
        if let Some(problem) = self.not_fresh(alias, &stored).await? {
            return Err(SinkError::Stop(problem));
        }
        indexes::agree(&self.http, alias, index, &stored).await?;
        Ok(stored.made)
    }

    /// Why an index that is there cannot be the one of a first start.
    pub(super) async fn not_fresh(&self, alias: &str, stored: &Stored) -> Result<Option<String>, SinkError> {
        let remedy = "delete it, or give the sink another index_prefix";
        let ledger = indexes::uuid(&self.http, &self.ledger.index).await?;
        if stored.made.index.starts_with('.') || ledger.as_ref() == Some(&stored.made.uuid) {
            let index = &stored.made.index;
            return Ok(Some(format!(
                "alias {alias} leads to {index}, which is the server's own or the ledger's: {remedy}"
            )));
        }
        if !stored.is_alias {
            return Ok(Some(format!("{alias} is an index already, where an alias has to be: {remedy}")));
        }
        if !indexes::is_untouched(&self.http, stored).await? {
            return Ok(Some(format!(
                "index {} behind the alias {alias} holds, or has held, documents, and the ledger does not know it: where \
                 the ledger {} was lost, restore it; else {remedy}",
                stored.made.index, self.ledger.index
            )));
        }
        Ok(None)
    }

    async fn make_ledger(&self) -> Result<(), SinkError> {
        let alias = &self.ledger.index;
        let mut found = indexes::look(&self.http, alias).await?;
        if found.is_none() {
            // Another host may make it at the same time.
            indexes::make(&self.http, &indexes::numbered(alias, 1), alias, &ledger::definition()).await?;
            found = indexes::look(&self.http, alias).await?;
        }
        match found {
            Some(stored) if stored.is_alias => Ok(()),
            Some(_) => Err(SinkError::Stop(format!(
                "{alias} is an index already, where the ledger's alias has to be: delete it, or give the sink another \
                 ledger_index"
            ))),
            None => Err(SinkError::Stop(format!(
                "index {alias}-000001 is there already, without the ledger's alias {alias}: put the alias back on it, or \
                 give the sink another ledger_index"
            ))),
        }
    }

    /// What the server is, and why it cannot be used.
    pub(super) async fn server(&self) -> Result<(String, Option<String>), SinkError> {
        let answer = self.http.get(&[], "").await?.json("asking for the server's version")?;
        let version = &answer["version"];
        let Some(number) = version["number"].as_str() else {
            return Ok((
                String::new(),
                Some("what answers is neither Elasticsearch nor OpenSearch: correct the address".to_owned()),
            ));
        };
        let opensearch = version["distribution"] == "opensearch";
        let name = if opensearch { "OpenSearch" } else { "Elasticsearch" };
        let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
        let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let least = if opensearch { (2, 0) } else { (7, 17) };
        let problem = ((major, minor) < least)
            .then(|| format!("the server is {name} {number}: it must be {}.{} or later", least.0, least.1));
        Ok((format!("{name} {number}"), problem))
    }
}
