//! What a lane does side by side, and what it must not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;

use super::*;

#[test]
fn a_batch_is_prepared_while_the_one_before_is_written_and_a_merge_waits_until_that_is_durable() {
    let (prepared, is_prepared) = mpsc::channel();
    let (began, has_begun) = mpsc::channel();
    let (is_prepared, has_begun) = (Mutex::new(is_prepared), Mutex::new(has_begun));
    let first = AtomicBool::new(true);
    let store = Arc::new(Store::during(move || {
        if first.swap(false, Ordering::Relaxed) {
            let waited = is_prepared.lock().unwrap().recv_timeout(PATIENCE);
            waited.expect("the second batch is not prepared while the first is written");
            // One that did not wait would read now what it merges into.
            let early = has_begun.lock().unwrap().recv_timeout(Duration::from_millis(300));
            assert_eq!(early, Err(RecvTimeoutError::Timeout), "a merge began before the batch before was durable");
        } else {
            began.send(()).unwrap();
        }
    }));
    let site = Site::new(vec![(TABLES, store.clone())]);
    let events = Events::new([
        vec![Command::RowUpsert(row("1", "1"))],
        vec![Command::RowMerge(row("1", "2"))],
        vec![Command::RowMerge(row("1", "3"))],
    ]);
    let mut prepare = events.prepare();
    let telling: Prepare = Box::new(move |records| {
        let batch = prepare(records)?;
        if batch.to == 2 {
            prepared.send(()).unwrap();
        }
        Ok(batch)
    });
    let (summary, failure) = site.pipeline(&events, 1, vec![telling]).run();
    assert!(failure.is_none(), "{failure:?}");
    assert!(summary.rejected.is_empty(), "{:?}", site.letters());
    assert_eq!(store.writes().iter().map(|write| write.offsets.clone()).collect::<Vec<_>>(), [[0], [1], [2]]);
    assert_eq!(store.model().rows[&("t".to_owned(), "1".to_owned())]["a"], "3");
}
