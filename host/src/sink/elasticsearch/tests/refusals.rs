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
