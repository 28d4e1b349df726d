//! Which module serves: takes up what is new, and keeps what became of it.
//!
//! A module is a name and a digest. New bytes come from the transform's file, when that changes, or by
//! [`Registry::offer`]. They are verified, compiled, started and held against grants and stores on a thread of the
//! registry's own, and where the configuration says so compared with what serves for a while; whatever is wrong with
//! them there does not touch the stream.

mod offer;
mod watch;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;

pub use self::offer::{Offer, Origin, State};
use self::offer::{Verdict, judge};
use self::watch::Watch;
use crate::config::Shadow;
use crate::engine::digest;
use crate::pipeline::{Candidate, Comparison, Exchange, Refusal, Until};

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
    entries: Mutex<VecDeque<Entry>>,
    /// Held while an offer is looked at: one after the other.
    offering: Mutex<()>,
}

struct Entry {
    offer: Offer,
    /// The module, as long as it may come to serve.
    candidate: Option<Arc<Candidate>>,
    /// Ends its comparison.
    stop: Arc<AtomicBool>,
}

/// Why an offer cannot be promoted.
#[derive(Debug, thiserror::Error)]
pub enum NotPromoted {
    /// There is no such offer, or it was decided about.
    #[error("there is no offer {0} that waits for a decision")]
    NotThere(u64),
    /// It cannot serve.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The watch over the modules' files, on a thread of its own.
pub struct Watching {
    end: Sender<()>,
    thread: JoinHandle<()>,
    registry: Registry,
}

impl Registry {
    /// The registry of these pipelines.
    pub fn new(exchanges: Vec<Exchange>) -> Self {
        Self { inner: Arc::new(Inner { exchanges, entries: Mutex::default(), offering: Mutex::default() }) }
    }

    /// The pipelines' modules.
    pub fn exchanges(&self) -> &[Exchange] {
        &self.inner.exchanges
    }

    /// What was offered, the newest last.
    pub fn offers(&self) -> Vec<Offer> {
        self.entries().iter().map(|entry| entry.offer.clone()).collect()
    }

    /// Takes these bytes for the transform: at once, or into the shadow of what serves, as configured. Takes some 100 ms.
    /// Answers the number of the offer; none when just these bytes serve already.
    ///
    /// # Errors
    /// When they cannot serve; the stream has not noticed then.
    pub fn offer(
        &self,
        exchange: &Exchange,
        transform: &str,
        bytes: &[u8],
        from: Origin,
    ) -> Result<Option<u64>, Refusal> {
        let (pipeline, digest) = (exchange.pipeline().name.clone(), digest(bytes));
        let _one = self.inner.offering.lock().unwrap_or_else(PoisonError::into_inner);
        if exchange.serving().iter().any(|(name, serving)| name == transform && *serving == digest) {
            self.end_shadows(&pipeline, transform);
            return Ok(None);
        }
        let offered = |state| Offer {
            id: 0,
            time: SystemTime::now(),
            pipeline: pipeline.clone(),
            transform: transform.to_owned(),
            digest: digest.clone(),
            from,
            state,
        };
        let rule = exchange.pipeline().transforms.iter().find(|one| one.name == transform);
        let rule = rule.and_then(|transform| transform.shadow.clone());
        let answer = exchange.candidate(transform, bytes).and_then(|candidate| match rule {
            Some(rule) => Ok(Some((Arc::new(candidate), rule))),
            None => exchange.promote(&candidate).map(|()| None),
        });
        match answer {
            Ok(None) => {
                self.end_shadows(&pipeline, transform);
                tracing::info!(pipeline, transform, digest, ?from, "a new module serves");
                Ok(Some(self.keep(offered(State::Promoted(None)), None).0))
            }
            Ok(Some((candidate, rule))) => {
                tracing::info!(pipeline, transform, digest, ?from, "a new module is compared with what serves");
                self.end_shadows(&pipeline, transform);
                let state = State::Shadow(Comparison::default());
                let (id, stop) = self.keep(offered(state), Some(candidate.clone()));
                let (registry, exchange) = (self.clone(), exchange.clone());
                let compare = move || registry.compare(id, &exchange, &candidate, &rule, &stop);
                thread::Builder::new()
                    .name("tidegate-shadow".into())
                    .spawn(compare)
                    .map_err(|error| Refusal::Unfit(format!("there is no thread to compare it on: {error}")))?;
                Ok(Some(id))
            }
            Err(refusal) => {
                tell_refused(&pipeline, transform, &digest, &refusal.to_string());
                self.keep(offered(State::Refused(refusal.to_string(), None)), None);
                Err(refusal)
            }
        }
    }

    /// Has the candidate of an offer serve, whatever its comparison came to.
    ///
    /// # Errors
    /// When it is not there any more, or a store cannot be made ready for it.
    pub fn promote(&self, id: u64) -> Result<(), NotPromoted> {
        let pipeline =
            self.entries().iter().find(|entry| entry.offer.id == id).map(|entry| entry.offer.pipeline.clone());
        let exchange = self.exchanges().iter().find(|one| Some(&one.pipeline().name) == pipeline.as_ref());
        let candidate = self.take_candidate(id);
        let (Some(exchange), Some(candidate)) = (exchange, candidate) else { return Err(NotPromoted::NotThere(id)) };
        match exchange.promote(&candidate) {
            Ok(()) => self.change(id, State::Promoted),
            Err(refusal) => {
                self.change(id, |comparison| State::Refused(refusal.to_string(), comparison));
                return Err(refusal.into());
            }
        }
        Ok(())
    }

    /// Drops the candidate of an offer.
    ///
    /// # Errors
    /// When it is not there any more.
    pub fn discard(&self, id: u64) -> Result<(), NotPromoted> {
        self.take_candidate(id).ok_or(NotPromoted::NotThere(id))?;
        self.change(id, |comparison| State::Refused("it was discarded".into(), comparison));
        Ok(())
    }

    /// Compares a candidate to the end, and does what follows.
    fn compare(&self, id: u64, exchange: &Exchange, candidate: &Candidate, rule: &Shadow, stop: &AtomicBool) {
        let until = Until { events: rule.events, time: rule.time };
        let tell = |comparison: &Comparison| {
            if let Some(entry) = self.entries().iter_mut().find(|entry| entry.offer.id == id)
                && let State::Shadow(known) = &mut entry.offer.state
            {
                known.clone_from(comparison);
            }
        };
        let compared = exchange.shadow(candidate, until, stop, tell);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let verdict = compared.map_or_else(
            |refusal| Verdict::Refuse(refusal.to_string()),
            |comparison| {
                tell(&comparison);
                judge(&comparison, rule)
            },
        );
        let promoted = match verdict {
            Verdict::Wait => {
                // Somebody may have decided already.
                if !self.is_open(id) {
                    return;
                }
                self.change(id, |comparison| State::Waits(comparison.unwrap_or_default()));
                let digest = candidate.digest();
                tracing::info!(pipeline = exchange.pipeline().name, digest, "a compared module waits for a word");
                return;
            }
            Verdict::Promote => Ok(()),
            Verdict::Refuse(why) => Err(why),
        };
        if self.take_candidate(id).is_none() {
            return;
        }
        match promoted.and_then(|()| exchange.promote(candidate).map_err(|refusal| refusal.to_string())) {
            Ok(()) => {
                let digest = candidate.digest();
                tracing::info!(pipeline = exchange.pipeline().name, digest, "a new module serves, as the rule says");
                self.change(id, State::Promoted);
            }
            Err(why) => {
                tell_refused(&exchange.pipeline().name, candidate.transform(), candidate.digest(), &why);
                self.change(id, |comparison| State::Refused(why, comparison));
            }
        }
    }

    /// Ends the comparisons for a transform: there is something newer.
    fn end_shadows(&self, pipeline: &str, transform: &str) {
        let open: Vec<u64> = self
            .entries()
            .iter()
            .filter(|entry| entry.offer.pipeline == pipeline && entry.offer.transform == transform)
            .map(|entry| entry.offer.id)
            .collect();
        for id in open {
            if self.take_candidate(id).is_some() {
                self.change(id, |comparison| State::Refused("something newer was offered".into(), comparison));
            }
        }
    }

    fn keep(&self, mut offer: Offer, candidate: Option<Arc<Candidate>>) -> (u64, Arc<AtomicBool>) {
        let mut entries = self.entries();
        offer.id = entries.back().map_or(1, |last| last.offer.id + 1);
        let (id, stop) = (offer.id, Arc::new(AtomicBool::new(false)));
        entries.push_back(Entry { offer, candidate, stop: stop.clone() });
        if entries.len() > REMEMBERED {
            entries.pop_front();
        }
        (id, stop)
    }

    fn change(&self, id: u64, state: impl FnOnce(Option<Comparison>) -> State) {
        if let Some(entry) = self.entries().iter_mut().find(|entry| entry.offer.id == id) {
            entry.offer.state = state(entry.offer.state.comparison().cloned());
        }
    }

    /// Takes the candidate of an offer and ends its comparison: whoever gets it decides, and nobody after that.
    fn take_candidate(&self, id: u64) -> Option<Arc<Candidate>> {
        let mut entries = self.entries();
        let entry = entries.iter_mut().find(|entry| entry.offer.id == id)?;
        entry.stop.store(true, Ordering::Relaxed);
        entry.candidate.take()
    }

    fn is_open(&self, id: u64) -> bool {
        self.entries().iter().any(|entry| entry.offer.id == id && entry.candidate.is_some())
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.inner.entries.lock().unwrap_or_else(PoisonError::into_inner)
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
                for (exchange, transform, watch) in watched.iter_mut().filter(|(exchange, ..)| exchange.is_running()) {
                    if let Some(bytes) = watch.look() {
                        // It has been said.
                        let _ = registry.offer(exchange, transform, &bytes, Origin::File);
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("tidegate-modules".into()).spawn(run);
        Ok(Watching { end, thread: thread.context("cannot watch the modules")?, registry: self.clone() })
    }
}

impl Watching {
    /// Ends the watch, and every comparison.
    pub fn end(self) {
        drop(self.end);
        // It does not panic; if it did, the run has ended all the same.
        let _ = self.thread.join();
        self.registry.entries().iter().for_each(|entry| entry.stop.store(true, Ordering::Relaxed));
    }
}

fn tell_refused(pipeline: &str, transform: &str, digest: &str, why: &str) {
    tracing::error!(pipeline, transform, digest, why, "a new module is refused, the old one serves on");
}
