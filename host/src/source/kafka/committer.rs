//! Makes the group's commits, one at a time, on a thread of its own that waits for each answer. The answer also confirms
//! that this process is a member: the group refuses a commit to everybody else. So where nothing new is to be committed, one
//! that moves nothing is sent now and then.
//!
//! An asynchronous commit would confirm nothing: librdkafka reports its outcome to `offset_commit_cb` only, which rdkafka
//! 0.39 does not set.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::commit::Commits;
use super::context::{Context, Noted};
use crate::config::KafkaClient;
use crate::source::TopicPartition;
use crate::source::lease::Moment;

/// The least time between two commits that only confirm the membership.
const AGAIN: Duration = Duration::from_millis(500);

/// The outcome of a commit.
pub(super) type Outcome = Result<(), RDKafkaErrorCode>;

/// The thread that commits.
pub(super) struct Committer {
    noted: Arc<Noted>,
    orders: Sender<TopicPartitionList>,
    outcomes: Receiver<Outcome>,
    /// The partitions of the commit that is under way.
    under_way: HashSet<TopicPartition>,
    /// When the last commit was sent that only confirms the membership.
    confirmed: Option<Instant>,
    thread: JoinHandle<()>,
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(super) fn start(
        member: Arc<BaseConsumer<Context>>,
        noted: &Arc<Noted>,
        client: KafkaClient,
    ) -> anyhow::Result<Self> {
        let (orders, ordered) = mpsc::channel::<TopicPartitionList>();
        let (tell, outcomes) = mpsc::channel();
        let told = noted.clone();
        let commit = move || {
            while let Ok(list) = ordered.recv() {
                let asked = Moment::now();
                let outcome = member.commit(&list, CommitMode::Sync);
                if outcome.is_ok() {
                    told.answered(&client);
                    if !member.assignment_lost() {
                        told.leases.membership.confirm(asked);
                    }
                }
                let code = |error: KafkaError| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                // The source may have ended in the meantime; then nobody waits for this.
                let _ = tell.send(outcome.map_err(code));
            }
        };
        let thread = thread::Builder::new().name("tidegate-commit".into()).spawn(commit)?;
        Ok(Self { noted: noted.clone(), orders, outcomes, under_way: HashSet::new(), confirmed: None, thread })
    }

    /// Whether a commit of this partition is under way. No newer one may overtake it.
    pub(super) fn is_committing(&self, partition: &TopicPartition) -> bool {
        self.under_way.contains(partition)
    }

    /// The outcome of the commit that was under way, if it has ended.
    pub(super) fn take(&mut self) -> Option<Outcome> {
        let outcome = self.outcomes.try_recv().ok()?;
        self.under_way.clear();
        Some(outcome)
    }

    /// Commits what is new, or has the membership confirmed where that is due, before the lanes miss it.
    pub(super) fn turn(&mut self, commits: &mut Commits) {
        if !self.under_way.is_empty() {
            return;
        }
        let waits = self.confirmed.is_some_and(|confirmed| confirmed.elapsed() < AGAIN);
        let (list, partitions) = match commits.due() {
            Some(new) => new,
            None if waits || !self.noted.leases.membership.is_due() => return,
            None => {
                let Some(standing) = commits.standing() else { return };
                self.confirmed = Some(Instant::now());
                standing
            }
        };
        if self.orders.send(list).is_ok() {
            self.under_way = partitions;
        }
    }

    /// Waits for the commit that is under way, if there is one, and returns its outcome.
    pub(super) fn wait(&mut self) -> Option<Outcome> {
        if self.under_way.is_empty() {
            return None;
        }
        self.under_way.clear();
        self.outcomes.recv().ok()
    }

    /// Ends the thread, once the commit under way has its answer.
    pub(super) fn end(self) {
        drop(self.orders);
        let _ = self.thread.join();
    }
}
