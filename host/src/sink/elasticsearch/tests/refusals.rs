//! What a batch leaves behind when the server refused documents of it after others had gone through.

use super::*;
use crate::sink::elasticsearch::testing::Proxy;

/// A text where the mapping has a number.
fn bad(id: &str) -> Command {
    index(id, r#"{"n":"x"}"#)
}

#[test]
fn older_command_after_a_refusal_does_not_replace_a_newer_one() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        let batch = [(0, index("a", r#"{"n":0}"#)), (1, index("a", r#"{"n":1}"#)), (2, bad("a"))];
        assert_eq!(run.refused(3, &batch).await.len(), 1);
        assert_eq!(run.write(3, &batch[..2]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":1}"#]);
        assert_eq!(run.write(4, &[(3, index("a", r#"{"n":3}"#))]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":3}"#]);
    });
}

#[test]
fn older_command_that_was_taken_is_not_sent_behind_a_newer_one() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        // Each line is a request of its own, between which a reader may come.
        let options = Options { max_request_bytes: 1, urls: vec![proxy.url.clone()], ..bench.options() };
        let mut run = Run::start(options, 1).await;
        let batch = [(0, index("a", r#"{"n":0}"#)), (1, index("a", r#"{"n":1}"#)), (2, bad("b"))];
        assert_eq!(run.refused(3, &batch).await.len(), 1);
        proxy.take();
        assert_eq!(run.write(3, &batch[..2]).await, Written::Applied);
        assert_eq!(proxy.take().matches("POST /_bulk").count(), 2);
        assert_eq!(documents(&bench), [r#"a:{"n":1}"#]);
    });
}

#[test]
fn document_that_is_deleted_and_set_survives_a_refusal() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        assert_eq!(run.write(1, &[(0, index("a", r#"{"n":0}"#))]).await, Written::Applied);
        let batch = [(1, delete("a")), (2, index("a", r#"{"n":2}"#)), (3, delete("b")), (4, bad("b"))];
        assert_eq!(run.refused(5, &batch).await.len(), 1);
        assert_eq!(run.write(5, &batch[..3]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":2}"#]);
    });
}

#[test]
fn refusal_and_a_lost_answer_leave_the_newest_command() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        let mut run = Run::start(Options { urls: vec![proxy.url.clone()], ..bench.options() }, 1).await;
        let batch = [(0, index("a", r#"{"n":0}"#)), (1, delete("a")), (2, index("a", r#"{"n":2}"#)), (3, bad("b"))];
        assert_eq!(run.refused(4, &batch).await.len(), 1);
        // The bulk goes through, and the ledger's move is lost: the same commands come again.
        proxy.lose(Some("\"next\":4,".into()));
        assert!(matches!(run.try_write(4, &batch[..3]).await, Err(SinkError::Retry(_))));
        proxy.lose(None);
        assert_eq!(run.write(4, &batch[..3]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":2}"#]);
    });
}

#[test]
fn older_command_that_the_server_had_no_room_for_does_not_replace_a_newer_one() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        // Each line is a request of its own.
        let options = Options { max_request_bytes: 1, urls: vec![proxy.url.clone()], ..bench.options() };
        let mut run = Run::start(options, 1).await;
        let set = |offset, n| (offset, index("a", &format!("{{\"n\":{n}}}")));
        // Both are of one event, and bear one version.
        proxy.is_busy_for("\"n\":10");
        assert_eq!(run.write(1, &[set(0, 10), set(0, 0)]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":0}"#]);
        // The same where lines are written over what a refused answer has left.
        let batch = [set(1, 11), set(2, 2), set(3, 3), (3, bad("b"))];
        assert_eq!(run.refused(4, &batch).await.len(), 1);
        proxy.is_busy_for("\"n\":11");
        assert_eq!(run.write(4, &batch[..2]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":2}"#]);
    });
}

#[test]
fn set_before_a_delete_that_was_rejected_stands() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        assert_eq!(run.write(1, &[(0, index("a", r#"{"n":0}"#))]).await, Written::Applied);
        // Event 3 is rejected as a whole. Its delete has waited for that.
        let batch = [(1, index("a", r#"{"n":1}"#)), (2, delete("b")), (3, delete("a")), (3, bad("b"))];
        assert_eq!(run.refused(4, &batch[1..]).await.len(), 1);
        assert_eq!(documents(&bench), [r#"a:{"n":0}"#]);
        // Nor does the next owner take it for one that was sent.
        let mut run = Run::claim(bench.open_sink(), 2).await;
        assert_eq!(run.write(2, &batch[..1]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":1}"#]);
        assert_eq!(run.write(4, &batch[1..2]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":1}"#]);
    });
}

#[test]
fn merge_behind_a_delete_of_a_refused_event_is_written() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        let first = ["a", "b", "c", "d"].map(|id| (0, index(id, r#"{"n":0}"#)));
        assert_eq!(run.write(1, &first).await, Written::Applied);
        // The merge into b misses it only as long as event 1 is taken, and event 3 its document only if event 2 is taken.
        let batch = [
            (1, bad("b")),
            (1, delete("b")),
            (2, merge("b", r#"{"s":"2"}"#)),
            (2, merge("a", r#"{"s":"2"}"#)),
            (2, index("e", "{}")),
            (2, delete("c")),
            (3, merge("c", r#"{"s":"3"}"#)),
            (3, delete("d")),
            (4, merge("d", r#"{"s":"4"}"#)),
        ];
        assert_eq!(run.settle(5, &batch), [1, 3]);
        let there = [r#"a:{"n":0,"s":"2"}"#, r#"b:{"n":0,"s":"2"}"#, r#"d:{"n":0,"s":"4"}"#, "e:{}"];
        assert_eq!(documents(&bench), there);
    });
}

#[test]
fn merge_over_what_was_refused_is_not_sent_over_a_later_event() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        let options = Options { urls: vec![proxy.url.clone()], ..bench.options() };
        let mut run = Run::start(options, 1).await;
        // The merge is refused with what it is laid over, and then laid over event 0.
        let batch = [
            (0, index("a", r#"{"n":0}"#)),
            (1, bad("a")),
            (2, merge("a", r#"{"t":"2"}"#)),
            (3, index("a", r#"{"n":3}"#)),
        ];
        assert_eq!(run.settle(4, &batch), [1]);
        let sent = proxy.take();
        let lines = sent.lines().zip(sent.lines().skip(1));
        let actions: Vec<_> =
            lines.filter(|(_, body)| *body == r#"{"n":0,"t":"2"}"#).map(|(action, _)| action).collect();
        let is_its_own = |action: &&str| action.contains(r#""version":2,"#);
        assert!(!actions.is_empty() && actions.iter().all(is_its_own), "{actions:?}");
        assert_eq!(documents(&bench), [r#"a:{"n":3}"#]);
    });
}

#[test]
fn refusal_that_a_later_version_would_hide_is_found() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        // A term that is too long is found behind the check of versions. The first try folds the first two events; in the
        // second one each meets the version of the last.
        let long = format!("{{\"s\":\"{}\",\"n\":2}}", "x".repeat(32_767));
        let batch = [
            (1, index("a", r#"{"n":1}"#)),
            (2, index("a", &long)),
            (3, merge("a", r#"{"t":"3"}"#)),
            (4, merge("a", r#"{"s":null}"#)),
        ];
        assert_eq!(run.settle(5, &batch), [2]);
        assert_eq!(documents(&bench), [r#"a:{"n":1,"t":"3","s":null}"#]);
        // Event 6 is judged when event 5 is left out, and not before.
        let batch = [
            (5, merge("a", r#"{"n":"x"}"#)),
            (6, index("a", &long)),
            (6, index("b", "{}")),
            (7, delete("c")),
            (7, index("a", r#"{"n":7}"#)),
        ];
        assert_eq!(run.settle(8, &batch), [5, 6]);
        assert_eq!(documents(&bench), [r#"a:{"n":7}"#]);
    });
}

#[test]
fn event_that_merges_behind_a_delete_is_refused_before_any_of_it_is_sent() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        let first = [(0, index("a", r#"{"n":0}"#)), (0, index("b", r#"{"n":0}"#))];
        assert_eq!(run.write(1, &first).await, Written::Applied);
        let batch = [(1, delete("b")), (2, index("a", r#"{"n":2}"#)), (2, merge("b", "{}")), (2, index("c", "{}"))];
        let refused = run.refused(3, &batch).await;
        assert_eq!((refused.len(), refused[0].0), (1, 2));
        assert_eq!(documents(&bench), [r#"a:{"n":0}"#, r#"b:{"n":0}"#]);
        assert_eq!(run.settle(3, &batch), [2]);
        assert_eq!(documents(&bench), [r#"a:{"n":0}"#]);
        // The same of a replay.
        assert_eq!(run.refused(3, &[(1, index("a", "{}")), (1, delete("a")), (1, merge("a", "{}"))]).await.len(), 1);
        assert_eq!(documents(&bench), [r#"a:{"n":0}"#]);
    });
}

#[test]
fn parts_of_a_refused_answer_are_put_back() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        let first = [(0, index("a", r#"{"n":0}"#)), (0, index("b", r#"{"n":0}"#))];
        assert_eq!(run.write(1, &first).await, Written::Applied);
        // Event 2 sets a, makes c, merges into b, deletes d and makes it again, and is refused at the last.
        let batch = [
            (1, merge("b", r#"{"s":"1"}"#)),
            (2, index("a", r#"{"n":2}"#)),
            (2, index("c", "{}")),
            (2, merge("b", r#"{"s":"2"}"#)),
            (2, delete("d")),
            (2, bad("d")),
        ];
        assert_eq!(run.refused(3, &batch).await.len(), 1);
        assert_eq!(documents(&bench), [r#"a:{"n":2}"#, r#"b:{"n":0,"s":"2"}"#, "c:{}"]);
        assert_eq!(run.write(3, &batch[..1]).await, Written::Applied);
        let restored = [r#"a:{"n":0}"#, r#"b:{"n":0,"s":"1"}"#];
        assert_eq!(documents(&bench), restored);
        // One that nothing else of the batch is left of, and a replay, which does not come again.
        let batch = [(3, index("a", r#"{"n":3}"#)), (3, bad("e"))];
        assert_eq!(run.refused(4, &batch).await.len(), 1);
        assert_eq!(run.write(4, &[]).await, Written::Applied);
        assert_eq!(documents(&bench), restored);
        assert_eq!(run.refused(4, &[(2, merge("b", r#"{"s":"2"}"#)), (2, bad("d"))]).await.len(), 1);
        assert_eq!(documents(&bench), restored);
        assert_eq!(run.write(5, &[(4, index("a", r#"{"n":4}"#)), (4, delete("b"))]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":4}"#]);
    });
}

#[test]
fn replay_reaches_a_document_that_was_put_back_under_a_later_version() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        // Two events of one key, each refused for its second document: the first document is put back under the version
        // of the later event.
        for offset in [1, 2] {
            let batch = [(offset, index("a", &format!("{{\"n\":{offset}}}"))), (offset, bad("b"))];
            assert_eq!(run.refused(offset + 1, &batch).await.len(), 1);
            assert_eq!(run.write(offset + 1, &[]).await, Written::Applied);
            assert_eq!(documents(&bench), [""; 0]);
        }
        // The module is mended, and the first is replayed: its mark is open, for nothing has come after it.
        let replay = [(1, index("a", r#"{"n":1}"#)), (1, index("b", r#"{"n":1}"#))];
        assert_eq!(run.write(3, &replay).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":1}"#, r#"b:{"n":1}"#]);
    });
}

#[test]
fn replay_reaches_a_document_on_which_a_later_event_was_refused() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        let set = |offset| (offset, index("a", &format!("{{\"n\":{offset}}}")));
        // What is left for the document is written under the version of event 3.
        let batch = [set(1), set(2), (2, bad("b")), set(3), (3, bad("c"))];
        assert_eq!(run.refused(4, &batch).await.len(), 2);
        assert_eq!(run.write(4, &batch[..1]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":1}"#]);
        // In the order of their events or not, the newest stays.
        for (replayed, there) in [(2, 2), (1, 2), (3, 3), (2, 3)] {
            assert_eq!(run.write(4, &[set(replayed)]).await, Written::Applied);
            assert_eq!(documents(&bench), [format!("a:{{\"n\":{there}}}")], "after event {replayed}");
        }
        // A delete, and a replay that is refused itself in between.
        for batch in [[(4, delete("a")), (4, bad("b"))], [(5, index("a", "{}")), (5, bad("b"))]] {
            assert_eq!(run.refused(batch[0].0 + 1, &batch).await.len(), 1);
            assert_eq!(run.write(batch[0].0 + 1, &[]).await, Written::Applied);
        }
        assert_eq!(run.refused(6, &[(4, index("a", "{}")), (4, bad("b"))]).await.len(), 1);
        assert_eq!(documents(&bench), [r#"a:{"n":3}"#]);
        assert_eq!(run.write(6, &[(4, delete("a"))]).await, Written::Applied);
        assert_eq!(documents(&bench), [""; 0]);
    });
}

#[test]
fn replay_leaves_a_newer_document_that_was_put_back() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        assert_eq!(run.write(6, &[(5, index("a", r#"{"n":5}"#))]).await, Written::Applied);
        for offset in [8, 9] {
            assert_eq!(run.refused(offset + 1, &[(offset, index("a", "{}")), (offset, bad("b"))]).await.len(), 1);
            assert_eq!(run.write(offset + 1, &[]).await, Written::Applied);
        }
        for (replayed, there) in [(3, 5), (7, 7), (6, 7)] {
            // Another owner knows it by the ledger.
            run = Run::claim(bench.open_sink(), 2 + u128::from(replayed)).await;
            let command = index("a", &format!("{{\"n\":{replayed}}}"));
            assert_eq!(run.write(10, &[(replayed, command)]).await, Written::Applied);
            assert_eq!(documents(&bench), [format!("a:{{\"n\":{there}}}")], "after event {replayed}");
        }
    });
}

/// Writes what is left of a batch that was refused, and dies before the ledger is moved.
async fn dies(run: &mut Run, proxy: &Proxy, to: u64, left: &[(u64, Command)]) {
    proxy.lose(Some(format!("\"next\":{to},")));
    assert!(matches!(run.try_write(to, left).await, Err(SinkError::Retry(_))));
    proxy.lose(None);
}

#[test]
fn put_back_document_takes_what_another_module_makes_of_an_earlier_event() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        let commands = [
            (index("a", r#"{"n":1}"#), Some(r#"a:{"n":1}"#)),
            (merge("a", r#"{"s":"1"}"#), Some(r#"a:{"n":0,"s":"1"}"#)),
            (delete("a"), None),
        ];
        for (token, (command, there)) in (1..).step_by(2).zip(commands) {
            let mut old = Run::start(Options { urls: vec![proxy.url.clone()], ..bench.options() }, token).await;
            let at = old.next;
            assert_eq!(old.write(at + 1, &[(at, index("a", r#"{"n":0}"#))]).await, Written::Applied);
            // Both events are refused for another document, and a is put back under the version of the later one.
            let batch =
                [(at + 1, command.clone()), (at + 1, bad("b")), (at + 2, index("a", r#"{"n":2}"#)), (at + 2, bad("c"))];
            assert_eq!(old.refused(at + 3, &batch).await.len(), 2);
            dies(&mut old, &proxy, at + 3, &[]).await;
            assert_eq!(documents(&bench), [r#"a:{"n":0}"#]);
            let mut new = Run::claim(bench.open_sink(), token + 1).await;
            new.digest = "e";
            for (to, left) in [(at + 2, &[(at + 1, command)][..]), (at + 3, &[])] {
                assert_eq!(new.write(to, left).await, Written::Applied);
                assert_eq!(documents(&bench), there.into_iter().collect::<Vec<_>>());
            }
        }
    });
}

#[test]
fn what_was_put_back_before_a_crash_is_put_back_again() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        let mut old = Run::start(Options { urls: vec![proxy.url.clone()], ..bench.options() }, 1).await;
        let set = |offset, id| (offset, index(id, &format!("{{\"n\":{offset}}}")));
        assert_eq!(old.write(1, &[set(0, "a"), set(0, "b")]).await, Written::Applied);
        // What is left for b is written over event 2's, and a is put back.
        let batch = [set(1, "b"), set(2, "a"), set(2, "b"), (2, bad("c"))];
        assert_eq!(old.refused(3, &batch).await.len(), 1);
        dies(&mut old, &proxy, 3, &batch[..1]).await;
        let there = [r#"a:{"n":0}"#, r#"b:{"n":1}"#];
        assert_eq!(documents(&bench), there);
        // Another module's answer is refused too, in a batch of its own.
        let mut new = Run::claim(bench.open_sink(), 2).await;
        new.digest = "e";
        assert_eq!(new.write(2, &batch[..1]).await, Written::Applied);
        assert_eq!(new.refused(3, &batch[1..]).await.len(), 1);
        assert_eq!(new.write(3, &[]).await, Written::Applied);
        assert_eq!(documents(&bench), there);
    });
}

#[test]
fn replay_that_is_refused_when_it_comes_again_is_put_back() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        let mut run = Run::start(Options { urls: vec![proxy.url.clone()], ..bench.options() }, 1).await;
        assert_eq!(run.write(1, &[(0, index("a", r#"{"n":0}"#))]).await, Written::Applied);
        assert_eq!(run.write(5, &[]).await, Written::Applied);
        // Of the first try no answer comes.
        let replayed = [(3, index("a", r#"{"n":3}"#)), (3, index("c", "{}")), (3, bad("b"))];
        proxy.lose(Some("\"put_back\":[{".into()));
        assert!(matches!(run.try_write(5, &replayed).await, Err(SinkError::Retry(_))));
        proxy.lose(None);
        assert_eq!(documents(&bench), [r#"a:{"n":3}"#, "c:{}"]);
        assert_eq!(run.refused(5, &replayed).await.len(), 1);
        assert_eq!(documents(&bench), [r#"a:{"n":0}"#]);
        // With the answer, what was known before is forgotten.
        assert_eq!(run.write(5, &replayed[..2]).await, Written::Applied);
        assert_eq!(run.refused(5, &replayed).await.len(), 1);
        assert_eq!(documents(&bench), [r#"a:{"n":3}"#, "c:{}"]);
    });
}

#[test]
fn stale_owner_writes_nothing_older_over_what_its_successor_wrote() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        let mut old = Run::start(Options { urls: vec![proxy.url.clone()], ..bench.options() }, 1).await;
        let batch = [(1, index("a", r#"{"n":1}"#)), (2, index("a", r#"{"n":2}"#)), (2, bad("b"))];
        assert_eq!(old.refused(3, &batch).await.len(), 1);
        // It stands still before it sends what is left. Another one takes over with a mended module, and writes all.
        let (options, runtime) = (bench.options(), tokio::runtime::Handle::current());
        let mended = [batch[0].clone(), batch[1].clone(), (2, index("b", r#"{"n":2}"#))];
        proxy.before("_bulk", move || {
            runtime.block_on(async {
                let mut new = Run::claim(Elasticsearch::open(options).unwrap(), 2).await;
                new.digest = "e";
                assert_eq!(new.write(3, &mended).await, Written::Applied);
            });
        });
        assert_eq!(old.write(3, &batch[..1]).await, Written::Fenced);
        assert_eq!(documents(&bench), [r#"a:{"n":2}"#, r#"b:{"n":2}"#]);
    });
}

#[test]
fn documents_that_are_too_many_for_one_request_are_read_in_parts() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        let mut run = Run::start(Options { urls: vec![proxy.url.clone()], ..bench.options() }, 1).await;
        let ids = ["a", "b", "c"];
        let first = ids.map(|id| (0, index(id, r#"{"n":0}"#)));
        assert_eq!(run.write(1, &first).await, Written::Applied);
        proxy.take();
        proxy.is_busy_for("_mget");
        assert_eq!(run.write(2, &ids.map(|id| (1, merge(id, r#"{"s":"x"}"#)))).await, Written::Applied);
        assert_eq!(proxy.take().matches("POST /_mget").count(), 3);
        assert_eq!(documents(&bench), ids.map(|id| format!("{id}:{{\"n\":0,\"s\":\"x\"}}")));
    });
}
