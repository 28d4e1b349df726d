//! What a lane makes of partitions that come and go, and of ledgers that are not as they were left.

use super::played::{CACHE, Played, assigned, committed, of};
use super::store::Fault as Goes;
use super::*;
use crate::pipeline::commit::CommitMetadata;
use crate::source::{Assigned, Control, Counted};

#[test]
fn a_partition_is_told_durable_and_released_when_it_is_taken_away() {
    let (cache, messages) = (Arc::new(Store::default()), Arc::new(Store::silent()));
    let played = Played::new(&Site::new(vec![(CACHE, cache.clone()), (&[Port::Messages], messages)]));
    let (offset, claim) = played.assign(assigned(0));
    assert_eq!(offset, 0);
    played.give(0, 4, claim);
    played.queue.revoke(&of(0)).unwrap();
    let (mut durable, mut released) = (None, false);
    while !released {
        match played.told() {
            Control::Durable { offset, metadata, .. } => durable = Some((offset, CommitMetadata::read(&metadata))),
            Control::Released { partition } => released = partition == of(0),
            other => panic!("{other:?}"),
        }
    }
    // Either the record was written before, or it went with the partition: never half of it.
    let next = cache.next(0).unwrap();
    assert!(next == 0 || next == 5, "{next}");
    let (offset, metadata) = durable.unwrap();
    assert_eq!((offset, metadata.positions["s1"]), (next, next));
    assert!(metadata.sinks.contains_key("s0"));
    played.end();
}

#[test]
fn what_has_no_ledger_goes_on_where_the_commit_says() {
    let (cache, messages) = (Arc::new(Store::default()), Arc::new(Store::silent()));
    let site = Site::new(vec![(CACHE, cache), (&[Port::Messages], messages)]);
    let stores = site.stores();
    let committed = CommitMetadata { positions: [("s1".to_owned(), 40)].into(), ..CommitMetadata::default() }.write();
    let claim = |assigned: Assigned| RUNTIME.block_on(stores.claim(&assigned, None)).unwrap().next;
    assert_eq!(claim(assigned(0)), [0, 0]);
    assert_eq!(claim(Assigned { committed: self::committed(0, committed), ..assigned(0) }), [0, 40]);
}

#[test]
fn sink_that_keeps_a_ledger_from_now_on_begins_where_it_stood_without_one() {
    let before = |site: &Site, metadata: Option<CommitMetadata>| {
        let committed = metadata.and_then(|metadata| committed(3, metadata.write()));
        RUNTIME.block_on(site.stores().claim(&Assigned { committed, ..assigned(0) }, None)).unwrap().next
    };
    let commit = CommitMetadata { positions: [("s1".to_owned(), 7)].into(), ..CommitMetadata::default() };
    let messages = || (&[Port::Messages][..], Arc::new(Store::default()));
    let new = Site::new(vec![(CACHE, Arc::new(Store::default())), messages()]);
    assert_eq!(before(&new, Some(commit)), [0, 7]);
    // From then on the ledger says it.
    assert_eq!(before(&new, None), [0, 7]);
    assert_eq!(before(&Site::new(vec![(CACHE, Arc::new(Store::default())), messages()]), None), [0, 0]);

    // Without one for a while, and with it again: what came meanwhile is published.
    let commit = CommitMetadata { positions: [("s1".to_owned(), 9)].into(), ..CommitMetadata::default() };
    assert_eq!(before(&new, Some(commit)), [0, 9]);
    assert_eq!(before(&new, None), [0, 9]);

    // What was lost before it stood there is told, as without a ledger.
    let site = Site::new(vec![messages()]);
    let commit = CommitMetadata { positions: [("s0".to_owned(), 7)].into(), ..CommitMetadata::default() };
    let gone = Assigned { log_start: 9, committed: committed(7, commit.write()), ..assigned(0) };
    let error = RUNTIME.block_on(site.stores().claim(&gone, None)).unwrap_err().to_string();
    assert!(error.contains("2 offsets are gone"), "{error}");

    // And back, where the messages stood, whatever another sink lacks.
    let site = Site::new(vec![(CACHE, Arc::new(Store::default())), messages()]);
    let played = Played::over(site.stores(), |record| Some(vec![publish(record.offset)]));
    let (_, claim) = played.assign(assigned(0));
    played.give(0, 4, claim);
    let commit = played.durable(0, 5);
    played.end();
    let back = Site::new(vec![(CACHE, Arc::new(Store::default())), (&[Port::Messages], Arc::new(Store::silent()))]);
    assert_eq!(before(&back, Some(commit)), [0, 5]);
}

/// As after seven days without members, or with the name of another group.
#[test]
fn messages_go_on_where_the_ledgers_stand_when_the_commits_are_gone() {
    let (cache, silent) = (Arc::new(Store::default()), Arc::new(Store::silent()));
    let site = Site::new(vec![(CACHE, cache), (&[Port::Messages], silent.clone())]);
    let played = Played::new(&site);
    let (_, claim) = played.assign(assigned(0));
    for offset in [3, 5] {
        played.give(0, offset, claim);
        played.durable(0, offset + 1);
    }
    played.end();
    assert_eq!(silent.published(), 2);

    for metadata in [None, committed(0, CommitMetadata::count("", Counted::Claim)), committed(6, "by hand".into())] {
        let standing = RUNTIME.block_on(site.stores().claim(&Assigned { committed: metadata, ..assigned(0) }, None));
        assert_eq!(standing.unwrap().next, [6, 6]);
    }
    // Where nothing is to be written, the ledgers are moved with that.
    let played = Played::new(&site);
    let (_, claim) = played.assign(Assigned { committed: committed(6, "by hand".into()), ..assigned(0) });
    played.give(0, 5, claim);
    played.queue.reach(&of(0), 9, claim).unwrap();
    played.durable(0, 9);
    played.queue.reach(&of(0), 10, claim).unwrap();
    played.durable(0, 10);
    played.end();
    let standing = RUNTIME.block_on(site.stores().claim(&assigned(0), None)).unwrap();
    assert_eq!(standing.next, [10, 10]);
}

#[test]
fn partition_whose_ledger_has_lost_it_stops_the_pipeline_at_each_start() {
    for ports in [TABLES, OTHERS] {
        let store = Arc::new(Store::default());
        let site = Site::new(vec![(ports, store.clone())]);
        let played = Played::new(&site);
        let (_, claim) = played.assign(assigned(0));
        played.give(0, 3, claim);
        let told = played.durable(0, 4);
        store.lose_row(0);
        played.give(0, 4, claim);
        let failure = played.failure();
        assert!(
            failure.contains("sink `s0` does not know t-0 any more") && failure.contains("Restore it"),
            "{failure}"
        );
        for _ in 0..2 {
            let played = Played::new(&site);
            played.queue.assign(Assigned { committed: committed(4, told.write()), ..assigned(0) }).unwrap();
            let failure = played.failure();
            assert!(failure.contains("sink `s0` does not know t-0 any more"), "{failure}");
            assert_eq!(store.next(0), None);
        }
        // Another partition, that it never had, is new.
        let played = Played::new(&site);
        assert_eq!(played.assign(assigned(1)).0, 0);
        played.end();
    }
}

#[test]
fn cache_whose_ledger_has_lost_one_partition_is_cleared_once_and_filled_again() {
    let cache = Arc::new(Store::default());
    let process = || Played::new(&Site::new(vec![(CACHE, cache.clone())]));
    let [one, other] = [0, 1].map(|_| process());
    let begin = |played: &Played, partition, committed| {
        let (offset, claim) = played.assign(Assigned { committed, ..assigned(partition) });
        assert_eq!(offset, 0, "from the start");
        played.give(partition, 0, claim);
        played.give(partition, 1, claim);
        played.durable(partition, 2)
    };
    begin(&one, 0, None);
    let told = begin(&other, 1, None);
    cache.lose_row(0);
    assert_eq!(one.claims_again(), of(0));
    begin(&one, 0, None);
    assert_eq!(cache.cleared(), 1);
    // The other replica's rows went with that.
    assert_eq!(other.claims_again(), of(1));
    let again = begin(&other, 1, None);
    assert_eq!(cache.cleared(), 1, "not what the first one has filled again");
    assert_eq!(cache.model().cache.len(), 4);
    let _ = [one, other].map(Played::end);

    // It is the same for a process that knows of it by the commit alone: an old one, and the last one.
    for (told, cleared) in [(told, 1), (again, 2)] {
        cache.lose_row(1);
        let played = process();
        begin(&played, 1, committed(2, told.write()));
        assert_eq!(cache.cleared(), cleared);
        played.end();
    }
}

#[test]
fn cache_whose_ledger_has_lost_one_partition_stops_where_that_is_configured() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache.clone())]);
    let site = Site { policies: Policies { on_lost_cache: OnLostCache::Stop, ..site.policies }, ..site };
    let commit = CommitMetadata { sinks: [("s0".to_owned(), 0)].into(), ..CommitMetadata::default() }.write();
    for _ in 0..2 {
        let assigned = Assigned { committed: committed(4, commit.clone()), ..assigned(0) };
        let failure = RUNTIME.block_on(site.stores().claim(&assigned, None)).unwrap_err().to_string();
        assert!(failure.contains("does not know t-0 any more"), "{failure}");
    }
    assert_eq!(cache.cleared(), 0);
}

#[test]
fn control_records_at_the_end_of_a_partition_move_the_ledger() {
    let cache = Arc::new(Store::default());
    let played = Played::new(&Site::new(vec![(CACHE, cache.clone())]));
    let (_, claim) = played.assign(assigned(0));
    played.queue.reach(&of(0), 9, claim).unwrap();
    played.durable(0, 9);
    assert_eq!(cache.next(0), Some(9));
    played.end();
}

#[test]
fn a_cache_that_was_emptied_is_filled_again_by_all_its_lanes() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache.clone())]);
    let played = Played::new(&site);
    let claims = [0, 1].map(|partition| played.assign(assigned(partition)).1);
    for (partition, claim) in [0, 1].into_iter().zip(claims) {
        played.give(partition, 0, claim);
        played.durable(partition, 1);
    }
    cache.lose_everything();
    for (partition, claim) in [0, 1].into_iter().zip(claims) {
        played.give(partition, 1, claim);
        while !matches!(played.told(), Control::ClaimAgain { partition: of_ } if of_ == of(partition)) {}
        let (offset, claim) = played.assign(assigned(partition));
        assert_eq!(offset, 0, "from the start");
        played.give(partition, 0, claim);
        played.give(partition, 1, claim);
        played.durable(partition, 2);
    }
    assert_eq!(cache.cleared(), 1, "not what the first lane has filled again");
    assert_eq!(cache.model().cache.len(), 4);
    played.end();
}

#[test]
fn a_cache_that_was_emptied_is_filled_again_also_where_that_is_found_by_a_claim() {
    let cache = Arc::new(Store::default());
    let played = Played::new(&Site::new(vec![(CACHE, cache.clone())]));
    let (_, claim) = played.assign(assigned(0));
    played.give(0, 0, claim);
    played.durable(0, 1);
    cache.lose_everything();
    assert_eq!(played.assign(assigned(0)).0, 0, "from the start");
    assert_eq!(played.assign(assigned(1)).0, 0);
    assert_eq!(cache.cleared(), 1);
    played.end();
}

#[test]
fn a_store_that_was_set_back_while_nothing_came_gets_again_what_it_lost() {
    let (tables, cache) = (Arc::new(Store::default()), Arc::new(Store::default()));
    let played = Played::new(&Site::new(vec![(TABLES, tables), (CACHE, cache.clone())]));
    let claims = [0, 1].map(|partition| played.assign(assigned(partition)).1);
    for (partition, offset) in [(0, 0), (1, 0), (1, 1)] {
        played.give(partition, offset, claims[usize::try_from(partition).unwrap()]);
        played.durable(partition, offset + 1);
    }
    cache.set_back(1);
    assert_eq!(played.claims_again(), of(1), "the other one is as it was left");
    let (offset, claim) = played.assign(assigned(1));
    assert_eq!(offset, 0, "the last one that it has, to know the topic again");
    played.give(1, 0, claim);
    played.give(1, 1, claim);
    played.durable(1, 2);
    assert_eq!(cache.model().cache.len(), 3);
    played.end();
}

/// Its head is there again before the one that is idle looks.
#[test]
fn a_cache_that_another_replica_has_begun_to_fill_again_is_filled_again_by_one_that_is_idle() {
    let cache = Arc::new(Store::default());
    let played = [0, 1].map(|_| Played::new(&Site::new(vec![(CACHE, cache.clone())])));
    for (partition, played) in [0, 1].into_iter().zip(&played) {
        let (_, claim) = played.assign(assigned(partition));
        played.give(partition, 0, claim);
        played.durable(partition, 1);
    }
    let [busy, idle] = played;
    cache.lose_everything();
    assert_eq!(busy.assign(assigned(0)).0, 0, "from the start");
    assert_eq!(idle.claims_again(), of(1));
    assert_eq!(idle.assign(assigned(1)).0, 0, "from the start");
    assert_eq!(cache.cleared(), 1, "not what the busy one has filled again");
    busy.end();
    idle.end();
}

#[test]
fn a_lost_ledger_is_told_by_the_commits_at_the_start() {
    let commits = [CommitMetadata { sinks: [("s0".to_owned(), 0)].into(), ..CommitMetadata::default() }];
    for (ports, policy, rebuilt) in
        [(CACHE, OnLostCache::Rebuild, true), (CACHE, OnLostCache::Stop, false), (TABLES, OnLostCache::Rebuild, false)]
    {
        let store = Arc::new(Store::default());
        let site = Site::new(vec![(ports, store.clone())]);
        let site = Site { policies: Policies { on_lost_cache: policy, ..site.policies }, ..site };
        let stores = site.stores();
        store.lose_everything();
        // Without a commit that names it, it is a store at its first start.
        RUNTIME.block_on(stores.prepare(&stores.sinks[0], &[CommitMetadata::default()])).unwrap();
        assert_eq!(store.cleared(), 0);
        store.lose_everything();
        let prepared = RUNTIME.block_on(stores.prepare(&stores.sinks[0], &commits));
        assert_eq!((prepared.is_ok(), store.cleared()), (rebuilt, usize::from(rebuilt)));
        if let Err(failure) = prepared {
            assert!(failure.to_string().contains("sink `s0` is gone"), "{failure}");
        }
    }
}

#[test]
fn a_clash_rests_while_other_partitions_go_on_and_is_rejected_after_a_while() {
    let cache = Arc::new(Store::new([Goes::Clash, Goes::None, Goes::Clash]));
    let site = Site::new(vec![(CACHE, cache.clone())]);
    let played = Played::new(&site);
    let (_, resting) = played.assign(assigned(0));
    let (_, other) = played.assign(assigned(1));
    played.give(0, 0, resting);
    played.give(1, 0, other);
    played.durable(1, 1);
    assert_eq!(cache.next(0), Some(0), "it rests");
    for _ in 0..2 {
        let (offset, claim) = played.begins();
        assert_eq!(offset, 0);
        played.give(0, 0, claim);
    }
    played.durable(0, 1);
    assert_eq!(cache.model().cache.len(), 2);
    played.end();

    let cache = Arc::new(Store::new([Goes::Clash, Goes::Clash]));
    let site = Site::new(vec![(CACHE, cache)]);
    let site = Site { policies: Policies { clash_patience: Duration::ZERO, ..site.policies }, ..site };
    let played = Played::new(&site);
    let (_, claim) = played.assign(assigned(0));
    played.give(0, 0, claim);
    let (_, claim) = played.begins();
    played.give(0, 0, claim);
    played.durable(0, 1);
    played.end();
    assert_eq!(site.letters(), [0]);
}

#[test]
fn lane_that_has_lost_its_partitions_waits_for_no_store_any_more() {
    let played = Played::new(&Site::new(vec![(CACHE, Arc::new(Store::mute()))]));
    played.assign(assigned(0));
    let waits = || !played.stores.observed.waiting_for().is_empty();
    until("checks of the ledger that fail are told", waits);
    played.queue.revoke(&of(0)).unwrap();
    until("what the lane told of the store is taken back", || !waits());
    played.end();
}

fn row_of_its_own(record: &Record) -> Option<Vec<Command>> {
    let offset = record.offset.to_string();
    Some(vec![Command::RowUpsert(row(&offset, &offset))])
}

/// Gives the record at 0, and when that has been tried for so long the one at 1 with it; ends when both are durable.
fn give_two(played: &Played, second_after: Duration) {
    use crate::source::Control;
    played.queue.assign(assigned(0)).unwrap();
    let begun = Instant::now();
    loop {
        match played.told() {
            Control::Begin { offset, claim, .. } => {
                let there = if begun.elapsed() < second_after { 1 } else { 2 };
                let records = (offset..there).map(|offset| Record {
                    partition: of(0),
                    offset,
                    timestamp: None,
                    headers: vec![],
                    key: None,
                    value: Some(vec![]),
                    claim,
                });
                played.queue.give(records.collect()).unwrap();
            }
            Control::Durable { offset: 2, .. } => break,
            _ => {}
        }
    }
}

#[test]
fn row_that_has_just_begun_to_clash_has_its_own_patience() {
    let patience = Duration::from_millis(500);
    let racing_since: Arc<Mutex<Option<Instant>>> = Arc::default();
    let since = racing_since.clone();
    let clashing = move |command: &Command| match command {
        Command::RowUpsert(row) if row.key[0].1.get() == "0" => true,
        // What it refers to comes a moment later, from another partition.
        Command::RowUpsert(_) => since.lock().unwrap().get_or_insert_with(Instant::now).elapsed() < patience / 5,
        _ => false,
    };
    let tables = Arc::new(Store::clashing(clashing));
    let mut site = Site::new(vec![(TABLES, tables)]);
    site.policies.clash_patience = patience;
    let played = Played::over(site.stores(), row_of_its_own);
    give_two(&played, patience * 9 / 10);
    let waited = racing_since.lock().unwrap().unwrap().elapsed();
    played.end();
    assert_eq!(
        site.letters(),
        [0],
        "the second one waited {waited:?} of {patience:?}, and would have been taken after 100 ms"
    );
}

#[test]
fn event_that_is_filed_as_a_clash_is_not_written_when_its_batch_comes_again() {
    let patience = Duration::from_millis(500);
    let path: Arc<Mutex<Option<PathBuf>>> = Arc::default();
    let (file, second) = (path.clone(), Arc::new(Mutex::new(None::<Instant>)));
    let clashing = move |command: &Command| match command {
        // Another partition frees it just after the letter was filed.
        Command::RowUpsert(row) if row.key[0].1.get() == "0" => {
            store::letters(file.lock().unwrap().as_ref().unwrap()).is_empty()
        }
        Command::RowUpsert(_) => second.lock().unwrap().get_or_insert_with(Instant::now).elapsed() < patience / 5,
        _ => false,
    };
    let tables = Arc::new(Store::clashing(clashing));
    let mut site = Site::new(vec![(TABLES, tables.clone())]);
    *path.lock().unwrap() = Some(site.letters_path());
    site.policies.clash_patience = patience;
    let played = Played::over(site.stores(), row_of_its_own);
    give_two(&played, patience * 9 / 10);
    played.end();
    let written: Vec<_> = tables.model().rows.keys().cloned().collect();
    assert_eq!(
        (site.letters().len(), written.len()),
        (1, 1),
        "{:?} are filed, {written:?} are written",
        site.letters()
    );
}
