//! What was offered as a module, and what became of it.

use std::time::SystemTime;

use crate::config::{Promote, Shadow};
use crate::pipeline::Comparison;

/// New bytes for a transform.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Its number in this process, from 1.
    pub id: u64,
    /// When it was found or sent.
    pub time: SystemTime,
    /// The pipeline.
    pub pipeline: String,
    /// The transform.
    pub transform: String,
    /// The SHA-256 of the bytes.
    pub digest: String,
    /// Where they come from.
    pub from: Origin,
    /// What became of it.
    pub state: State,
}

/// Where a module's bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The transform's file.
    File,
    /// Whoever asked for it.
    Upload,
}

/// What became of an offer.
#[derive(Debug, Clone)]
pub enum State {
    /// It is verified, compiled, started, and held against grants and stores.
    Checking,
    /// It is compared with what serves.
    Shadow(Comparison),
    /// It was compared, and waits for somebody's word.
    Waits(Comparison),
    /// It was taken into service. Whether it still serves, the pipeline says.
    Promoted(Option<Comparison>),
    /// It was not, for this reason.
    Refused(String, Option<Comparison>),
}

impl State {
    /// Its name, as it stands in lists.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Checking => "checking",
            Self::Shadow(_) => "shadow",
            Self::Waits(_) => "waits",
            Self::Promoted(_) => "promoted",
            Self::Refused(..) => "refused",
        }
    }

    /// What its comparison has come to.
    pub fn comparison(&self) -> Option<&Comparison> {
        match self {
            Self::Checking => None,
            Self::Shadow(comparison) | Self::Waits(comparison) => Some(comparison),
            Self::Promoted(comparison) | Self::Refused(_, comparison) => comparison.as_ref(),
        }
    }
}

/// What to do with a candidate after its comparison.
pub(super) enum Verdict {
    Promote,
    Wait,
    Refuse(String),
}

/// Holds a comparison against the written rule.
pub(super) fn judge(comparison: &Comparison, rule: &Shadow) -> Verdict {
    if let Some(failure) = &comparison.failure {
        return Verdict::Refuse(format!("it fails where what serves does not: {failure}"));
    }
    if comparison.events == 0 {
        return Verdict::Refuse("it was compared at no event".into());
    }
    if rule.promote == Promote::ByHand {
        return Verdict::Wait;
    }
    let Comparison { events, newly_rejected, different, no_longer_rejected, .. } = comparison;
    if *newly_rejected > 0 {
        return Verdict::Refuse(format!("it rejects {newly_rejected} of {events} events that what serves accepts"));
    }
    let different = different + no_longer_rejected;
    if different > rule.differences {
        let most = rule.differences;
        return Verdict::Refuse(format!("it answers {different} of {events} events differently; {most} are allowed"));
    }
    let (candidate, serving) = (comparison.candidate_took, comparison.serving_took);
    if candidate > serving * rule.times_slower {
        let most = rule.times_slower;
        return Verdict::Refuse(format!(
            "it took {candidate:?} for {events} events, for which what serves took {serving:?}; {most} times as long is \
             allowed"
        ));
    }
    Verdict::Promote
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULE: Shadow =
        Shadow { events: 100, time: Duration::from_secs(1), promote: Promote::ByRule, differences: 1, times_slower: 3 };

    fn said(comparison: Comparison, rule: &Shadow) -> String {
        let took = |took: Duration| if took.is_zero() { Duration::from_millis(1) } else { took };
        let comparison = Comparison {
            serving_took: took(comparison.serving_took),
            candidate_took: took(comparison.candidate_took),
            ..comparison
        };
        match judge(&comparison, rule) {
            Verdict::Promote => "promote".into(),
            Verdict::Wait => "wait".into(),
            Verdict::Refuse(why) => why,
        }
    }

    #[test]
    fn a_candidate_is_promoted_that_differs_no_more_than_allowed() {
        assert_eq!(said(Comparison { events: 100, different: 1, ..Comparison::default() }, &RULE), "promote");
        let two = Comparison { events: 100, different: 1, no_longer_rejected: 1, ..Comparison::default() };
        assert!(said(two, &RULE).contains("2 of 100 events differently; 1 are allowed"));
        let rejects = Comparison { events: 100, newly_rejected: 1, ..Comparison::default() };
        assert!(said(rejects, &RULE).contains("rejects 1 of 100"));
        let slow = Comparison { events: 100, candidate_took: Duration::from_millis(4), ..Comparison::default() };
        assert!(said(slow, &RULE).contains("3 times as long is allowed"));
    }

    #[test]
    fn by_hand_a_failure_alone_refuses() {
        let rule = Shadow { promote: Promote::ByHand, ..RULE };
        assert_eq!(said(Comparison { events: 50, different: 50, ..Comparison::default() }, &rule), "wait");
        let failed = Comparison { failure: Some("a trap".into()), ..Comparison::default() };
        assert!(said(failed, &rule).contains("a trap"));
        assert!(said(Comparison::default(), &rule).contains("no event"));
    }
}
