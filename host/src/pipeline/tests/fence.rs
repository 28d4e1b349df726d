//! What a lane publishes of partitions that it may have lost.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::played::{CACHE, Played, assigned, of};
use super::store::Fault as Goes;
use super::*;
use crate::sink::null::Null;
use crate::sink::{Declared, Sink};
use crate::source::lease::{Leases, Moment};
use crate::source::{Assigned, Lease};

const MESSAGES: &[Port] = &[Port::Messages];
pub(super) const SESSION: Duration = Duration::from_secs(600);

/// Publishes each record's offset.
fn publishing(record: &Record) -> Option<Vec<Command>> {
    Some(vec![message(&record.offset.to_string())])
}

fn message(value: &str) -> Command {
    Command::Publish { topic: "t".into(), key: None, value: Some(value.into()), headers: vec![] }
}

pub(super) fn under(lease: &Lease) -> Assigned {
    Assigned { lease: lease.clone(), ..assigned(0) }
}

/// The lease of the first partition.
pub(super) fn begun(leases: &Leases) -> Lease {
    leases.begin(&[of(0)]);
    leases.of(&of(0))
}

#[test]
fn a_batch_of_messages_alone_moves_a_ledger_before_the_first_is_published() {
    let cache = Arc::new(Store::default());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let look = {
        let (cache, seen) = (cache.clone(), seen.clone());
        move || seen.lock().unwrap().push(cache.next(0))
    };
    let messages = Arc::new(Store::silent_during([], look));
    let site = Site::new(vec![(CACHE, cache.clone()), (MESSAGES, messages.clone())]);
    site.run_well(&Events::new([vec![message("0")], vec![message("1"), set("k", "v")], vec![message("2")]]), 1);
    assert_eq!(*seen.lock().unwrap(), [Some(1), Some(2), Some(3)]);
    assert_eq!(messages.model().messages, ["0", "1", "2"]);
    // Where the cache had a command of the batch, that was the fence. The end notes how far the messages have come.
    assert_eq!(cache.writes().len(), 4);
}

#[test]
fn what_another_claim_has_taken_is_published_by_that_alone() {
    let cache = Arc::new(Store::new([Goes::None, Goes::Taken]));
    let count = Arc::new(AtomicUsize::default());
    let counted = count.clone();
    let during = move || {
        counted.fetch_add(1, Ordering::Relaxed);
    };
    let site = Site::new(vec![(CACHE, cache), (MESSAGES, Arc::new(Store::silent_during([], during)))]);
    let played = Played::over(site.stores(), publishing);
    let (_, claim) = played.assign(assigned(0));
    played.give(0, 0, claim);
    played.durable(0, 1);
    played.give(0, 1, claim);
    assert_eq!(played.claims_again(), of(0));
    assert_eq!(count.load(Ordering::Relaxed), 1);
    played.end();
}

#[test]
fn fence_is_a_ledger_that_other_processes_see_too() {
    let (tables, messages) = (Arc::new(Store::default()), Arc::new(Store::silent()));
    let site =
        Site::new(vec![(TABLES, tables.clone()), (CACHE, Arc::new(Store::default())), (MESSAGES, messages.clone())]);
    let null = Arc::new(Null::new());
    RUNTIME.block_on(null.prepare("p", &Declared::default())).unwrap();
    let mut stores = site.stores();
    Arc::get_mut(&mut stores).unwrap().sinks[1].sink = null;
    let played = Played::over(stores, publishing);
    let (_, claim) = played.assign(assigned(0));
    played.give(0, 0, claim);
    played.durable(0, 1);
    tables.taken(0);
    played.give(0, 1, claim);
    assert_eq!(played.claims_again(), of(0));
    assert_eq!(messages.model().messages, ["0"]);
    played.end();
}

#[test]
fn a_fence_that_is_set_leaves_the_messages_to_be_published_by_the_next_start() {
    let cache = Arc::new(Store::new([Goes::CrashAfter]));
    let messages = Arc::new(Store::silent());
    let site = Site::new(vec![(CACHE, cache.clone()), (MESSAGES, messages.clone())]);
    let events = Events::new([vec![message("0")]]);
    let (_, failure) = site.run(&events, 1);
    assert!(failure.unwrap().contains("crashed"));
    assert_eq!((cache.next(0), messages.model().messages.len()), (Some(1), 0));
    site.run_well(&events, 1);
    assert_eq!(messages.model().messages, ["0"]);
}

#[test]
fn a_write_is_given_up_when_the_group_takes_its_partition_while_the_store_is_away() {
    for (ports, keeps_ledger) in [(MESSAGES, false), (CACHE, true)] {
        let tries = Arc::new(AtomicUsize::default());
        let tried = tries.clone();
        let during = move || {
            tried.fetch_add(1, Ordering::Relaxed);
        };
        let away = std::iter::repeat_n(Goes::Away, 1000);
        let store =
            if keeps_ledger { Store::new(away).with_during(during) } else { Store::silent_during(away, during) };
        let store = Arc::new(store);
        let site = Site::new(vec![(ports, store.clone())]);
        let played = Played::over(site.stores(), move |record| {
            Some(vec![if keeps_ledger { set("k", "v") } else { message(&record.offset.to_string()) }])
        });
        let leases = Leases::lasting(SESSION);
        leases.membership.confirm(Moment::now());
        let (_, claim) = played.assign(under(&begun(&leases)));
        played.give(0, 0, claim);
        until("it is tried", || tries.load(Ordering::Relaxed) > 1);
        leases.end(&[of(0)]);
        played.queue.revoke(&of(0)).unwrap();
        assert_eq!(played.releases(), of(0));
        let given_up = tries.load(Ordering::Relaxed);
        assert_eq!(played.stores.observed.waiting.current(), []);
        played.end();
        assert_eq!(tries.load(Ordering::Relaxed), given_up);
        assert!(store.model().messages.is_empty() && store.model().cache.is_empty());
    }
}

#[test]
fn nothing_is_published_before_the_group_has_confirmed_who_has_the_partition() {
    let messages = Arc::new(Store::silent());
    let site = Site::new(vec![(MESSAGES, messages.clone())]);
    let played = Played::over(site.stores(), publishing);
    let leases = Leases::lasting(SESSION);
    let (_, claim) = played.assign(under(&begun(&leases)));
    played.give(0, 0, claim);
    until("it waits", || played.stores.observed.waiting.current().iter().any(|(_, why)| why.contains("confirmed")));
    assert!(messages.model().messages.is_empty());
    leases.membership.confirm(Moment::now());
    played.durable(0, 1);
    assert_eq!(messages.model().messages, ["0"]);
    // And what waits in vain is given up.
    let lost = Leases::lasting(Duration::ZERO);
    lost.membership.confirm(Moment::now());
    played.queue.revoke(&of(0)).unwrap();
    assert_eq!(played.releases(), of(0));
    let (_, claim) = played.assign(under(&begun(&lost)));
    played.give(0, 1, claim);
    until("it waits", || played.stores.observed.waiting.current().iter().any(|(_, why)| why.contains("confirmed")));
    lost.end(&[of(0)]);
    assert_eq!(played.claims_again(), of(0));
    played.end();
    assert_eq!(messages.model().messages, ["0"]);
}

/// A cache and messages.
fn beside_a_cache() -> (Site, Arc<Store>, Arc<Store>) {
    let (cache, messages) = (Arc::new(Store::default()), Arc::new(Store::silent()));
    (Site::new(vec![(CACHE, cache.clone()), (MESSAGES, messages.clone())]), cache, messages)
}

fn to_both(record: &Record) -> Option<Vec<Command>> {
    Some(vec![set("k", "v"), message(&record.offset.to_string())])
}

#[test]
fn pipeline_that_was_stopped_publishes_nothing_again_when_its_commits_are_gone() {
    let (site, _, messages) = beside_a_cache();
    for end in 1..4 {
        let played = Played::over(site.stores(), to_both);
        let (begins, claim) = played.assign(assigned(0));
        (begins..end).for_each(|offset| played.give(0, offset, claim));
        played.durable(0, end);
        played.end();
    }
    assert_eq!(messages.model().messages, ["0", "1", "2"]);
}

#[test]
fn ledger_of_a_partition_at_rest_notes_how_far_its_messages_have_come() {
    let (site, cache, _) = beside_a_cache();
    let played = Played::over(site.stores(), to_both);
    let (_, claim) = played.assign(assigned(0));
    played.give(0, 0, claim);
    played.durable(0, 1);
    until("the ledger has it", || cache.note(0).contains(r#""positions":{"s1":1}"#));
    let writes = cache.writes().len();
    played.end();
    assert_eq!((writes, cache.writes().len()), (2, 2), "once");
}

#[test]
fn partition_that_is_taken_away_or_left_at_the_end_is_released_in_every_sink() {
    let (cache, messages) = (Arc::new(Store::default()), Arc::new(Store::silent()));
    let played =
        Played::over(Site::new(vec![(CACHE, cache.clone()), (MESSAGES, messages.clone())]).stores(), publishing);
    for partition in 0..2 {
        played.assign(assigned(partition));
    }
    played.queue.revoke(&of(0)).unwrap();
    assert_eq!(played.releases(), of(0));
    assert_eq!((cache.released(), messages.released()), (vec![of(0)], vec![of(0)]));
    played.end();
    assert_eq!((cache.released(), messages.released()), (vec![of(0), of(1)], vec![of(0), of(1)]));
}
