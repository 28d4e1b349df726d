//! Since when answers clash with what another partition may still change, such as a unique value that moves. Each has a
//! patience of its own: one whose time is up is no reason to reject another that has just come.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::command::collapse::{Origin, Verdict, has_folded_rows};
use crate::sink::{BadWrite, Write};

/// The answers of a partition that clash, until they are durable or rejected.
#[derive(Debug, Clone, Default)]
pub(super) struct Clashes {
    /// Each with when that was seen first.
    since: HashMap<Origin, Instant>,
    /// What a batch that rests has had filed already, by the sink's place: it is left out when the batch comes again, also
    /// where it does not clash any more.
    filed: HashSet<(usize, Origin)>,
}

impl Clashes {
    /// Whether there is one.
    pub(super) fn are_there(&self) -> bool {
        !self.since.is_empty()
    }

    /// Everything below this offset is durable.
    pub(super) fn pass(&mut self, to: u64) {
        self.since.retain(|origin, _| origin.offset >= to);
        self.filed.retain(|(_, origin)| origin.offset >= to);
    }

    /// These are dead letters of a sink by now.
    pub(super) fn file(&mut self, place: usize, origins: &[Origin]) {
        self.filed.extend(origins.iter().map(|origin| (place, *origin)));
    }

    /// Those that are dead letters of a sink already, below this offset.
    pub(super) fn filed(&self, place: usize, below: u64) -> Vec<Origin> {
        let of_it = self.filed.iter().filter(|(of, origin)| *of == place && origin.offset < below);
        of_it.map(|(_, origin)| *origin).collect()
    }

    /// Whether the partition is to rest after a sink's refusal, and why. If not, the verdict rejects none any more that
    /// has not had its time.
    pub(super) fn rest<'a>(
        &mut self,
        writes: &[Write<'_>],
        bad: &'a [BadWrite],
        verdict: &mut Verdict,
        patience: Duration,
    ) -> Option<&'a str> {
        let why = bad.iter().find(|bad| bad.clash)?.reason.as_str();
        // Rows that were folded may clash by that alone.
        if has_folded_rows(writes) {
            return None;
        }
        let clashing = bad.iter().filter(|bad| bad.clash).filter_map(|bad| writes.get(bad.index));
        let (now, mut young, mut due) = (Instant::now(), HashSet::new(), HashSet::new());
        for origin in clashing.flat_map(|write| &write.origins) {
            // Each rests once at the least.
            let is_due = match self.since.entry(*origin) {
                Entry::Occupied(since) => now - *since.get() >= patience,
                Entry::Vacant(new) => {
                    new.insert(now);
                    false
                }
            };
            let those = if is_due { &mut due } else { &mut young };
            those.insert(*origin);
        }
        verdict.rejected.retain(|(origin, _)| !young.contains(origin));
        let may_reject = young.is_empty() || verdict.rejected.iter().any(|(origin, _)| due.contains(origin));
        if may_reject { None } else { Some(why) }
    }
}
