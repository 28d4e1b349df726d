//! Documents in Elasticsearch (7.17, 8, 9) and OpenSearch (2, 3).
//!
//! **No transactions.** A batch is bulk requests, and the ledger is an index of its own that is moved after them. What
//! holds the two together are the documents' versions, `epoch << 48 | offset` of the event, under `external_gte`: a
//! document never goes back to an older event, and writing the same again changes nothing. Three things differ from
//! the contract of sinks for that:
//! - Commands that can be found bad here (a merge into what is missing, an id that is too long) are found before
//!   anything is sent. What only the server can refuse (a value that its mapping does not take) is found when other
//!   documents have gone through: the ledger has not moved, and the caller writes the rest again. Deletes are sent when
//!   all else of the batch has been taken.
//! - Documents of an answer of which another command was refused are written over when the rest of the batch writes
//!   them. Where nothing else does, they stay until their next event.
//! - Readers see a batch document by document, each when the index is next refreshed. tidegate never refreshes.
//!
//! **The fence.** The ledger's row is read, in real time, before the bulk, and compared and set after it. Between the
//! read and the bulk's arrival another claim may come; what then arrives late is below the versions of the new owner
//! and changes nothing, unless a document was deleted meanwhile and its tombstone forgotten: tombstones last
//! `gc_deletes`, an hour for the indexes made here, and not beyond a clean restart of their node. No request outlives its
//! `timeout_ms` here.
//!
//! **After a crash** between bulk and ledger, the next owner brings the same events under other cuts. The row says what
//! it may find (all offsets from `next` on):
//! - `until`: no owner has ever sent an offset at or above it. It is raised before a bulk that goes beyond; as each write
//!   of the ledger sets it one batch ahead, that is seldom a request of its own. A version conflict is success when the
//!   version there is below `until` and this write is in the stretch that the claim found open, or a second try of the
//!   same batch. Every other conflict stops the pipeline: somebody else wrote that document.
//! - `deleting`: the ids that were deleted with `next` still below, entered before they are. The event before such a
//!   delete would, once tombstones are forgotten, bring the document back for a while: under the same modules it is
//!   left out, since the delete comes again. A merge before it misses its document, and is done rather than bad.
//! - `refused`: the merges that were bad before the rest was sent. A merge whose document bears a later version is done,
//!   since what is there came from this event too; unless it stands here, and is bad once more.
//! - A merge that misses its document is bad only when the token, read again, is still the writer's own.
//!
//! **Indexes** are made at the first start alone, as `{prefix}{index}-000001` behind the alias `{prefix}{index}`, and
//! known by their UUID in the ledger. One that is missing, or is another, later on stops the pipeline: writes say
//! `require_alias`, so that none makes one by the way; deletes, for which that does not hold, are sent after a look. An index that was there before is used only when it stands behind
//! the alias, agrees with the definition, and nothing was ever written to it. The ledger too stands behind an alias.
//! `tidegate rewind` puts others in their place (`replace.rs`, `rollover.rs`), under the next number and the next epoch.
//!
//! **Throughput**, of documents of 230 bytes to one node of 7.17 on the same two cores, busy with other work, against a
//! bare client that sends the same bulks without versions or ledger (`elasticsearch_forms`, host not optimised): 0.32 in
//! batches of 64, where the ledger's two requests weigh most, 0.71 of 500, 0.83 of 2000. Compressed: 0.24, 0.72, 0.74; so
//! requests go out plain unless the configuration says otherwise.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use self::bulk::{Bulk, Line};
use self::http::Http;
use self::indexes::{Made, Names};
use self::ledger::{Changed, Deleting, Ledger, Place, Refused, Row};
use self::plan::{Plan, Versions, plan};
pub use self::replace::Rewind;
use super::{Declared, HistoryRow, LedgerKey, Sink, SinkError, Standing, Step, Token, TopicHead, Write, Written, now};
use crate::inspection::Inspection;

mod bulk;
mod error;
mod history;
mod http;
mod indexes;
mod inspect;
mod ledger;
mod mapping;
mod plan;
mod replace;
mod rollover;
mod start;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

/// The most offsets that `until` is set ahead.
const AHEAD: u64 = 10_000;
/// How often a row that others change is read again.
const CONTENTIONS: usize = 5;

/// Who the client says it is.
#[derive(Clone)]
pub enum Credentials {
    /// A user and a password.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// An API key: `id:key`, or as the server encodes it.
    ApiKey(String),
}

/// How to open the sink.
#[derive(Clone)]
pub struct Options {
    /// The sink's name in the configuration, under which the ledger keeps its rows.
    pub name: String,
    /// The addresses of one cluster, of http or https.
    pub urls: Vec<String>,
    /// Credentials; none where the cluster asks for none.
    pub credentials: Option<Credentials>,
    /// Certificates to trust, PEM; none trusts those of the system.
    pub ca: Option<PathBuf>,
    /// What the names of indexes begin with.
    pub index_prefix: String,
    /// The alias of the ledger's index.
    pub ledger_index: String,
    /// Requests are cut at this many bytes, uncompressed; a larger document is a request by itself.
    pub max_request_bytes: usize,
    /// Whether requests are compressed.
    pub compress: bool,
    /// How long a request may take.
    pub timeout_ms: u64,
}

/// The sink.
pub struct Elasticsearch {
    names: Names,
    max_request_bytes: usize,
    http: Http,
    ledger: Ledger,
    /// The index behind each alias, as the ledger knows it.
    indexes: Mutex<HashMap<String, Made>>,
    seats: Mutex<HashMap<LedgerKey, Seat>>,
}

/// What this process knows of a partition that it claimed.
#[derive(Debug, Clone)]
struct Seat {
    token: Token,
    /// Offsets below may have been sent before the claim.
    open: u64,
    /// The batch that was tried last: where it begins, and the highest end it was tried with.
    tried: (u64, u64),
    /// Whether the server refused commands of that batch.
    redo: bool,
    /// The merges of that batch that were refused.
    refused: Vec<Refused>,
}

impl Elasticsearch {
    /// Opens the sink, without connecting.
    ///
    /// # Errors
    /// `Stop` when the options cannot be used.
    pub fn open(options: Options) -> Result<Self, SinkError> {
        Self::open_with(options, "")
    }

    /// The same with this behind the sink's name in the ledger, and behind each alias.
    fn open_with(options: Options, suffix: &'static str) -> Result<Self, SinkError> {
        let http = Http::new(&options)?;
        Ok(Self {
            ledger: Ledger { index: options.ledger_index, sink: format!("{}{suffix}", options.name) },
            names: Names { prefix: options.index_prefix, sink: options.name, suffix },
            max_request_bytes: options.max_request_bytes,
            http,
            indexes: Mutex::default(),
            seats: Mutex::default(),
        })
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<LedgerKey, Seat>> {
        // Nothing is left half-done under these locks.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn indexes(&self) -> MutexGuard<'_, HashMap<String, Made>> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seat(&self, step: &Step<'_>, row: &Row) -> Seat {
        let fresh = Seat { token: step.token, open: row.until, tried: (0, 0), redo: false, refused: Vec::new() };
        self.seats().get(step.key).cloned().filter(|seat| seat.token == step.token).unwrap_or(fresh)
    }

    async fn claim_row(&self, key: &LedgerKey, token: Token, start: u64) -> Result<Standing, SinkError> {
        let Some((head, _)) = self.settled_head(&key.pipeline).await? else {
            return Err(SinkError::Stop(format!(
                "pipeline {} is not entered in the ledger {}: its ledger was deleted while it ran; restart to begin afresh",
                key.pipeline, self.ledger.index
            )));
        };
        self.check_indexes(&head).await?;
        self.indexes().extend(head.indexes);
        for _ in 0..CONTENTIONS {
            let found = self.ledger.row(&self.http, key).await?;
            let known = found.is_some();
            let (mut row, place) = match found {
                Some((row, place)) => (row, Some(place)),
                None => (Row::new(token, start), None),
            };
            if row.held {
                self.not_replaced(&key.pipeline).await?;
            }
            row.own(token);
            if let Changed::Done(place) = self.ledger.set_row(&self.http, key, &row, place).await? {
                if !known {
                    // A row that a replacement could not hold, since it was not there yet.
                    self.not_replaced_behind(key, &mut row, place).await?;
                }
                let mut seats = self.seats();
                // A store that lost the ledger's last writes need not have lost the documents.
                let sent = seats.get(key).map_or(0, |seat| seat.tried.1);
                let seat = Seat { token, open: row.until.max(sent), tried: (0, 0), redo: false, refused: Vec::new() };
                seats.insert(key.clone(), seat);
                return Ok(Standing { next: row.next, known, note: row.note });
            }
        }
        Err(self.ledger.contended(&key.partition.to_string()))
    }

    async fn write_batch(&self, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, SinkError> {
        let Some((mut row, mut place)) = self.ledger.row(&self.http, step.key).await? else {
            return Ok(Written::LedgerMissing);
        };
        if let Some(refused) = refused(step, &row)? {
            return Ok(refused);
        }
        let mut seat = self.seat(step, &row);
        if step.from != seat.tried.0 {
            seat = Seat { tried: (step.from, 0), redo: false, refused: Vec::new(), ..seat };
        }
        // What comes once more was only in doubt.
        seat.refused.retain(|refused| !writes.iter().any(|write| refused.is_of(write)));
        let mut open = if step.from < seat.open { seat.open } else { 0 };
        if step.from == step.to {
            // What was sent since is all of this pipeline's.
            open = open.max(step.to);
        }
        let versions = Versions::new(step.epoch, open.max(seat.tried.1))?;

        let Plan { sets, deletes, deleting, bad, missed } =
            plan(&self.http, &self.names, step, &row, versions, writes).await?;
        if missed && let Some(refused) = self.refused_now(step).await? {
            return Ok(refused);
        }
        if !bad.is_empty() {
            seat.refused.extend(plan::refused_merges(writes, &bad));
            self.seats().insert(step.key.clone(), seat);
            return Ok(Written::Rejected(bad));
        }

        let indexes = self.indexes().clone();
        let bulk = Bulk {
            http: &self.http,
            max_bytes: self.max_request_bytes,
            indexes: &indexes,
            bound: versions.bound,
            end: versions.of(step.to)?,
            redo: seat.redo,
        };
        if !sets.is_empty() || !deletes.is_empty() {
            seat.tried.1 = seat.tried.1.max(step.to);
            self.seats().insert(step.key.clone(), seat.clone());
        }
        for (lines, deleting) in [(sets, Vec::new()), (deletes, deleting)] {
            if lines.is_empty() {
                continue;
            }
            if !deleting.is_empty() {
                self.check_targets(&lines, &indexes).await?;
            }
            if announce(&mut row, step, deleting, &seat.refused) {
                match self.ledger.set_row(&self.http, step.key, &row, Some(place)).await? {
                    Changed::Done(now) => place = now,
                    Changed::Otherwise => return self.overtaken(step).await,
                }
            }
            let bad = bulk.send(lines).await?;
            if !bad.is_empty() {
                seat.redo = true;
                seat.refused.extend(plan::refused_merges(writes, &bad));
                self.seats().insert(step.key.clone(), seat);
                return Ok(Written::Rejected(bad));
            }
        }
        self.advance(step, row, place, !writes.is_empty()).await
    }

    /// Whether the indexes are there to delete from. `require_alias` does not hold for deletes: one with a version
    /// makes the index that it misses.
    async fn check_targets(&self, lines: &[Line<'_>], indexes: &HashMap<String, Made>) -> Result<(), SinkError> {
        let aliases: BTreeSet<&str> = lines.iter().map(|line| line.alias.as_str()).collect();
        for alias in aliases {
            let expected = indexes.get(alias).map(|made| &made.uuid);
            if expected.is_none() || indexes::uuid(&self.http, alias).await?.as_ref() != expected {
                return Err(SinkError::Stop(format!(
                    "alias {alias} is gone, or names another index than the one that the ledger knows. Put it back, or, \
                     where that index is gone too, give the sink another index_prefix and the pipeline another name, \
                     and new indexes are filled from the start"
                )));
            }
        }
        Ok(())
    }

    /// Moves the row to the step's end.
    async fn advance(&self, step: &Step<'_>, mut row: Row, place: Place, wrote: bool) -> Result<Written, SinkError> {
        row.next = step.to;
        let ahead = if wrote { (step.to - step.from).min(AHEAD) } else { 0 };
        row.until = row.until.max(step.to.saturating_add(ahead));
        row.deleting.retain(|deleting| deleting.offset >= step.to);
        row.refused.retain(|refused| refused.offset >= step.to);
        if row.digest != step.digest {
            if !row.digest.is_empty() {
                self.ledger.keep_stretch(&self.http, step.key, &row).await?;
            }
            step.digest.clone_into(&mut row.digest);
            (row.since, row.changed_at) = (step.from, now().max(row.changed_at));
        }
        step.note.clone_into(&mut row.note);
        row.epoch = step.epoch;
        match self.ledger.set_row(&self.http, step.key, &row, Some(place)).await? {
            Changed::Done(_) => Ok(Written::Applied),
            Changed::Otherwise => self.overtaken(step).await,
        }
    }

    /// Why a row is not as it was a moment ago.
    async fn overtaken(&self, step: &Step<'_>) -> Result<Written, SinkError> {
        match self.refused_now(step).await? {
            Some(refused) => Ok(refused),
            None => Err(self.ledger.contended(&step.key.partition.to_string())),
        }
    }

    async fn refused_now(&self, step: &Step<'_>) -> Result<Option<Written>, SinkError> {
        match self.ledger.row(&self.http, step.key).await? {
            Some((row, _)) => refused(step, &row),
            None => Ok(Some(Written::LedgerMissing)),
        }
    }
}

/// What to answer when the row does not let the step through.
fn refused(step: &Step<'_>, row: &Row) -> Result<Option<Written>, SinkError> {
    let token = row.token()?;
    let lets = token == step.token && row.next == step.from;
    Ok((!lets).then(|| step.refused(token, row.next)))
}

/// Enters what is about to be sent; true when the row has to be written for that.
fn announce(row: &mut Row, step: &Step<'_>, deleting: Vec<Deleting>, refused: &[Refused]) -> bool {
    let before = row.clone();
    row.until = row.until.max(step.to);
    let is_first = row.deleting.is_empty() && row.refused.is_empty();
    for entry in deleting {
        let same = |known: &Deleting| (&known.index, &known.id) == (&entry.index, &entry.id);
        match row.deleting.iter_mut().find(|known| same(known)) {
            Some(known) => known.offset = known.offset.max(entry.offset),
            None => row.deleting.push(entry),
        }
    }
    for entry in refused {
        if !row.refused.contains(entry) {
            row.refused.push(entry.clone());
        }
    }
    if is_first {
        step.digest.clone_into(&mut row.open_digest);
    } else if row.open_digest != step.digest && (&row.deleting, &row.refused) != (&before.deleting, &before.refused) {
        row.open_digest.clear();
    }
    let same = (row.until, &row.deleting, &row.refused) == (before.until, &before.deleting, &before.refused);
    !same
}

#[async_trait]
impl Sink for Elasticsearch {
    async fn knows(&self, pipeline: &str) -> Result<bool, SinkError> {
        self.ledger.head(&self.http, pipeline).await.map(|head| head.is_some())
    }

    async fn prepare(&self, pipeline: &str, declared: &Declared) -> Result<(), SinkError> {
        self.start(pipeline, declared).await
    }

    async fn enter_topic(
        &self,
        pipeline: &str,
        topic: &str,
        head: &TopicHead,
        replace: bool,
    ) -> Result<TopicHead, SinkError> {
        self.ledger.enter_topic(&self.http, pipeline, topic, head, replace).await
    }

    async fn claim(&self, key: &LedgerKey, token: Token, start: u64) -> Result<Standing, SinkError> {
        self.claim_row(key, token, start).await
    }

    async fn write(&self, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, SinkError> {
        step.check()?;
        match self.write_batch(step, writes).await {
            // What looks wrong to an owner who was put out meanwhile is another's business.
            Err(SinkError::Stop(cause)) => match self.refused_now(step).await {
                Ok(Some(refused)) => Ok(refused),
                _ => Err(SinkError::Stop(cause)),
            },
            answer => answer,
        }
    }

    async fn history(&self, pipeline: &str) -> Result<Vec<HistoryRow>, SinkError> {
        self.ledger.history(&self.http, pipeline).await
    }

    async fn clear_cache(&self, _pipeline: &str, _keys: &[String]) -> Result<(), SinkError> {
        Err(SinkError::Stop("documents are no cache, and are not cleared".into()))
    }

    async fn inspect(&self, declared: &Declared) -> Result<Inspection, SinkError> {
        self.look_at_store(declared).await
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password",
            Self::ApiKey(_) => "ApiKey",
        })
    }
}

impl fmt::Debug for Elasticsearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elasticsearch").field("http", &self.http).finish_non_exhaustive()
    }
}
