//! New indexes, filled beside those in use and put behind their aliases: [`Replacement`] of this store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::indexes::{self, Announced, Head, Made};
use super::ledger::{Changed, Place};
use super::rollover::random;
use super::{Elasticsearch, Options};
use crate::sink::replace::{BESIDE, Replacement, Stand, Stands, next_head};
use crate::sink::{Sink, SinkError, now};
use crate::source::TopicFacts;

/// How often to look again at what others change.
const CONTENTIONS: usize = 10;

/// The indexes of one pipeline on one sink, to be replaced.
pub struct Rewind {
    pipeline: String,
    real: Elasticsearch,
    /// For the fill alone: its connections end with the fill's runtime.
    fresh: Arc<Elasticsearch>,
    /// What was behind the aliases when they were held.
    before: Mutex<Option<BTreeMap<String, Made>>>,
}

impl Rewind {
    /// Opens the sink twice, without connecting.
    ///
    /// # Errors
    /// `Stop` when the options cannot be used.
    pub fn open(options: Options, pipeline: &str) -> Result<Self, SinkError> {
        let fresh = Elasticsearch::open_with(options.clone(), BESIDE)?;
        let real = Elasticsearch::open(options)?;
        Ok(Self { pipeline: pipeline.to_owned(), real, fresh: Arc::new(fresh), before: Mutex::default() })
    }

    async fn real_head(&self) -> Result<(Head, Place), SinkError> {
        self.real.ledger.head(&self.real.http, &self.pipeline).await?.ok_or_else(|| {
            SinkError::Stop(format!(
                "the ledger {} does not know pipeline {}, so that there is nothing to replace: `tidegate run` fills its \
                 indexes from the start",
                self.real.ledger.index, self.pipeline
            ))
        })
    }

    /// What is to be put in place.
    async fn announced(&self) -> Result<Announced, SinkError> {
        let head = self.fresh.ledger.head(&self.real.http, &self.pipeline).await?.map(|(head, _)| head);
        let indexes = head.unwrap_or_default().indexes.into_iter();
        let indexes = indexes.map(|(alias, made)| (alias.trim_end_matches(BESIDE).to_owned(), made)).collect();
        let hold = i64::try_from(self.real.hold.as_millis()).unwrap_or(i64::MAX);
        Ok(Announced { until: now().saturating_add(hold), sink: self.fresh.ledger.sink.clone(), indexes })
    }

    /// Announces the replacement, or announces it for longer.
    async fn announce(&self) -> Result<(), SinkError> {
        let announced = self.announced().await?;
        for _ in 0..CONTENTIONS {
            let (mut head, place) = self.real_head().await?;
            match &head.replacement {
                Some(other) if other.indexes != announced.indexes => return Err(others()),
                None if self.before.lock().unwrap_or_else(PoisonError::into_inner).is_some() => return Err(lost()),
                _ => {}
            }
            for alias in announced.indexes.keys().filter(|alias| !head.indexes.contains_key(*alias)) {
                if indexes::look(&self.real.http, alias).await?.is_some() {
                    return Err(SinkError::Stop(format!(
                        "{alias} is there already, and the ledger does not know it: delete it, or give the sink another \
                         index_prefix"
                    )));
                }
            }
            let before = head.indexes.clone();
            head.replacement = Some(announced.clone());
            if let Changed::Done(_) =
                self.real.ledger.set_head(&self.real.http, &self.pipeline, &head, Some(place)).await?
            {
                *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
                return Ok(());
            }
        }
        Err(self.real.ledger.contended(&format!("pipeline {}", self.pipeline)))
    }

    /// Takes every row from its owner that has one.
    async fn hold_rows(&self) -> Result<(), SinkError> {
        for _ in 0..CONTENTIONS {
            let mut again = false;
            for (key, mut row, place) in self.real.ledger.rows(&self.real.http, &self.pipeline).await? {
                if row.held {
                    continue;
                }
                row.own(random()?);
                row.held = true;
                let changed = self.real.ledger.set_row(&self.real.http, &key, &row, Some(place)).await?;
                again |= matches!(changed, Changed::Otherwise);
            }
            if !again {
                return Ok(());
            }
        }
        Err(self.real.ledger.contended(&format!("pipeline {}", self.pipeline)))
    }

    /// Removes the fresh ledger.
    async fn forget(&self) -> Result<(), SinkError> {
        let (ledger, http) = (&self.fresh.ledger, &self.real.http);
        for kind in ["partition", "topic", "history", "pipeline"] {
            for id in ledger.ids(http, kind, &self.pipeline).await? {
                ledger.delete(http, &id, None).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Replacement for Rewind {
    fn fresh(&self) -> Arc<dyn Sink> {
        self.fresh.clone()
    }

    async fn discard(&self) -> Result<Vec<String>, SinkError> {
        let Some((head, _)) = self.real.settled_head(&self.pipeline).await? else { return Ok(Vec::new()) };
        let mut told = Vec::new();
        if let Some((left, _)) = self.fresh.ledger.head(&self.real.http, &self.pipeline).await? {
            for made in left.indexes.into_values().filter(|made| !head.indexes.values().any(|one| one == made)) {
                if indexes::uuid(&self.real.http, &made.index).await?.as_deref() == Some(made.uuid.as_str()) {
                    let reply = self.real.http.delete(&[&made.index], "").await?;
                    reply.json(&format!("deleting index {}", made.index))?;
                    told.push(format!("index {}", made.index));
                }
            }
        }
        self.forget().await?;
        Ok(told)
    }

    async fn begin(&self, topics: &[(String, TopicFacts)]) -> Result<(), SinkError> {
        self.real_head().await?;
        let held: BTreeMap<_, _> =
            self.real.ledger.topics(&self.real.http, &self.pipeline).await?.into_iter().collect();
        for (topic, facts) in topics {
            let head = next_head(held.get(topic), facts)?;
            self.fresh.ledger.enter_topic(&self.real.http, &self.pipeline, topic, &head, true).await?;
        }
        Ok(())
    }

    async fn stands(&self) -> Result<Vec<Stands>, SinkError> {
        let mut stands: BTreeMap<_, Stands> = BTreeMap::new();
        for (ledger, is_fresh) in [(&self.real.ledger, false), (&self.fresh.ledger, true)] {
            for (key, row, _) in ledger.rows(&self.real.http, &self.pipeline).await? {
                let stand = Stand { next: row.next, sent: row.until.max(row.next), digest: row.digest };
                let both = stands.entry(key.partition.clone());
                let both = both.or_insert(Stands { partition: key.partition, real: None, fresh: None });
                *(if is_fresh { &mut both.fresh } else { &mut both.real }) = Some(stand);
            }
        }
        Ok(stands.into_values().collect())
    }

    async fn hold(&self) -> Result<(), SinkError> {
        self.announce().await?;
        self.hold_rows().await
    }

    async fn release(&self) -> Result<(), SinkError> {
        for _ in 0..CONTENTIONS {
            let (head, place) = self.real_head().await?;
            let Some(announced) = &head.replacement else { return Ok(()) };
            if announced.indexes != self.announced().await?.indexes {
                return Ok(());
            }
            let head = Head { replacement: None, ..head };
            if let Changed::Done(_) =
                self.real.ledger.set_head(&self.real.http, &self.pipeline, &head, Some(place)).await?
            {
                return Ok(());
            }
        }
        Err(self.real.ledger.contended(&format!("pipeline {}", self.pipeline)))
    }

    async fn put_in_place(&self) -> Result<Vec<String>, SinkError> {
        let fresh = self.announced().await?.indexes;
        let (head, place) = self.real_head().await?;
        match head.replacement.clone() {
            Some(announced) if announced.indexes == fresh => {
                if !self.real.has_moved(&announced).await? && !self.real.move_to(&head, &announced).await? {
                    return Err(lost());
                }
                self.real.roll_forward(&self.pipeline, head, place).await?;
            }
            Some(_) => return Err(others()),
            // An earlier try has done it, or an owner who came upon what that had left.
            None if fresh.iter().all(|(alias, made)| head.indexes.get(alias) == Some(made)) => {}
            None => return Err(lost()),
        }
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
        let mut told = Vec::new();
        for (alias, made) in &fresh {
            told.push(match before.get(alias) {
                Some(old) => format!(
                    "alias {alias} names index {} now; nothing reads or writes {} any more: delete it when you like",
                    made.index, old.index
                ),
                None => format!("alias {alias} names index {} now", made.index),
            });
        }
        self.forget().await?;
        Ok(told)
    }
}

fn lost() -> SinkError {
    SinkError::Stop(
        "the pipeline took its indexes back, since the switch took too long; they are as they were: rewind again"
            .into(),
    )
}

fn others() -> SinkError {
    SinkError::Stop("another rewind of the pipeline is putting its indexes in place: let it end".into())
}
