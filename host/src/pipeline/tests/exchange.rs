//! Modules that are exchanged between two batches: what comes again goes to the modules that had it.

use super::store::Fault as Goes;
use super::*;

/// The first half of a lane that changes to newer modules when it may, from an offset on, and notes who had what.
struct Changing {
    from: Vec<u64>,
    /// How often it has changed.
    changed: usize,
    had: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl lane::Prepare for Changing {
    fn prepare(&mut self, records: Vec<Record>, by: By) -> anyhow::Result<Prepared> {
        if by == By::Newest && self.from.get(self.changed).is_some_and(|from| records[0].offset >= *from) {
            self.changed += 1;
        }
        let number = (self.changed - usize::from(by == By::Before)) as u64;
        let had = self.had.clone();
        let mut answering = answering(move |record| {
            had.lock().unwrap().push((record.offset, number));
            Some(vec![set("k", &format!("\"{}\"", record.offset))])
        });
        let serving = Arc::new(Serving::named(number, &[("first", &format!("d{number}"))]));
        Ok(Prepared { serving, ..answering(records)? })
    }

    fn renew(&mut self) -> anyhow::Result<Arc<Serving>> {
        let number = self.changed as u64;
        Ok(Arc::new(Serving::named(number, &[("first", &format!("d{number}"))])))
    }
}

/// Runs six events past a store that fails so, with other modules from these offsets on. Answers which had each event.
fn run(from: &[u64], most: usize, faults: &[Goes]) -> Vec<(u64, u64)> {
    let store = Arc::new(Store::new(faults.to_vec()));
    let site = Site::new(vec![(OTHERS, store.clone())]);
    let events = Events::new((0..6).map(|_| Vec::new()));
    let had = Arc::new(Mutex::new(Vec::new()));
    let mut pipeline = site.pipeline(&events, most, vec![events.prepare()]);
    pipeline.lanes[0].prepare = Box::new(Changing { from: from.to_vec(), changed: 0, had: had.clone() });
    let (_, failure) = pipeline.run();
    assert!(failure.is_none(), "{failure:?}");
    assert_eq!(store.model().cache["k"].0, "\"5\"");
    had.lock().unwrap().clone()
}

#[test]
fn events_that_come_again_go_to_the_modules_that_had_them() {
    for most in [1, 2] {
        for from in 0..6 {
            for back in 1..4 {
                for at in 0..6 / most {
                    let mut faults = vec![Goes::None; at];
                    faults.push(Goes::SetBack(back));
                    let had = run(&[from], most, &faults);
                    for (offset, number) in &had {
                        let first = had.iter().find(|other| other.0 == *offset).unwrap().1;
                        assert_eq!(*number, first, "{offset} of {most} {from} {back} {at}: {had:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn without_trouble_each_event_from_the_exchange_on_goes_to_the_new_ones() {
    assert_eq!(run(&[3], 1, &[]), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)]);
    assert_eq!(run(&[2, 4], 1, &[]), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2)]);
}

#[test]
fn what_was_handled_by_modules_long_gone_goes_to_those_that_serve() {
    // The store comes back from before both exchanges, with what it had acknowledged lost.
    let mut faults = vec![Goes::None; 5];
    faults.push(Goes::SetBack(5));
    let again = run(&[2, 4], 1, &faults).split_off(6);
    assert_eq!(again, [(0, 2), (1, 2), (2, 1), (3, 1), (4, 2), (5, 2)]);
}
