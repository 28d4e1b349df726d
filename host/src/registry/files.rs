//! Takes up what the modules' files come to hold, while a run lasts.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;

use super::watch::Watch;
use super::{How, Origin, Registry};
use crate::engine::digest;
use crate::pipeline::Exchange;

/// How often files are looked at. What changes between two looks is taken up after the next one.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The watch over the modules' files, on a thread of its own.
pub struct Watching {
    end: Sender<()>,
    thread: JoinHandle<()>,
    registry: Registry,
}

/// The file of a transform's module.
struct Watched {
    exchange: Exchange,
    transform: String,
    watch: Watch,
    /// The digest of what was last taken from it: a file that is as it was says nothing against what was uploaded since.
    taken: Option<String>,
    /// What is being looked at now, on a thread of its own: other files are not to wait for it.
    checked: Option<Checked>,
}

/// What a file held, while it is looked at.
struct Checked {
    digest: String,
    /// Answers whether it was taken.
    thread: JoinHandle<bool>,
}

impl Registry {
    /// Takes up whatever the modules' files come to hold, until [`Watching::end`].
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn watch(&self) -> anyhow::Result<Watching> {
        let mut watched: Vec<Watched> = Vec::new();
        for (exchange, first) in self.exchanges().iter().zip(&self.inner.first) {
            for (transform, (_, digest)) in exchange.pipeline().transforms.iter().zip(first) {
                let watch = Watch::new(transform.module.as_path());
                let (exchange, transform) = (exchange.clone(), transform.name.clone());
                watched.push(Watched { exchange, transform, watch, taken: Some(digest.clone()), checked: None });
            }
        }
        let registry = self.clone();
        let (end, ended) = channel();
        let run = move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK_EVERY) {
                watched.iter_mut().filter(|file| file.exchange.is_running()).for_each(|file| registry.look(file));
            }
        };
        let thread = thread::Builder::new().name("tidegate-modules".into()).spawn(run);
        Ok(Watching { end, thread: thread.context("cannot watch the modules")?, registry: self.clone() })
    }

    /// Takes up what a file has come to hold. What was refused is taken up again when the file is touched. What it comes to
    /// hold while it is looked at is taken up after that.
    fn look(&self, file: &mut Watched) {
        if let Some(checked) = file.checked.take() {
            if !checked.thread.is_finished() {
                file.checked = Some(checked);
                return;
            }
            let is_taken = checked.thread.join().unwrap_or_default();
            file.taken = is_taken.then_some(checked.digest);
        }
        let Some(bytes) = file.watch.look() else { return };
        let digest = digest(&bytes);
        if file.taken.as_ref() == Some(&digest) {
            return;
        }
        let (registry, exchange, transform) = (self.clone(), file.exchange.clone(), file.transform.clone());
        let check = move || registry.offer(&exchange, &transform, &bytes, Origin::File, How::Configured).is_ok();
        match thread::Builder::new().name("tidegate-file".into()).spawn(check) {
            Ok(thread) => file.checked = Some(Checked { digest, thread }),
            Err(error) => {
                let transform = &*file.transform;
                tracing::error!(transform, %error, "there is no thread to look at a new module: touch its file again");
            }
        }
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
