//! Changes that come all the time, whatever else happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::stream::Stream;
use super::watcher::Watcher;
use crate::live::random::Random;

/// How many rounds of a stream are produced at once, and how long nothing is after that.
const ROUNDS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(150);
/// How many states a store may lack before its stream waits for it.
const AHEAD: usize = 1500;

/// The load, as long as it lasts.
pub(super) struct Load {
    ends: Arc<AtomicBool>,
    produced: Arc<AtomicUsize>,
    thread: JoinHandle<(Vec<Stream>, Random)>,
}

impl Load {
    /// Has these streams go on; each has its watcher.
    pub(super) fn start(mut streams: Vec<Stream>, watchers: Vec<Arc<Watcher>>, mut random: Random) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let produced = Arc::new(AtomicUsize::new(0));
        let (told, counted) = (ends.clone(), produced.clone());
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                for (stream, watcher) in streams.iter_mut().zip(&watchers) {
                    if watcher.lag() < AHEAD {
                        stream.produce(ROUNDS, &mut random);
                    }
                }
                counted.store(streams.iter().map(|stream| stream.produced).sum(), Ordering::Relaxed);
                thread::park_timeout(PAUSE);
            }
            (streams, random)
        });
        Self { ends, produced, thread }
    }

    /// How many events were produced in these streams, at all times.
    pub(super) fn produced(&self) -> usize {
        self.produced.load(Ordering::Relaxed)
    }

    /// Ends it, and answers the streams and what is left of its choices.
    pub(super) fn stop(self) -> (Vec<Stream>, Random) {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_else(|failure| std::panic::resume_unwind(failure))
    }
}
