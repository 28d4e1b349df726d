//! Has the group confirm that this process is a member: by a commit that moves nothing, which it refuses to everybody
//! else. Its answer is waited for on a thread of its own. An asynchronous commit is no proof: nobody is told what became
//! of it, since librdkafka reports that to a callback alone, which rdkafka does not set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};

use super::commit::Commits;
use super::context::{Context, Noted};
use crate::config::KafkaClient;
use crate::source::lease::Moment;

/// How often it is asked while it does not confirm.
const AGAIN: Duration = Duration::from_millis(500);

/// The thread that asks.
pub(super) struct Confirmer {
    noted: Arc<Noted>,
    orders: Sender<TopicPartitionList>,
    under_way: Arc<AtomicBool>,
    /// When it was asked last.
    asked: Option<Instant>,
    thread: JoinHandle<()>,
}

impl Confirmer {
    /// Starts it.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(super) fn start(
        member: Arc<BaseConsumer<Context>>,
        noted: &Arc<Noted>,
        client: KafkaClient,
    ) -> anyhow::Result<Self> {
        let (orders, ordered) = mpsc::channel();
        let under_way = Arc::new(AtomicBool::new(false));
        let (told, done) = (noted.clone(), under_way.clone());
        let confirm = move || {
            while let Ok(list) = ordered.recv() {
                let asked = Moment::now();
                match member.commit(&list, CommitMode::Sync) {
                    Ok(()) if !member.assignment_lost() => {
                        told.leases.membership.confirm(asked);
                        told.answered(&client);
                    }
                    Ok(()) => {}
                    Err(error) => tracing::debug!("the group does not confirm the membership: {error}"),
                }
                done.store(false, Ordering::Release);
            }
        };
        let thread = thread::Builder::new().name("tidegate-confirm".into()).spawn(confirm)?;
        Ok(Self { noted: noted.clone(), orders, under_way, asked: None, thread })
    }

    /// Whether it is being asked. No newer commit may overtake that.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Acquire)
    }

    /// Has it confirmed once more where that is due, before the lanes miss it.
    pub(super) fn look(&mut self, commits: &Commits) {
        let waits = self.asked.is_some_and(|asked| asked.elapsed() < AGAIN);
        if waits || self.is_under_way() || !self.noted.leases.membership.is_due() {
            return;
        }
        let Some(list) = commits.standing() else { return };
        self.asked = Some(Instant::now());
        self.under_way.store(true, Ordering::Release);
        if self.orders.send(list).is_err() {
            self.under_way.store(false, Ordering::Release);
        }
    }

    /// Ends it, once it has its answer.
    pub(super) fn end(self) {
        drop(self.orders);
        let _ = self.thread.join();
    }
}
