//! Which module serves: takes up what is new, and keeps what became of it.
//!
//! A module is a name and a digest. New bytes come from the transform's file, when that changes, or by
//! [`Registry::offer`]. They are verified, compiled, started and held against grants and stores on a thread of the
//! registry's own, and where the configuration says so compared with what serves for a while; whatever is wrong with
//! them there does not touch the stream.

mod files;
mod offer;
mod watch;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::SystemTime;

pub use self::files::Watching;
pub use self::offer::{Offer, Origin, State};
use self::offer::{Verdict, judge};
use crate::config::Shadow;
use crate::engine::digest;
use crate::limits::{OFFERS, REASON, cut};
use crate::pipeline::{Candidate, Comparison, Exchange, Refusal, Until};

/// How many uploads for a transform may be looked at or wait for it.
const CHECKED: usize = 2;

/// The modules of a run.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    exchanges: Vec<Exchange>,
    /// What each of them began with: name of the transform, and digest.
    first: Vec<Vec<(String, String)>>,
    entries: Mutex<VecDeque<Entry>>,
    /// The number of the last offer.
    last: AtomicU64,
    /// Of each transform, held while an offer for it is looked at: one after the other. Those for others go on meanwhile.
    offering: Vec<Vec<Mutex<()>>>,
}

struct Entry {
    offer: Offer,
    /// The module, as long as it may come to serve.
    candidate: Option<Arc<Candidate>>,
    /// Ends its comparison.
    stop: Arc<AtomicBool>,
}

/// How a module that is offered comes to serve.
#[derive(Debug, Clone)]
pub enum How {
    /// As the transform's configuration says.
    Configured,
    /// At once.
    AtOnce,
    /// After this comparison with what serves.
    Compared(Shadow),
}

/// Why an upload was not looked at.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// Too many are.
    #[error("{0} modules for this transform are being looked at already")]
    Busy(usize),
    /// The system gives none.
    #[error("there is no thread to look at it: {0}")]
    NoThread(std::io::Error),
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

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("offers", &self.offers()).finish()
    }
}

impl Registry {
    /// The registry of these pipelines.
    pub fn new(exchanges: Vec<Exchange>) -> Self {
        let first: Vec<_> = exchanges.iter().map(Exchange::serving).collect();
        let offering = first.iter().map(|of| of.iter().map(|_| Mutex::default()).collect()).collect();
        Self {
            inner: Arc::new(Inner { exchanges, first, entries: Mutex::default(), last: AtomicU64::new(0), offering }),
        }
    }

    /// The pipelines' modules.
    pub fn exchanges(&self) -> &[Exchange] {
        &self.inner.exchanges
    }

    /// What was offered, the newest last.
    pub fn offers(&self) -> Vec<Offer> {
        self.entries().iter().map(|entry| entry.offer.clone()).collect()
    }

    /// Takes these bytes for the transform: at once, or into the shadow of what serves. Takes some 100 ms. Answers the
    /// number of the offer; none when just these bytes serve already.
    ///
    /// # Errors
    /// When they cannot serve; the stream has not noticed then.
    pub fn offer(
        &self,
        exchange: &Exchange,
        transform: &str,
        bytes: &[u8],
        from: Origin,
        how: How,
    ) -> Result<Option<u64>, Refusal> {
        let digest = digest(bytes);
        if self.serves_already(exchange, transform, &digest) {
            return Ok(None);
        }
        let id = self.keep(exchange, transform, &digest, from);
        self.check(id, exchange, transform, bytes, how).map(|()| Some(id))
    }

    /// Takes these bytes for the transform as [`Registry::offer`] does, on a thread of its own, and answers the number of
    /// the offer at once; what became of them stands in [`Registry::offers`]. None when they serve already.
    ///
    /// # Errors
    /// When too many others are being looked at, or there is no thread.
    pub fn upload(
        &self,
        exchange: &Exchange,
        transform: &str,
        bytes: Vec<u8>,
        how: How,
    ) -> Result<Option<u64>, NotTaken> {
        let digest = digest(&bytes);
        if self.serves_already(exchange, transform, &digest) {
            return Ok(None);
        }
        let is_checked = |entry: &&Entry| {
            let offer = &entry.offer;
            let is_for_it = offer.pipeline == *exchange.pipeline().name && offer.transform == transform;
            is_for_it && matches!(offer.state, State::Checking)
        };
        if self.entries().iter().filter(is_checked).count() >= CHECKED {
            return Err(NotTaken::Busy(CHECKED));
        }
        let id = self.keep(exchange, transform, &digest, Origin::Upload);
        let (registry, exchange, transform) = (self.clone(), exchange.clone(), transform.to_owned());
        // What came of it is kept.
        let check = move || drop(registry.check(id, &exchange, &transform, &bytes, how));
        thread::Builder::new().name("tidegate-upload".into()).spawn(check).map_err(|error| {
            self.change(id, |comparison| State::Refused(error.to_string(), comparison));
            NotTaken::NoThread(error)
        })?;
        Ok(Some(id))
    }

    /// Whether just this module serves. Then it is what is wanted, and nothing else is to come.
    fn serves_already(&self, exchange: &Exchange, transform: &str, digest: &str) -> bool {
        let serves = exchange.serving().iter().any(|(name, serving)| name == transform && serving == digest);
        if serves {
            self.end_shadows(&exchange.pipeline().name, transform, None);
        }
        serves
    }

    /// Looks at what was offered for a transform, one after the other, and has it serve or compared. Compiling may take long;
    /// offers for other transforms go on meanwhile.
    fn check(&self, id: u64, exchange: &Exchange, transform: &str, bytes: &[u8], how: How) -> Result<(), Refusal> {
        let pipeline = &exchange.pipeline().name;
        let _one = self.offering(exchange, transform);
        let rule = match how {
            How::AtOnce => None,
            How::Compared(rule) => Some(rule),
            How::Configured => {
                let configured = exchange.pipeline().transforms.iter().find(|one| one.name == transform);
                configured.and_then(|transform| transform.shadow.clone())
            }
        };
        let candidate = if self.is_outdone(id, pipeline, transform) {
            Err(Refusal::Outdone)
        } else {
            exchange.candidate(transform, bytes)
        };
        let taken = candidate.and_then(|candidate| match rule {
            None => exchange.promote(&candidate).map(|()| {
                self.end_shadows(pipeline, transform, Some(id));
                tracing::info!(pipeline = &**pipeline, transform, digest = candidate.digest(), "a new module serves");
                self.change(id, State::Promoted);
            }),
            Some(rule) => self.begin_comparison(id, exchange, candidate, rule),
        });
        taken.inspect_err(|refusal| {
            tell_refused(exchange, transform, &digest(bytes), &refusal.to_string());
            self.change(id, |comparison| State::Refused(refusal.to_string(), comparison));
        })
    }

    /// Waits until no other offer for the transform is looked at.
    fn offering(&self, exchange: &Exchange, transform: &str) -> Option<MutexGuard<'_, ()>> {
        let number = self.exchanges().iter().position(|one| one.pipeline().name == exchange.pipeline().name)?;
        let place = exchange.pipeline().transforms.iter().position(|one| one.name == transform)?;
        let one = self.inner.offering.get(number)?.get(place)?;
        Some(one.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether something that was offered for the transform later has come to serve, or is compared: those who wait are not
    /// let in by their age.
    fn is_outdone(&self, id: u64, pipeline: &str, transform: &str) -> bool {
        let is_later = |entry: &Entry| {
            let offer = &entry.offer;
            offer.id > id && offer.pipeline == pipeline && offer.transform == transform
        };
        self.entries().iter().any(|entry| {
            is_later(entry) && matches!(entry.offer.state, State::Promoted(_) | State::Shadow(_) | State::Waits(_))
        })
    }

    fn begin_comparison(
        &self,
        id: u64,
        exchange: &Exchange,
        candidate: Candidate,
        rule: Shadow,
    ) -> Result<(), Refusal> {
        let (pipeline, transform) = (&*exchange.pipeline().name, candidate.transform());
        tracing::info!(pipeline, transform, digest = candidate.digest(), "a new module is compared with what serves");
        self.end_shadows(pipeline, transform, Some(id));
        let candidate = Arc::new(candidate);
        let stop = Arc::new(AtomicBool::new(false));
        if let Some(entry) = self.entries().iter_mut().find(|entry| entry.offer.id == id) {
            entry.offer.state = State::Shadow(Comparison::default());
            (entry.candidate, entry.stop) = (Some(candidate.clone()), stop.clone());
        }
        let (registry, exchange) = (self.clone(), exchange.clone());
        let compare = move || registry.compare(id, &exchange, &candidate, &rule, &stop);
        let spawned = thread::Builder::new().name("tidegate-shadow".into()).spawn(compare);
        spawned.map(drop).map_err(|error| {
            self.take_candidate(id);
            Refusal::Unfit(format!("there is no thread to compare it on: {error}"))
        })
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
                tell_refused(exchange, candidate.transform(), candidate.digest(), &why);
                self.change(id, |comparison| State::Refused(why, comparison));
            }
        }
    }

    /// Ends the comparisons for a transform but this one: there is something newer.
    fn end_shadows(&self, pipeline: &str, transform: &str, but: Option<u64>) {
        let others: Vec<u64> = self
            .entries()
            .iter()
            .filter(|entry| entry.offer.pipeline == pipeline && entry.offer.transform == transform)
            .map(|entry| entry.offer.id)
            .filter(|id| Some(*id) != but)
            .collect();
        for id in others {
            if self.take_candidate(id).is_some() {
                self.change(id, |comparison| State::Refused("something newer was offered".into(), comparison));
            }
        }
    }

    /// Enters an offer that is to be looked at, and answers its number.
    fn keep(&self, exchange: &Exchange, transform: &str, digest: &str, from: Origin) -> u64 {
        let id = self.inner.last.fetch_add(1, Ordering::Relaxed) + 1;
        let offer = Offer {
            id,
            time: SystemTime::now(),
            pipeline: exchange.pipeline().name.to_string(),
            transform: transform.to_owned(),
            digest: digest.to_owned(),
            from,
            state: State::Checking,
        };
        let mut entries = self.entries();
        entries.push_back(Entry { offer, candidate: None, stop: Arc::default() });
        // One that may still come to serve is not forgotten.
        let decided = |entry: &Entry| entry.candidate.is_none() && !matches!(entry.offer.state, State::Checking);
        if entries.len() > OFFERS.most
            && let Some(place) = entries.iter().position(decided)
        {
            entries.remove(place);
        }
        id
    }

    fn change(&self, id: u64, state: impl FnOnce(Option<Comparison>) -> State) {
        if let Some(entry) = self.entries().iter_mut().find(|entry| entry.offer.id == id) {
            entry.offer.state = match state(entry.offer.state.comparison().cloned()) {
                State::Refused(reason, comparison) => State::Refused(cut(reason, REASON), comparison),
                other => other,
            };
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
}

fn tell_refused(exchange: &Exchange, transform: &str, digest: &str, why: &str) {
    exchange.refused();
    let pipeline = &*exchange.pipeline().name;
    let why = cut(why.to_owned(), REASON);
    tracing::error!(pipeline, transform, digest, why, "a new module is refused, the old one serves on");
}
