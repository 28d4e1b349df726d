//! Documents in Elasticsearch (7.17, 8, 9) and OpenSearch (2, 3).
//!
//! **No transactions.** A batch is bulk requests, and the ledger is an index of its own that is moved after them. What
//! holds the two together are the documents' versions, `epoch << 48 | offset` of the event, under `external_gte`: a
//! document never goes back to an older event, and writing the same again changes nothing. Three things differ from
//! the contract of sinks for that:
//! - Commands that can be found bad here (a merge into what is missing, an id that is too long) are found before
//!   anything is sent. What only the server can refuse (a value that its mapping does not take) is found when other
//!   documents have gone through: the ledger has not moved, and the caller writes the rest again. Deletes are sent when
//!   all else of the batch has been taken. A merge that is bad only because of an earlier event of the batch may be good
//!   once the server refuses that event: so its answer is not sent, and it is named together with what the server refuses.
//! - An answer of which one command is refused may have changed other documents by then. These become again what they
//!   were: the last command of the batch that is left for one is written over it; where none is, it is put back as it was
//!   before the batch. The server checks versions before it checks the length of terms, so a conflict can hide that it
//!   would refuse a line. A line that it has not taken yet is therefore sent again under the version that is there, and the
//!   later ones of its document after it. To put documents back, those of answers with several commands are read before the
//!   bulk, by `_mget`, as those of merges are. After a crash it is unknown what a document was before: a part of an answer
//!   that is refused then stays until the next event that sets or deletes the whole document.
//! - Readers see a batch document by document, each when the index is next refreshed. tidegate never refreshes.
//!
//! **The fence.** The ledger's row is read, in real time, before the bulk, and compared and set after it. Between the
//! read and the bulk's arrival another claim may come; what then arrives late is below the versions of the new owner
//! and changes nothing, with two exceptions. A document was deleted meanwhile and its tombstone forgotten: tombstones last
//! `gc_deletes`, an hour for the indexes made here, and not beyond a clean restart of their node. And what is put back, or
//! written over what a refused answer has left, bears the very version of that answer, under which the new owner may have
//! written the document: so the row is read again, or compared and set, before each such request and each further round,
//! and a claim between that and the request's arrival is not noticed. Nothing waits here for a request longer than its
//! `timeout_ms`; the server may still execute one that was given up, also over what a second try has put back since.
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
//! - `refused`: the sets and merges that were bad before the rest was sent. A merge whose document bears a later version
//!   is done, since what is there came from this event too, and a set before a delete is not sent; unless it stands here,
//!   and is bad once more.
//! - `put_back`: documents whose bodies are older than their versions, entered before they are put back or written over;
//!   kept beyond `next`, for the last 500. A replay, or what other modules make of an event, is written over such a body
//!   unless it is older than that, under the version that is there. Every other higher version that a replay meets is a
//!   newer document, and stands. That no document was there says nothing of its age, and such a replay makes it.
//! - A merge that misses its document is bad only when the token, read again, is still the writer's own.
//!
//! **Indexes** are made at the first start alone, as `{prefix}{index}-000001` behind the alias `{prefix}{index}`, and
//! known by their UUID in the ledger. One that is missing later, or is another one, stops the pipeline: writes say
//! `require_alias`, so that none creates an index. Deletes ignore that, so the UUID is checked before them. An index that was
//! there before is used only when it stands behind the alias, agrees with the definition, and nothing was ever written to
//! it. The ledger too stands behind an alias.
//! `tidegate rewind` puts others in their place (`replace.rs`, `rollover.rs`), under the next number and the next epoch.
//!
//! **Throughput**, of documents of 230 bytes to one node of 7.17 on the same two cores, busy with other work, against a
//! bare client that sends the same bulks without versions or ledger (`elasticsearch_forms`, host not optimised): 0.32 in
//! batches of 64, where the ledger's two requests weigh most, 0.71 of 500, 0.83 of 2000. Compressed: 0.24, 0.72, 0.74; so
//! requests go out plain unless the configuration says otherwise. What it costs to read the documents of answers with two
//! commands is in docs/delivery.md.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::try_join_all;

use self::http::Http;
use self::indexes::{Made, Names};
use self::ledger::{Ledger, Place};
pub use self::replace::Rewind;
use self::write::Seat;
use super::{Declared, HistoryRow, LedgerKey, Sink, SinkError, Standing, Step, Token, TopicHead, Write, Written};
use crate::inspection::Inspection;

mod before;
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
mod write;

/// How long a replacement of indexes holds the pipeline unless it is renewed. So long the pipeline waits for one whose
/// process was killed.
const HOLD: Duration = Duration::from_secs(15);

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
    /// How long a replacement is left alone that is not renewed.
    hold: Duration,
    /// Where the heads were last changed that announce one, by pipeline, and since when this process knows.
    holds: Mutex<HashMap<String, (Place, Instant)>>,
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
            names: Names {
                prefix: options.index_prefix,
                sink: options.name.clone(),
                suffix,
                ledger: options.ledger_index.clone(),
            },
            ledger: Ledger { index: options.ledger_index, sink: format!("{}{suffix}", options.name) },
            max_request_bytes: options.max_request_bytes,
            http,
            indexes: Mutex::default(),
            seats: Mutex::default(),
            hold: HOLD,
            holds: Mutex::default(),
        })
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<LedgerKey, Seat>> {
        // Nothing is left half-done under these locks.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn indexes(&self) -> MutexGuard<'_, HashMap<String, Made>> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

    async fn positions(&self, keys: &[LedgerKey]) -> Result<Vec<Option<(Token, u64)>>, SinkError> {
        let position = async |key: &LedgerKey| {
            let row = self.ledger.row(&self.http, key).await?;
            row.map(|(row, _)| Ok((row.token()?, row.next))).transpose()
        };
        try_join_all(keys.iter().map(position)).await
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

    async fn inspect(&self, pipeline: &str, declared: &Declared) -> Result<Inspection, SinkError> {
        self.look_at_store(pipeline, declared).await
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
