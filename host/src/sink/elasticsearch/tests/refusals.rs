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
        // Both are of one event, and bear one version.
        proxy.is_busy_for("{\"delete\":");
        assert_eq!(run.write(1, &[(0, delete("a")), (0, index("a", r#"{"n":0}"#))]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":0}"#]);
        // The same where lines are written over what a refused answer has left.
        let batch = [(1, delete("a")), (2, index("a", r#"{"n":2}"#)), (3, index("a", r#"{"n":3}"#)), (3, delete("b"))];
        let refused = run.refused(4, &[&batch[..], &[(3, bad("b"))]].concat()).await;
        assert_eq!(refused.len(), 1);
        proxy.is_busy_for("{\"delete\":");
        assert_eq!(run.write(4, &batch[..2]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":2}"#]);
    });
}

#[test]
fn set_before_a_delete_that_was_rejected_stands() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        assert_eq!(run.write(1, &[(0, index("a", r#"{"n":0}"#))]).await, Written::Applied);
        // Event 3 is rejected as a whole, after its delete was done.
        let batch = [(1, index("a", r#"{"n":1}"#)), (2, delete("b")), (3, delete("a")), (3, bad("b"))];
        assert_eq!(run.refused(4, &batch[1..]).await.len(), 1);
        assert_eq!(documents(&bench), [""; 0]);
        assert_eq!(run.write(4, &batch[..2]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":1}"#]);
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
