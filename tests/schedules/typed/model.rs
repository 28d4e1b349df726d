//! What each store must hold, which dead letters there must be and which messages, by the events alone.
//!
//! The model knows what each store refuses, and that what an earlier store refuses goes to no later one. Where the
//! program may do one or the other it has both: a bad value that a later write of the same batch replaces is never sent,
//! so that there may be a letter or not, and where batches are cut is the program's; what a module refuses while it serves
//! depends on when it came; and in Elasticsearch other commands of an event that is refused may stand.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Asked, Event, Fields, Op, Port};

/// What a target holds, if anything.
pub(super) type State = Option<Fields>;

/// Where an event is: its partition and its offset.
pub(super) type Place = (usize, usize);

/// How many records of a partition a batch holds at most.
pub(super) const BATCH: usize = 10;

/// A port that a pipeline has, and from which offset of each partition on it had it when the others did.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) port: Port,
    pub(super) since: [usize; 3],
    /// Where its topic began when it came: what was before is not there.
    pub(super) from: [usize; 3],
}

impl Bound {
    /// One that was there from the beginning.
    pub(super) fn new(port: Port) -> Self {
        Self { port, since: [0; 3], from: [0; 3] }
    }
}

/// What must be.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// What each target may hold.
    pub(super) states: BTreeMap<(Port, String), BTreeSet<State>>,
    /// The events that must be dead letters.
    pub(super) must: BTreeSet<Place>,
    /// Those that may be.
    pub(super) may: BTreeSet<Place>,
    /// The events that are published by key, in their order, each with whether that is certain.
    pub(super) published: BTreeMap<String, Vec<(Place, bool)>>,
}

/// Whether an earlier store has refused an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Skipped {
    No,
    Maybe,
    Yes,
}

/// What must be after these events, by partition, when these have become dead letters.
pub(super) fn expect(partitions: &[Vec<Event>; 3], bound: &[Bound], letters: &BTreeSet<Place>) -> Expected {
    let mut expected = Expected::default();
    for (partition, events) in partitions.iter().enumerate() {
        for (offset, event) in events.iter().enumerate() {
            let place = (partition, offset);
            let mut skipped = match event {
                Event { lost: true, .. } => Skipped::Yes,
                Event { disliked: true, .. } if letters.contains(&place) => Skipped::Maybe,
                _ => Skipped::No,
            };
            if event.disliked && !event.lost {
                expected.may.insert(place);
            }
            for one in bound.iter().filter(|one| offset >= one.from[partition]) {
                let before = skipped;
                expected.take(one.port, events, place, &mut skipped);
                // What is there already was written before this port was there to refuse it.
                if offset < one.since[partition] {
                    skipped = before;
                }
            }
        }
    }
    expected
}

impl Expected {
    /// One store takes one event, or refuses it.
    fn take(&mut self, port: Port, events: &[Event], place: Place, skipped: &mut Skipped) {
        let event = &events[place.1];
        let is_mended = event.is_mended();
        let mine: Vec<&Asked> = event.asked.iter().filter(|asked| asked.port == port).collect();
        if mine.is_empty() || *skipped == Skipped::Yes {
            return;
        }
        // What a table had refused is replayed where no later event of its key has written.
        let later = || events.iter().skip(place.1 + 1).filter(|later| later.key == event.key);
        if is_mended {
            self.must.extend((!is_replaced(events, place.1, mine[0]) && port == Port::Tables).then_some(place));
            self.may.insert(place);
            let is_later = later().flat_map(|later| &later.asked).any(|asked| asked.port == port);
            *skipped = if is_later || port == Port::Messages { Skipped::Maybe } else { Skipped::No };
        }
        if port == Port::Messages {
            for asked in mine {
                let published = self.published.entry(asked.target.clone()).or_default();
                published.push((place, *skipped == Skipped::No));
            }
            return;
        }
        let (mut surely, mut maybe) = (false, false);
        for asked in &mine {
            let bad = asked.op.is_bad(port, event.checked && !is_mended);
            let states = self.states.entry((port, asked.target.clone())).or_insert_with(|| [None].into());
            let misses = states.iter().filter(|state| applied(port, &asked.op, state).is_none()).count();
            maybe |= bad || misses > 0;
            surely |= bad && !is_replaced(events, place.1, asked) || misses == states.len();
        }
        for asked in &mine {
            let states = self.states.get_mut(&(port, asked.target.clone())).unwrap();
            let next: BTreeSet<State> = states.iter().filter_map(|state| applied(port, &asked.op, state)).collect();
            if surely && mine.len() == 1 {
                continue;
            }
            if maybe || *skipped == Skipped::Maybe {
                states.extend(next);
            } else {
                *states = next;
            }
        }
        if surely {
            self.must.insert(place);
        }
        if maybe {
            self.may.insert(place);
        }
        // A replay leaves out the store that a later event of the key has written to, and goes on to those behind it.
        let may_go_further = later().flat_map(|later| &later.asked).any(|asked| asked.port == port);
        *skipped = match (surely, maybe) {
            (true, _) if may_go_further => Skipped::Maybe,
            (true, _) => Skipped::Yes,
            (_, true) => Skipped::Maybe,
            _ => *skipped,
        };
    }
}

/// What comes of a state; none where the command needs something to be there that is not.
fn applied(port: Port, op: &Op, state: &State) -> Option<State> {
    match op {
        Op::Set(fields) => Some(Some(fields.clone())),
        Op::Upsert(fields) => Some(Some(laid(state.clone().unwrap_or_default(), fields))),
        Op::Merge(fields) => match state {
            Some(there) => Some(Some(laid(there.clone(), fields))),
            None => (port == Port::Cache).then_some(None),
        },
        Op::Delete => Some(None),
    }
}

fn laid(mut under: Fields, over: &Fields) -> Fields {
    under.extend(over.iter().map(|(name, value)| (name.clone(), value.clone())));
    under
}

/// Whether a later event that may be in the same batch writes the same target.
fn is_replaced(events: &[Event], offset: usize, asked: &Asked) -> bool {
    let batch = events.iter().skip(offset + 1).take(BATCH - 1);
    batch.flat_map(|event| &event.asked).any(|other| other.port == asked.port && other.target == asked.target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn event(asked: &[(Port, Op)]) -> Event {
        let asked = asked.iter().map(|(port, op)| Asked { port: *port, target: "k".into(), op: op.clone() });
        Event {
            number: 0,
            key: "k".into(),
            asked: asked.collect(),
            disliked: false,
            lost: false,
            checked: true,
            mended: false,
        }
    }

    fn all() -> Vec<Bound> {
        [Port::Tables, Port::Documents, Port::Cache, Port::Messages].map(Bound::new).to_vec()
    }

    fn row(status: &str, amount: &str) -> Op {
        Op::Upsert(fields(&[("status", status), ("amount", amount)]))
    }

    fn only(expected: &Expected, port: Port) -> State {
        let states = &expected.states[&(port, "k".to_owned())];
        assert_eq!(states.len(), 1, "{states:?}");
        states.first().unwrap().clone()
    }

    #[test]
    fn refused_row_goes_to_no_later_store() {
        let cache = |status| Op::Set(fields(&[("status", status)]));
        let events = vec![
            event(&[(Port::Tables, row("a", "1")), (Port::Cache, cache("a")), (Port::Messages, cache("a"))]),
            event(&[(Port::Tables, row("b", "-1")), (Port::Cache, cache("b")), (Port::Messages, cache("b"))]),
        ];
        let expected = expect(&[events, vec![], vec![]], &all(), &BTreeSet::new());
        assert_eq!(only(&expected, Port::Cache), Some(fields(&[("status", "a")])));
        assert_eq!(expected.must, [(0, 1)].into());
        assert_eq!(expected.published["k"], [((0, 0), true)]);
    }

    #[test]
    fn bad_value_that_is_replaced_may_be_a_letter_and_the_last_state_is_certain() {
        let events = vec![event(&[(Port::Tables, row("a", "-1"))]), event(&[(Port::Tables, row("b", "2"))])];
        let expected = expect(&[events, vec![], vec![]], &all(), &BTreeSet::new());
        assert_eq!(only(&expected, Port::Tables), Some(fields(&[("amount", "2"), ("status", "b")])));
        assert_eq!((expected.must.len(), expected.may), (0, [(0, 0)].into()));
    }

    #[test]
    fn merge_into_nothing_is_refused_in_tables_and_ignored_in_caches() {
        let merge = Op::Merge(fields(&[("status", "a")]));
        let events = vec![event(&[(Port::Cache, merge.clone())]), event(&[(Port::Tables, merge)])];
        let expected = expect(&[events, vec![], vec![]], &all(), &BTreeSet::new());
        assert_eq!(expected.must, [(0, 1)].into());
        assert_eq!(only(&expected, Port::Cache), None);
    }

    #[test]
    fn disliked_event_counts_where_it_is_no_letter() {
        let mut disliked = event(&[(Port::Tables, row("a", "1"))]);
        disliked.disliked = true;
        let events = [vec![disliked], vec![], vec![]];
        assert!(only(&expect(&events, &all(), &BTreeSet::new()), Port::Tables).is_some());
        let expected = expect(&events, &all(), &[(0, 0)].into());
        assert_eq!(expected.states[&(Port::Tables, "k".to_owned())].len(), 2);
    }
}
