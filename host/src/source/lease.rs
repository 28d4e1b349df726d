//! Whether a partition is still this process's, for what no ledger can fence.
//!
//! A group gives a partition to another member when this one has agreed to let go of it, or has been silent for the
//! session's timeout. So each answer of the group that only a member gets is the beginning of a lease: from when it was
//! asked for, nobody else has the partition for as long as the session lasts. Half of that is for beginning to publish,
//! the other half for what has begun to come to its end.
//!
//! The source confirms the membership and says what is lost; the lanes look, and never wait for the source.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::TopicPartition;

/// One tenure of a partition. The default is of a source without a group: it is never lost.
#[derive(Debug, Clone, Default)]
pub struct Lease(Option<Arc<Tenure>>);

#[derive(Debug)]
struct Tenure {
    membership: Arc<Membership>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    lost: bool,
    /// How many writes are being published.
    publishing: usize,
}

/// What may be done with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// It is this process's, for long enough to publish something.
    Yes,
    /// Nothing is known: the group has not answered lately. It will, or will take the partition.
    Unconfirmed,
    /// It is another's, or is about to be.
    Lost,
}

/// As long as it lives, the source does not let go of the partition unless it must.
#[derive(Debug)]
pub struct Publishing(Lease);

impl Lease {
    /// The lease of a member.
    pub(crate) fn new(membership: Arc<Membership>) -> Self {
        Self(Some(Arc::new(Tenure { membership, state: Mutex::default(), changed: Notify::new() })))
    }

    /// What may be done now.
    pub fn holds(&self) -> Holds {
        match &self.0 {
            Some(tenure) if lock(&tenure.state).lost => Holds::Lost,
            Some(tenure) if !tenure.membership.is_confirmed() => Holds::Unconfirmed,
            _ => Holds::Yes,
        }
    }

    /// Whether the partition is another's, or is about to be.
    pub fn is_lost(&self) -> bool {
        self.holds() == Holds::Lost
    }

    /// Waits until it is lost.
    pub async fn lost(&self) {
        let Some(tenure) = &self.0 else { return std::future::pending().await };
        loop {
            let changed = tenure.changed.notified();
            if lock(&tenure.state).lost {
                return;
            }
            changed.await;
        }
    }

    /// Begins to publish, where that is allowed.
    ///
    /// # Errors
    /// Why it is not.
    pub fn publish(&self) -> Result<Publishing, Holds> {
        match self.holds() {
            Holds::Yes => {}
            not => return Err(not),
        }
        if let Some(tenure) = &self.0 {
            let mut state = lock(&tenure.state);
            if state.lost {
                return Err(Holds::Lost);
            }
            state.publishing += 1;
        }
        Ok(Publishing(self.clone()))
    }

    /// The partition goes to another.
    pub(crate) fn lose(&self) {
        let Some(tenure) = &self.0 else { return };
        lock(&tenure.state).lost = true;
        tenure.changed.notify_waiters();
    }

    /// Whether something is being published.
    pub(crate) fn is_publishing(&self) -> bool {
        self.0.as_ref().is_some_and(|tenure| lock(&tenure.state).publishing > 0)
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        if let Some(tenure) = &self.0.0 {
            lock(&tenure.state).publishing -= 1;
        }
    }
}

impl PartialEq for Lease {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref().map(Arc::as_ptr) == other.0.as_ref().map(Arc::as_ptr)
    }
}

impl Eq for Lease {}

/// The leases of what a group has given to this process.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    pub(crate) membership: Arc<Membership>,
    held: Mutex<HashMap<TopicPartition, Lease>>,
}

impl Leases {
    /// None yet, of a group whose sessions last this long.
    pub(crate) fn lasting(session: Duration) -> Self {
        Self { membership: Arc::new(Membership { session, ..Membership::default() }), held: Mutex::default() }
    }

    /// The group has given these.
    pub(crate) fn begin(&self, partitions: &[TopicPartition]) {
        let mut held = lock(&self.held);
        for partition in partitions {
            let before = held.insert(partition.clone(), Lease::new(self.membership.clone()));
            before.inspect(Lease::lose);
        }
    }

    /// The group takes these back.
    pub(crate) fn end(&self, partitions: &[TopicPartition]) -> Vec<Lease> {
        let mut held = lock(&self.held);
        let ended: Vec<Lease> = partitions.iter().filter_map(|partition| held.remove(partition)).collect();
        ended.iter().for_each(Lease::lose);
        ended
    }

    /// This process leaves the group.
    pub(crate) fn end_all(&self) {
        lock(&self.held).drain().for_each(|(_, lease)| lease.lose());
    }

    /// The lease of a partition; one that is lost where the group has taken it back meanwhile.
    pub(crate) fn of(&self, partition: &TopicPartition) -> Lease {
        lock(&self.held).get(partition).cloned().unwrap_or_else(|| {
            let lease = Lease::new(self.membership.clone());
            lease.lose();
            lease
        })
    }

    /// Those of these partitions.
    pub(crate) fn held<'a>(&self, partitions: impl Iterator<Item = &'a TopicPartition>) -> Vec<Lease> {
        let held = lock(&self.held);
        partitions.filter_map(|partition| held.get(partition)).cloned().collect()
    }
}

/// When a group was last known to have this process as a member.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    session: Duration,
    /// When the latest request was made that was answered as a member's is.
    confirmed: Mutex<Option<Moment>>,
}

impl Membership {
    /// A request of that time was answered as a member's is.
    pub(crate) fn confirm(&self, asked: Moment) {
        let mut confirmed = lock(&self.confirmed);
        if confirmed.is_none_or(|confirmed| confirmed.steady < asked.steady) {
            *confirmed = Some(asked);
        }
    }

    /// How long the session lasts.
    pub(crate) fn session(&self) -> Duration {
        self.session
    }

    /// Whether something may be published.
    fn is_confirmed(&self) -> bool {
        self.age() < self.session / 2
    }

    /// Whether it is time to have it confirmed once more.
    pub(crate) fn is_due(&self) -> bool {
        self.age() > self.session / 6
    }

    fn age(&self) -> Duration {
        lock(&self.confirmed).as_ref().map_or(Duration::MAX, Moment::elapsed)
    }
}

/// A time by both clocks: the steady one may stand still while the machine sleeps, the other one may be set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    steady: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    /// How long ago it was by the clock that says more.
    fn elapsed(&self) -> Duration {
        self.steady.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(60);

    fn ago(steady: u64, wall: u64) -> Moment {
        let (now, seconds) = (Moment::now(), Duration::from_secs);
        Moment { steady: now.steady.checked_sub(seconds(steady)).unwrap(), wall: now.wall - seconds(wall) }
    }

    fn partition() -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: 0 }
    }

    #[test]
    fn lease_holds_for_half_a_session_by_either_clock() {
        let cases = [((1, 1), Holds::Yes), ((31, 1), Holds::Unconfirmed), ((1, 31), Holds::Unconfirmed)];
        for ((steady, wall), holds) in cases {
            let leases = Leases::lasting(SESSION);
            leases.begin(&[partition()]);
            assert_eq!(leases.of(&partition()).holds(), Holds::Unconfirmed);
            leases.membership.confirm(ago(steady, wall));
            assert_eq!(leases.of(&partition()).holds(), holds, "{steady} {wall}");
        }
    }

    #[test]
    fn older_answer_that_comes_late_takes_nothing_back() {
        let membership = Membership { session: SESSION, ..Membership::default() };
        membership.confirm(ago(50, 50));
        assert!(!membership.is_confirmed());
        membership.confirm(ago(1, 1));
        membership.confirm(ago(29, 29));
        assert!(membership.is_confirmed() && !membership.is_due());
    }

    #[test]
    fn revoked_lease_stays_lost_when_the_partition_comes_back() {
        let leases = Leases::lasting(SESSION);
        leases.membership.confirm(Moment::now());
        leases.begin(&[partition()]);
        let first = leases.of(&partition());
        let publishing = first.publish().unwrap();
        assert_eq!(leases.end(&[partition()]), std::slice::from_ref(&first));
        assert!(first.is_publishing() && first.is_lost());
        drop(publishing);
        assert!(!first.is_publishing());
        assert_eq!(leases.of(&partition()).holds(), Holds::Lost);
        leases.begin(&[partition()]);
        assert_eq!(first.publish().unwrap_err(), Holds::Lost);
        let second = leases.of(&partition());
        assert!(second.publish().is_ok());
        // Given once more without having been taken back.
        leases.begin(&[partition()]);
        assert!(second.is_lost() && !leases.of(&partition()).is_lost());
        assert_eq!(Lease::default().holds(), Holds::Yes);
    }
}
