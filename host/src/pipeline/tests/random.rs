//! Random events over two stores that fail at random: they end where every event, applied once and in order, ends.

use proptest::prelude::*;

use super::store::Fault;
use super::*;
use crate::sink::model::{Model, events};

fn fault() -> impl Strategy<Value = Fault> {
    use Fault::{AnswerLost, Away, CrashAfter, CrashBefore, None, SetBack, Taken};
    prop::sample::select(vec![
        None,
        None,
        None,
        Away,
        AnswerLost,
        Taken,
        CrashBefore,
        CrashAfter,
        SetBack(1),
        SetBack(2),
        SetBack(5),
    ])
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    prop::collection::vec(fault(), 0..8)
}

/// What the two stores hold after each event, and which events are rejected.
fn expected(events: &[Vec<Tagged>]) -> (Vec<(u64, Model, Model)>, Vec<u64>) {
    let (mut tables, mut others) = (Model::default(), Model::default());
    let (mut states, mut rejected) = (vec![(0, Model::default(), Model::default())], Vec::new());
    for event in events {
        let part = |tables: bool| {
            let mine = event.iter().filter(move |tagged| (tagged.command.port() == Port::Tables) == tables);
            let again = |t: &Tagged| Tagged { offset: t.offset, transform: t.transform, command: t.command.clone() };
            mine.map(again).collect::<Vec<_>>()
        };
        if tables.apply_event(&part(true)).and_then(|()| others.apply_event(&part(false))).is_err() {
            rejected.push(event[0].offset);
        }
        states.push((event[0].offset + 1, tables.clone(), others.clone()));
    }
    (states, rejected)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stores_end_as_if_every_event_had_been_applied_once_in_order(
        events in events(24), of_tables in faults(), of_others in faults(), mosts in prop::collection::vec(1_usize..8, 1..4)
    ) {
        let (states, rejected) = expected(&events);
        let stream = Events(
            events.iter().map(|e| (0, e[0].offset, Some(e.iter().map(|t| t.command.clone()).collect()))).collect()
        );
        let (tables, others) = (Arc::new(Store::new(of_tables)), Arc::new(Store::new(of_others)));
        let site = Site::new(vec![(TABLES, tables.clone()), (OTHERS, others.clone())]);
        // Each crash is one fault: after them all, a run ends.
        let done = (0..20).any(|run| match site.run(&stream, mosts[run % mosts.len()]).1 {
            None => true,
            Some(failure) => {
                assert!(failure.ends_with("crashed"), "{failure}");
                false
            }
        });
        prop_assert!(done, "it never came to its end");

        // No write ever left a store in a state that is not the one after a whole event.
        for (store, of) in [(&tables, 1), (&others, 2)] {
            for seen in store.writes() {
                let state = states.iter().rev().find(|state| state.0 <= seen.to).unwrap();
                prop_assert_eq!(if of == 1 { &state.1 } else { &state.2 }, &seen.after, "at {}", seen.to);
            }
        }
        let (to, last_tables, last_others) = states.last().unwrap();
        prop_assert_eq!(&tables.model(), last_tables);
        prop_assert_eq!(&others.model(), last_others);
        prop_assert_eq!((tables.next(0), others.next(0)), (Some(*to), Some(*to)));
        let mut letters = site.letters();
        letters.sort_unstable();
        prop_assert_eq!(letters, rejected);
    }
}
