//! One failure at a time, and what a pipeline makes of it.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::played::{CACHE, Played, assigned};
use super::store::Fault as Goes;
use super::*;
use crate::source::{Assigned, Claim, Control, Lease, TopicPartition};

/// Six sets of one key: whatever happens, the last one stands at the end.
fn six() -> Events {
    Events::new((0..6).map(|value| vec![set("k", &value.to_string())]))
}

/// Runs six events in batches of two over a store that fails so, and answers the offsets that each write brought.
fn six_over(faults: &[Goes]) -> (Vec<Vec<u64>>, PipelineSummary) {
    let store = Arc::new(Store::new(faults.iter().copied()));
    let site = Site::new(vec![(OTHERS, store.clone())]);
    let summary = site.run_well(&six(), 2);
    assert_eq!(store.model().cache["k"].0, "5");
    assert_eq!(store.next(0), Some(6));
    (store.writes().into_iter().map(|seen| seen.offsets).collect(), summary)
}

#[test]
fn batches_come_through_in_order() {
    let (written, summary) = six_over(&[]);
    assert_eq!(written.concat(), [0, 1, 2, 3, 4, 5]);
    assert_eq!((summary.events["create"], summary.commands["cache-set"]), (6, 6));
}

#[test]
fn a_store_that_is_away_is_waited_for() {
    let (written, _) = six_over(&[Goes::None, Goes::Away, Goes::Away]);
    assert_eq!(written.concat(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn store_that_is_away_is_waited_for_no_more_when_the_end_is_asked_for() {
    let site = Site::new(vec![(CACHE, Arc::new(Store::new(std::iter::repeat_n(Goes::Away, 10_000))))]);
    let played = Played::new(&site);
    let (_, claim) = played.assign(assigned(0));
    played.give(0, 0, claim);
    until("it waits", || !played.stores.observed.waiting.current().is_empty());
    played.stores.stop.set();
    until("it ends", || played.lane.is_finished());
    assert_eq!(played.end().commands.len(), 0);
}

#[test]
fn clash_that_comes_after_another_is_over_has_patience_of_its_own() {
    let mut site = Site::new(vec![(CACHE, Arc::new(Store::new([Goes::Clash, Goes::None, Goes::Clash])))]);
    site.policies.clash_patience = Duration::from_millis(500);
    let played = Played::new(&site);
    let (_, claim) = played.assign(assigned(0));
    let first = Instant::now();
    played.give(0, 0, claim);
    let (_, claim) = played.begins();
    played.give(0, 0, claim);
    played.durable(0, 1);
    until("the first one's patience is over", || first.elapsed() > site.policies.clash_patience);
    played.give(0, 1, claim);
    let (_, claim) = played.begins();
    played.give(0, 1, claim);
    played.durable(0, 2);
    played.end();
    assert_eq!(site.letters(), [0; 0]);
}

#[test]
fn a_write_whose_answer_was_lost_is_not_done_again() {
    let (written, summary) = six_over(&[Goes::AnswerLost]);
    assert_eq!(written.concat(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(summary.events["create"], 6);
}

#[test]
fn a_lane_whose_partition_was_taken_claims_it_again() {
    let (written, summary) = six_over(&[Goes::None, Goes::Taken]);
    assert_eq!(written.concat(), [0, 1, 2, 3, 4, 5]);
    assert_eq!((summary.events["create"], summary.commands["cache-set"]), (6, 6), "what is tried again counts once");
}

#[test]
fn a_store_that_lost_writes_gets_them_again() {
    let store = Arc::new(Store::new([Goes::None, Goes::None, Goes::SetBack(2)]));
    let site = Site::new(vec![(OTHERS, store.clone())]);
    site.run_well(&six(), 1);
    let tos: Vec<u64> = store.writes().iter().map(|seen| seen.to).collect();
    assert_eq!(tos, [1, 2, 1, 2, 3, 4, 5, 6]);
    assert_eq!(store.model().cache["k"].0, "5");
}

#[test]
fn a_ledger_that_is_gone_stops_the_pipeline() {
    let store = Arc::new(Store::new([Goes::None, Goes::Emptied]));
    let (_, failure) = Site::new(vec![(OTHERS, store.clone())]).run(&six(), 1);
    let failure = failure.unwrap();
    for part in ["pipeline `p`", "sink `s0`", "t-0", "Restore it"] {
        assert!(failure.contains(part), "{failure}");
    }
    assert_eq!(store.writes().len(), 1);
}

#[test]
fn a_store_that_cannot_go_on_ends_the_pipeline_with_one_message() {
    // Two lanes meet the same.
    let events = Events((0..8).map(|n| (n % 2, u64::from(n / 2), Some(vec![set("k", "v")]))).collect());
    let store = Arc::new(Store::new([Goes::CrashBefore; 20]));
    let site = Site::new(vec![(OTHERS, store)]);
    let pipeline = site.pipeline(&events, 1, vec![events.prepare(), events.prepare()]);
    let stop = pipeline.stores.stop.clone();
    let (_, failure) = pipeline.run();
    assert_eq!(format!("{:#}", failure.unwrap()), "pipeline `p`: sink `s0`: crashed");
    assert!(stop.take_failure().is_none());
}

#[test]
fn a_lane_that_panics_ends_the_pipeline_and_frees_the_source() {
    let events = six();
    let site = Site::new(vec![(OTHERS, Arc::new(Store::default()))]);
    let pipeline = site.pipeline(&events, 1, vec![Box::new(|_| panic!("a bug")), events.prepare()]);
    let (_, failure) = pipeline.run();
    assert!(failure.unwrap().to_string().contains("a lane panicked"));
}

#[test]
fn what_an_earlier_sink_rejects_goes_no_further() {
    let good = |value: &str| vec![Command::RowUpsert(row("1", value)), set("k", value)];
    let events = Events::new([good("1"), vec![bad_row(), set("k", "bad")], vec![set("k", "2")], good("3")]);
    for most in [1, 4] {
        let (tables, cache) = (Arc::new(Store::default()), Arc::new(Store::default()));
        let site = Site::new(vec![(TABLES, tables), (OTHERS, cache.clone())]);
        let summary = site.run_well(&events, most);
        assert_eq!(site.letters(), [1]);
        assert_eq!(summary.rejected["store"], 1);
        assert!(cache.writes().iter().all(|seen| !seen.offsets.contains(&1)), "{:?}", cache.writes());
        assert_eq!(cache.model().cache["k"].0, "3");
    }
}

#[test]
fn what_an_earlier_sink_rejected_before_a_crash_goes_no_further_after_it() {
    let events = Events::new([vec![bad_row(), set("bad", "1")], vec![set("k", "1")]]);
    let (tables, cache) = (Arc::new(Store::default()), Arc::new(Store::new([Goes::CrashBefore])));
    let site = Site::new(vec![(TABLES, tables.clone()), (OTHERS, cache.clone())]);
    assert!(site.run(&events, 2).1.is_some());
    assert!(tables.next(0) >= Some(1) && cache.next(0) == Some(0), "it did not crash between the two");
    site.run_well(&events, 2);
    assert_eq!(cache.model().cache.into_keys().collect::<Vec<_>>(), ["k"]);
    assert_eq!(site.letters(), [0]);
}

#[test]
fn a_rejection_names_its_transform_and_leaves_the_answers_of_others_alone() {
    let events = Events::new([vec![Command::RowUpsert(row("1", "1"))]]);
    let store = Arc::new(Store::default());
    let site = Site::new(vec![(&Port::ALL, store.clone())]);
    let mut first = events.prepare();
    let prepare = move |records| {
        let mut batch = first(records)?;
        for command in [bad_row(), set("k", "bad")] {
            batch.commands.push(Tagged { offset: 0, transform: 1, command });
        }
        Ok(batch)
    };
    assert!(site.pipeline(&events, 1, vec![Box::new(prepare)]).run().1.is_none());
    let letters = std::fs::read_to_string(site.letters_path()).unwrap();
    assert!(letters.contains(r#"["tidegate.transform","second"],["tidegate.digest","d2"]"#), "{letters}");
    assert_eq!((store.model().rows.len(), store.model().cache.len()), (1, 0));
}

#[test]
fn a_dead_letter_is_durable_before_the_ledger_moves_past_it() {
    let site = Site::new(Vec::new());
    let store = Arc::new(Store::watching(site.letters_path()));
    let site = Site { sinks: vec![(&Port::ALL, store.clone())], ..site };
    let mut events = Events::new([vec![set("k", "1")], vec![bad_row()], vec![], vec![set("k", "2")]]);
    events.0[2].2 = None;
    site.run_well(&events, 4);
    for seen in store.writes() {
        let missing: Vec<u64> = [1, 2].into_iter().filter(|o| *o < seen.to && !seen.letters.contains(o)).collect();
        assert_eq!(missing, [0; 0], "filed too late: {seen:?}");
    }
    let mut letters = site.letters();
    letters.sort_unstable();
    assert_eq!(letters, [1, 2]);
}

#[test]
fn dead_letters_that_cannot_be_filed_stop_the_pipeline_and_nothing_moves() {
    let store = Arc::new(Store::default());
    let site = Site::new(vec![(&Port::ALL, store.clone())]);
    let mut events = six();
    events.0[0].2 = None;
    let pipeline = site.pipeline(&events, 6, vec![events.prepare()]);
    pipeline.lanes[0].stores.dead_letters.break_off();
    let failure = format!("{:#}", pipeline.run().1.unwrap());
    assert!(failure.contains("pipeline `p`: cannot file dead letters") && failure.contains("dead-letters.jsonl"));
    assert_eq!(store.writes(), []);
}

#[test]
fn a_sink_that_is_added_later_fills_itself_while_the_other_skips() {
    let events = Events::new((0..6).map(|n| vec![Command::RowUpsert(row("1", &n.to_string())), set("k", "v")]));
    let (old, new) = (Arc::new(Store::default()), Arc::new(Store::default()));
    let site = Site::new(vec![(TABLES, old.clone())]);
    site.run_well(&events, 2);
    let before = old.writes();
    let site = Site { sinks: vec![(TABLES, old.clone()), (OTHERS, new.clone())], ..site };
    site.run_well(&events, 2);
    assert_eq!(old.writes(), before);
    assert_eq!(new.next(0), Some(6));
    assert_eq!(new.model().cache["k"].0, "v");
}

#[test]
fn a_sink_that_has_come_into_the_middle_of_a_batch_gets_the_rest_of_it_alone() {
    let events = Events::new((0..6).map(|n| vec![Command::RowUpsert(row("1", &n.to_string())), publish(n)]));
    let (tables, messages) = (Arc::new(Store::default()), Arc::new(Store::default()));
    let site = Site::new(vec![(OTHERS, messages.clone())]);
    site.run_well(&Events(events.0[..4].to_vec()), 4);
    // The tables are new and begin at the start, in batches that are cut elsewhere.
    let site = Site { sinks: vec![(TABLES, tables.clone()), (OTHERS, messages.clone())], ..site };
    site.run_well(&events, 6);
    assert_eq!(messages.model().messages, ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(tables.next(0), Some(6));
}

#[test]
fn a_sink_without_commands_is_moved_along_at_the_end() {
    let (tables, cache) = (Arc::new(Store::default()), Arc::new(Store::default()));
    Site::new(vec![(TABLES, tables.clone()), (OTHERS, cache.clone())]).run_well(&six(), 1);
    assert_eq!((tables.next(0), cache.next(0)), (Some(6), Some(6)));
    assert!(tables.writes().len() < 6, "with each batch");
}

/// A lane on its own thread, its queue and its stores, with the partitions 0 and 1 assigned.
fn busy_lane(site: &Site) -> (std::thread::JoinHandle<PipelineSummary>, Arc<LaneQueue>, Arc<Stores>) {
    let (control, begins) = mpsc::channel();
    let stores = site.stores();
    let lane = lane(&stores, answering(|_| Some(vec![set("k", "v")])), control, 8);
    let queue = lane.queue.clone();
    let running = std::thread::spawn(move || lane.run());
    for partition in 0..2 {
        let partition = TopicPartition { topic: "t".into(), partition };
        let assigned =
            Assigned { partition, log_start: 0, log_end: None, topic: None, committed: None, lease: Lease::default() };
        queue.assign(assigned).unwrap();
        while !matches!(begins.recv().unwrap(), Control::Begin { .. }) {}
    }
    (running, queue, stores)
}

fn record(partition: u32, offset: u64) -> Record {
    // The partitions were claimed in their order.
    let claim = Claim(u64::from(partition) + 1);
    let partition = TopicPartition { topic: "t".into(), partition };
    Record { partition, offset, timestamp: None, headers: vec![], key: None, value: None, claim }
}

#[test]
fn a_sink_without_commands_is_moved_along_while_its_lane_is_busy_elsewhere() {
    let (tables, cache) = (Arc::new(Store::default()), Arc::new(Store::default()));
    let site = Site::new(vec![(TABLES, tables.clone()), (OTHERS, cache)]);
    let (running, queue, _) = busy_lane(&site);
    queue.push(record(0, 0), &AtomicBool::new(false)).unwrap();
    let started = Instant::now();
    for offset in 0.. {
        if tables.next(0) == Some(1) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "it was left behind");
        queue.push(record(1, offset), &AtomicBool::new(false)).unwrap();
    }
    queue.close();
    running.join().unwrap();
}

#[test]
fn a_sink_without_commands_is_moved_along_when_the_pipeline_is_stopped() {
    let (tables, cache) = (Arc::new(Store::default()), Arc::new(Store::default()));
    let site = Site::new(vec![(TABLES, tables.clone()), (OTHERS, cache.clone())]);
    let (running, queue, stores) = busy_lane(&site);
    queue.push(record(0, 0), &AtomicBool::new(false)).unwrap();
    until("the record is durable", || cache.next(0) == Some(1));
    stores.stop.set();
    queue.close();
    running.join().unwrap();
    assert_eq!(tables.next(0), Some(1));
}
