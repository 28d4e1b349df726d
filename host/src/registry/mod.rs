//! Which module serves: takes up what is new, and keeps what became of it.
//!
//! A module is a name and a digest. New bytes come from the transform's file, when that changes, or by
//! [`Registry::offer`]. They are verified, compiled, started and held against grants and stores on a thread of the
//! registry's own; whatever is wrong with them there does not touch the stream.

mod watch;

use std::collections::VecDeque;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;

use self::watch::Watch;
use crate::engine::digest;
use crate::pipeline::{Exchange, Refusal};

/// How often files are looked at. What changes between two looks is taken up after the next one.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How many offers are remembered.
const REMEMBERED: usize = 100;

/// The modules of a run.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    exchanges: Vec<Exchange>,
    offers: Mutex<VecDeque<Offer>>,
}

/// New bytes for a transform, and what became of them.
#[derive(Debug, Clone)]
pub struct Offer {
    /// When they were found or sent.
    pub time: SystemTime,
    /// The pipeline.
    pub pipeline: String,
    /// The transform.
    pub transform: String,
    /// The SHA-256 of the bytes.
    pub digest: String,
    /// Where they come from.
    pub from: Origin,
    /// Why they do not serve; none where they came to.
    pub refused: Option<String>,
}

/// Where a module's bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The transform's file.
    File,
    /// Whoever asked for it.
    Upload,
}

/// The watch over the modules' files, on a thread of its own.
pub struct Watching {
    end: Sender<()>,
    thread: JoinHandle<()>,
}

impl Registry {
    /// The registry of these pipelines.
    pub fn new(exchanges: Vec<Exchange>) -> Self {
        Self { inner: Arc::new(Inner { exchanges, offers: Mutex::default() }) }
    }

    /// The pipelines' modules.
    pub fn exchanges(&self) -> &[Exchange] {
        &self.inner.exchanges
    }

    /// What was offered, the newest last.
    pub fn offers(&self) -> Vec<Offer> {
        self.inner.offers.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Has these bytes serve as the transform, if they can. Takes some 100 ms.
    ///
    /// # Errors
    /// When they cannot; the stream has not noticed then.
    pub fn offer(&self, exchange: &Exchange, transform: &str, bytes: &[u8], from: Origin) -> Result<(), Refusal> {
        let (pipeline, digest) = (exchange.pipeline().name.clone(), digest(bytes));
        if exchange.serving().iter().any(|(name, serving)| name == transform && *serving == digest) {
            return Ok(());
        }
        let begun = Instant::now();
        let answer = exchange.candidate(transform, bytes).and_then(|candidate| exchange.promote(&candidate));
        let took = begun.elapsed();
        match &answer {
            Ok(()) => tracing::info!(pipeline, transform, digest, ?from, ?took, "a new module serves"),
            Err(refusal) => {
                tracing::error!(
                    pipeline,
                    transform,
                    digest,
                    ?from,
                    "a new module is refused, the old one serves on: {refusal}"
                );
            }
        }
        let refused = answer.as_ref().err().map(ToString::to_string);
        let offer = Offer { time: SystemTime::now(), pipeline, transform: transform.to_owned(), digest, from, refused };
        let mut offers = self.inner.offers.lock().unwrap_or_else(PoisonError::into_inner);
        offers.push_back(offer);
        if offers.len() > REMEMBERED {
            offers.pop_front();
        }
        answer
    }

    /// Takes up whatever the modules' files come to hold, until [`Watching::end`].
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn watch(&self) -> anyhow::Result<Watching> {
        let registry = self.clone();
        let (end, ended) = channel();
        let run = move || {
            let mut watched: Vec<(Exchange, String, Watch)> = Vec::new();
            for exchange in registry.exchanges() {
                for transform in &exchange.pipeline().transforms {
                    let watch = Watch::new(transform.module.as_path());
                    watched.push((exchange.clone(), transform.name.clone(), watch));
                }
            }
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK_EVERY) {
                for (exchange, transform, watch) in &mut watched {
                    if let Some(bytes) = watch.look() {
                        // It has been said.
                        let _ = registry.offer(exchange, transform, &bytes, Origin::File);
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("tidegate-modules".into()).spawn(run);
        Ok(Watching { end, thread: thread.context("cannot watch the modules")? })
    }
}

impl Watching {
    /// Ends the watch.
    pub fn end(self) {
        drop(self.end);
        // It does not panic; if it did, the run has ended all the same.
        let _ = self.thread.join();
    }
}
