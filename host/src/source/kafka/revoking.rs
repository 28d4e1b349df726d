//! A revocation that the lanes have not agreed to yet, and how long it waits for them.

use std::time::{Duration, Instant};

use crate::source::{Lease, TopicPartition};

/// What the group takes back.
#[derive(Debug)]
pub(super) struct Revoking {
    pub(super) partitions: Vec<TopicPartition>,
    /// The group has given them away already.
    pub(super) lost: bool,
    /// Under which something may be published for them. That ends by itself, and whoever has them next must not publish
    /// before that.
    pub(super) leases: Vec<Lease>,
    until: Instant,
    published: Instant,
}

impl Revoking {
    /// Gives the lanes so long; what is being published, as long as a session if that is longer.
    pub(super) fn new(
        partitions: Vec<TopicPartition>,
        leases: Vec<Lease>,
        lost: bool,
        (lanes, session): (Duration, Duration),
    ) -> Self {
        let now = Instant::now();
        // What is lost is another's already.
        let leases = if lost { Vec::new() } else { leases };
        Self { partitions, lost, leases, until: now + lanes, published: now + lanes.max(session) }
    }

    /// Whether the lanes have had their time.
    pub(super) fn is_late(&self) -> bool {
        let now = Instant::now();
        self.until <= now && (self.published <= now || !self.is_publishing())
    }

    /// Whether something is being published for them.
    pub(super) fn is_publishing(&self) -> bool {
        self.leases.iter().any(Lease::is_publishing)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::source::lease::{Leases, Moment};

    #[test]
    fn publishing_is_waited_for_unless_the_partition_is_lost() {
        let member = Leases::lasting(Duration::from_secs(60));
        let partition = TopicPartition { topic: "t".into(), partition: 0 };
        member.membership.confirm(Moment::now());
        member.begin(std::slice::from_ref(&partition));
        let lease = member.of(&partition);
        let publishing = lease.publish().unwrap();
        let revoking = |lost| {
            let times = (Duration::ZERO, Duration::from_secs(60));
            Revoking::new(vec![partition.clone()], vec![lease.clone()], lost, times)
        };
        let (asked, lost) = (revoking(false), revoking(true));
        assert!(!asked.is_late() && lost.is_late());
        drop(publishing);
        assert!(asked.is_late());
    }
}
