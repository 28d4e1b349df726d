//! What comes twice: after a crash between bulk and ledger, from a stale owner, or from somebody else.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::command::Port;
use crate::command::collapse::Tagged;
use crate::sink::contract_tests::Bench as _;
use crate::sink::elasticsearch::testing::Proxy;
use crate::sink::model::{Model, events, settle};

/// Writes a batch, and dies before the ledger is moved.
async fn die(bench: &ElasticBench, token: u128, to: u64, commands: &[(u64, Command)]) {
    let proxy = Proxy::new(&bench.url);
    let mut run = Run::start(Options { urls: vec![proxy.url.clone()], ..bench.options() }, token).await;
    proxy.lose(Some(format!("\"next\":{to},")));
    assert!(matches!(run.try_write(to, commands).await, Err(SinkError::Retry(_))));
}

/// A clean restart of a node forgets which documents were deleted; so does this.
fn forget_tombstones(bench: &ElasticBench) {
    for action in ["_close", "_open?wait_for_active_shards=1"] {
        let answer = bench.ask("POST", &format!("{}i-000001/{action}", bench.prefix), &Value::Null);
        assert_eq!(answer["acknowledged"], true, "{answer}");
    }
    bench.ask("GET", &format!("_cluster/health/{}i?wait_for_status=yellow", bench.prefix), &Value::Null);
}

#[test]
fn a_batch_that_was_cut_short_is_replayed_under_other_cuts() {
    on_each_server(|bench| async move {
        let batch = [
            (0, index("a", r#"{"n":0}"#)),
            (1, merge("a", r#"{"s":"x"}"#)),
            (2, delete("a")),
            (3, index("b", r#"{"n":3}"#)),
            (4, merge("b", r#"{"s":"y"}"#)),
        ];
        die(&bench, 1, 5, &batch).await;
        forget_tombstones(&bench);
        let mut run = Run::start(bench.options(), 2).await;
        assert_eq!(run.next, 0);
        // What was deleted does not come back; a merge that was done before the delete is no dead letter; and what is
        // newer already is left alone.
        for (to, command) in (1..).zip(&batch) {
            assert_eq!(run.write(to, std::slice::from_ref(command)).await, Written::Applied);
            assert_eq!(documents(&bench), [r#"b:{"n":3,"s":"y"}"#], "after event {}", to - 1);
        }
        // Past that stretch a merge that misses is bad again.
        assert_eq!(run.refused(6, &[(5, merge("a", "{}"))]).await.len(), 1);
    });
}

#[test]
fn merge_that_is_replayed_is_not_laid_over_later_ones() {
    on_each_server(|bench| async move {
        let batch = [
            (0, index("a", r#"{"n":0}"#)),
            (1, merge("a", r#"{"n":1,"s":"x"}"#)),
            (2, merge("a", r#"{"n":2}"#)),
            (3, merge("a", r#"{"s":"y"}"#)),
        ];
        die(&bench, 1, 4, &batch).await;
        let mut run = Run::start(bench.options(), 2).await;
        for (to, command) in (1..).zip(&batch) {
            assert_eq!(run.write(to, std::slice::from_ref(command)).await, Written::Applied);
            assert_eq!(documents(&bench), [r#"a:{"n":2,"s":"y"}"#], "after event {}", to - 1);
        }
    });
}

#[test]
fn event_that_merges_and_deletes_is_replayed_under_other_cuts() {
    on_each_server(|bench| async move {
        let batch = [(0, index("a", "{}")), (1, merge("a", r#"{"n":1}"#)), (1, delete("a"))];
        for (token, cuts) in [(1, [&batch[..], &[]]), (3, [&batch[..1], &batch[1..]])] {
            let at = |n: u64| n + if token == 1 { 0 } else { 10 };
            let shifted = |batch: &[(u64, Command)]| -> Vec<(u64, Command)> {
                batch.iter().map(|(offset, command)| (at(*offset), command.clone())).collect()
            };
            die(&bench, token, at(2), &shifted(&batch)).await;
            let mut run = Run::start(bench.options(), token + 1).await;
            for cut in cuts.iter().filter(|cut| !cut.is_empty()) {
                let to = at(cut.last().unwrap().0 + 1);
                assert_eq!(run.write(to, &shifted(cut)).await, Written::Applied);
            }
            assert_eq!(documents(&bench), [""; 0]);
            assert_eq!(run.write(at(10), &[]).await, Written::Applied);
        }
    });
}

#[test]
fn a_miss_of_a_stale_owner_is_no_bad_command() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        let mut old = Run::start(Options { urls: vec![proxy.url.clone()], ..bench.options() }, 1).await;
        assert_eq!(old.write(1, &[(0, index("a", "{}"))]).await, Written::Applied);
        // Another takes the partition over after the old owner has seen its token, and before it reads the document.
        let (options, runtime) = (bench.options(), tokio::runtime::Handle::current());
        proxy.before("_mget", move || {
            runtime.block_on(async {
                let mut new = Run::start(options, 2).await;
                assert_eq!(new.write(2, &[(1, delete("a"))]).await, Written::Applied);
            });
        });
        assert_eq!(old.write(2, &[(1, merge("a", "{}"))]).await, Written::Fenced);
        assert_eq!(documents(&bench), [""; 0]);
    });
}

#[test]
fn a_newer_version_that_a_stale_owner_meets_does_not_stop_it() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        for (owner, request, command) in
            [(1, "_bulk", index("a", "{}")), (3, "_bulk", delete("a")), (5, "_mget", merge("a", "{}"))]
        {
            let mut old = Run::start(Options { urls: vec![proxy.url.clone()], ..bench.options() }, owner).await;
            let next = old.next;
            assert_eq!(old.write(next + 1, &[(next, index("a", "{}"))]).await, Written::Applied);
            // Another takes the partition over after the old owner has seen its token, and comes further than it.
            let (options, runtime) = (bench.options(), tokio::runtime::Handle::current());
            proxy.before(request, move || {
                runtime.block_on(async {
                    let mut new = Run::start(options, owner + 1).await;
                    let newer = (next + 8, index("a", r#"{"n":1}"#));
                    assert_eq!(new.write(next + 9, &[newer]).await, Written::Applied);
                });
            });
            assert_eq!(old.write(next + 2, &[(next + 1, command)]).await, Written::Fenced);
            assert_eq!(documents(&bench), [r#"a:{"n":1}"#]);
        }
    });
}

#[test]
fn a_version_that_nobody_here_has_sent_stops_the_pipeline() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        assert_eq!(run.write(1, &[(0, index("a", "{}"))]).await, Written::Applied);
        let foreign = format!("{}i/_doc/a?version_type=external&version=900", bench.prefix);
        bench.ask("PUT", &foreign, &json!({"n": 7}));
        for command in [index("a", "{}"), delete("a"), merge("a", "{}")] {
            let cause = run.stops(2, &[(1, command)]).await;
            assert!(cause.contains("version 900") && cause.contains("two partitions"), "{cause}");
        }
        // A claim does not make it right, and neither does a second try.
        let mut run = Run::start(bench.options(), 2).await;
        assert!(run.stops(2, &[(1, index("a", "{}"))]).await.contains("version 900"));
        assert_eq!(documents(&bench), [r#"a:{"n":7}"#]);
    });
}

#[test]
fn first_version_that_no_owner_before_has_sent_stops_the_pipeline() {
    on_each_server(|bench| async move {
        // An owner has sent the events below 3.
        die(&bench, 1, 3, &[(2, index("b", "{}"))]).await;
        for (id, version) in [("a", 3), ("b", 2)] {
            let foreign = format!("{}i/_doc/{id}?version_type=external_gte&version={version}", bench.prefix);
            bench.ask("PUT", &foreign, &json!({"n": 7}));
        }
        let mut run = Run::start(bench.options(), 2).await;
        assert_eq!(run.write(1, &[(0, index("b", "{}"))]).await, Written::Applied);
        assert!(run.stops(2, &[(1, index("a", "{}"))]).await.contains("version 3"));
    });
}

#[test]
fn owner_whose_ledger_lost_its_last_writes_knows_what_it_has_sent() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        assert_eq!(run.write(1, &[(0, index("a", "{}"))]).await, Written::Applied);
        let row = format!("{}ledger/_doc/partition%2Fsearch%2Fp%2Ft%2F0", bench.prefix);
        let before = bench.ask("GET", &row, &Value::Null)["_source"].clone();
        assert_eq!(run.write(9, &[(8, index("a", r#"{"n":8}"#))]).await, Written::Applied);
        // The ledger is set back, and the documents are not.
        bench.ask("PUT", &row, &before);
        let mut run = Run::claim(run.sink, 2).await;
        assert_eq!(run.next, 1);
        assert_eq!(run.write(2, &[(1, index("a", r#"{"n":1}"#))]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":8}"#]);
    });
}

#[test]
fn partition_that_another_has_just_entered_is_taken_over_where_it_stands() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        let late = Elasticsearch::open(Options { urls: vec![proxy.url.clone()], ..bench.options() }).unwrap();
        late.prepare("p", &declared()).await.unwrap();
        // Both find no row; the other one makes it, and goes on.
        let (options, runtime) = (bench.options(), tokio::runtime::Handle::current());
        proxy.before("\"kind\":\"partition\"", move || {
            runtime.block_on(async {
                let mut first = Run::start(options, 2).await;
                assert_eq!(first.write(5, &[(4, index("a", "{}"))]).await, Written::Applied);
            });
        });
        assert_eq!(Run::claim(late, 1).await.next, 5);
    });
}

#[test]
fn what_other_modules_had_refused_is_not_refused_to_these() {
    on_each_server(|bench| async move {
        // An owner with these modules dies, and so does one with others, of which the server refuses something.
        die(&bench, 1, 4, &[(2, delete("a"))]).await;
        let proxy = Proxy::new(&bench.url);
        let mut others = Run::start(Options { urls: vec![proxy.url.clone()], ..bench.options() }, 2).await;
        others.digest = "e";
        let batch = [(1, index("b", r#"{"n":"x"}"#)), (3, delete("c"))];
        assert_eq!(others.refused(4, &batch).await.len(), 1);
        proxy.lose(Some("\"next\":4,".into()));
        assert!(matches!(others.try_write(4, &batch[1..]).await, Err(SinkError::Retry(_))));

        let mut run = Run::start(bench.options(), 3).await;
        assert_eq!(run.write(2, &[(1, index("b", r#"{"n":1}"#))]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"b:{"n":1}"#]);
    });
}

#[test]
fn set_before_a_delete_that_is_rejected_after_a_crash_stands() {
    on_each_server(|bench| async move {
        die(&bench, 1, 4, &[(0, index("a", "{}")), (3, delete("a"))]).await;
        forget_tombstones(&bench);
        // A store before this one has rejected event 3 meanwhile.
        let mut run = Run::start(bench.options(), 2).await;
        assert_eq!(run.write(4, &[(0, index("a", "{}"))]).await, Written::Applied);
        assert_eq!(documents(&bench), ["a:{}"]);
    });
}

#[test]
fn a_lost_answer_is_found_again() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        let mut run = Run::start(Options { urls: vec![proxy.url.clone()], ..bench.options() }, 1).await;
        proxy.lose(Some("\"next\":3,".into()));
        let batch = [(0, index("a", r#"{"n":0}"#)), (1, index("a", r#"{"n":1}"#)), (2, delete("b"))];
        assert!(matches!(run.try_write(3, &batch).await, Err(SinkError::Retry(_))));
        proxy.lose(None);
        assert_eq!(run.write(3, &batch).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":1}"#]);
    });
}

#[test]
fn replayed_merge_is_laid_over_a_newer_document() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        // The merges of event 10 missed their documents, which event 12, of another record key, has made.
        let twelve = [(12, index("a", r#"{"n":12}"#)), (12, index("b", "{}"))];
        assert_eq!(run.write(20, &twelve).await, Written::Applied);
        let replayed = [(10, merge("a", r#"{"s":"x"}"#)), (10, merge("a", r#"{"t":1}"#)), (10, merge("b", "{}"))];
        for _ in 0..2 {
            assert_eq!(run.write(20, &replayed).await, Written::Applied);
            assert_eq!(documents(&bench), [r#"a:{"n":12,"s":"x","t":1}"#, "b:{}"]);
        }
        // A whole document does not take the place of a newer one, and what comes next does.
        assert_eq!(run.write(20, &[(11, index("a", r#"{"n":11}"#))]).await, Written::Applied);
        assert_eq!(documents(&bench)[0], r#"a:{"n":12,"s":"x","t":1}"#);
        assert_eq!(run.write(21, &[(20, merge("a", r#"{"n":20}"#))]).await, Written::Applied);
        assert_eq!(documents(&bench)[0], r#"a:{"n":20,"s":"x","t":1}"#);
    });
}

#[test]
fn the_epoch_outranks_the_offset() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        assert_eq!(run.write(900, &[(899, index("a", "{}"))]).await, Written::Applied);
        let other = LedgerKey { partition: TopicPartition { topic: "t".into(), partition: 1 }, ..key() };
        run.sink.claim(&other, Token(3), 0).await.unwrap();
        let command = index("a", r#"{"n":1}"#);
        let writes = [Write { command: Cow::Owned(command), origins: vec![Origin { offset: 0, transform: 0 }] }];
        let step = Step { key: &other, token: Token(3), from: 0, to: 1, epoch: 1, digest: "d", note: "" };
        assert_eq!(run.sink.write(&step, &writes).await.unwrap(), Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":1}"#]);
        let beyond = Step { from: 1, to: 2, epoch: 0x8000, ..step };
        assert!(matches!(run.sink.write(&beyond, &writes).await, Err(SinkError::Stop(_))));
    });
}

/// Writes events one batch, as the pipeline does; what was rejected.
async fn write_all(sink: &Elasticsearch, token: u128, from: u64, batch: &[Vec<Tagged>]) -> (Vec<Origin>, bool) {
    let (key, runtime) = (key(), tokio::runtime::Handle::current());
    let to = batch.last().unwrap()[0].offset + 1;
    let mut answered = true;
    let commands = || batch.iter().flatten();
    let rejected = settle(&commands(), |writes| {
        let step = Step { key: &key, token: Token(token), from, to, epoch: 0, digest: "d", note: "" };
        match tokio::task::block_in_place(|| runtime.block_on(sink.write(&step, writes))) {
            Ok(written) => written,
            Err(error) => {
                assert!(matches!(error, SinkError::Retry(_)), "{error:?}");
                answered = false;
                Written::Applied
            }
        }
    });
    (rejected, answered)
}

async fn a_crash_is_not_seen(bench: &ElasticBench, events: Vec<Vec<Tagged>>, cut: usize, cuts: &[usize], forget: bool) {
    let mine = |event: Vec<Tagged>| -> Vec<Tagged> {
        event.into_iter().filter(|tagged| tagged.command.port() == Port::Documents).collect()
    };
    let events: Vec<_> = events.into_iter().map(mine).filter(|event| !event.is_empty()).collect();
    if events.is_empty() {
        return;
    }
    let (mut model, mut expected) = (Model::default(), Vec::new());
    for event in &events {
        if model.apply_event(event).is_err() {
            expected.push(event[0].origin());
        }
    }
    let definition = defined(r#"{"mappings":{"dynamic":false}}"#);
    let proxy = Proxy::new(&bench.url);
    let sink = Elasticsearch::open(Options { urls: vec![proxy.url.clone()], ..bench.options() }).unwrap();
    sink.prepare("p", &definition).await.unwrap();
    sink.claim(&key(), Token(1), 0).await.unwrap();
    let batch = &events[..cut.min(events.len())];
    proxy.lose(Some(format!("\"next\":{},", batch.last().unwrap()[0].offset + 1)));
    let (mut rejected, answered) = write_all(&sink, 1, 0, batch).await;
    assert!(!answered);
    if forget {
        forget_tombstones(bench);
    }

    let sink = bench.open_sink();
    sink.prepare("p", &definition).await.unwrap();
    let mut next = sink.claim(&key(), Token(2), 0).await.unwrap().next;
    assert_eq!(next, 0);
    let (mut left, mut cuts) = (&events[..], cuts.iter());
    while !left.is_empty() {
        let (batch, rest) = left.split_at(left.len().min(cuts.next().copied().unwrap_or(left.len())));
        let (again, answered) = write_all(&sink, 2, next, batch).await;
        assert!(answered);
        rejected.extend(again);
        next = batch.last().unwrap()[0].offset + 1;
        left = rest;
    }
    assert_eq!(bench.contents(), model);
    // What was filed before the crash need not be filed again, and nothing else may be.
    rejected.sort_unstable();
    rejected.dedup();
    assert_eq!(rejected, expected);
}

#[test]
fn a_merge_that_was_refused_is_refused_again_when_its_document_was_deleted_after_it() {
    let tagged = |offset, command| Tagged { offset, transform: 0, command };
    for server in ["elasticsearch", "opensearch"] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let refused = vec![tagged(1, index("1", "{}")), tagged(1, merge("2", "{}"))];
        let events = vec![refused, vec![tagged(2, delete("2"))]];
        runtime.block_on(a_crash_is_not_seen(&ElasticBench::new(server), events, 2, &[], false));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_cut_shows_where_a_run_crashed(
        events in events(16), cut in 1_usize..16, cuts in prop::collection::vec(1_usize..4, 0..12), forget: bool, second: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let bench = ElasticBench::new(if second { "opensearch" } else { "elasticsearch" });
        runtime.block_on(a_crash_is_not_seen(&bench, events, cut, &cuts, forget));
    }
}
