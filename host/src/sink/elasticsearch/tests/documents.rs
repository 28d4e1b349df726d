//! Documents: what is taken, what is refused, and what waits.

use std::collections::BTreeMap;

use serde_json::json;
use serde_json::value::RawValue;

use super::*;
use crate::sink::contract_tests::Bench as _;
use crate::sink::elasticsearch::Credentials;
use crate::sink::elasticsearch::testing::Proxy;
use crate::sink::testing::STRANGE_TEXTS;

#[test]
fn deleting_what_is_not_there_is_done() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        assert_eq!(run.write(2, &[(0, delete("a")), (1, delete("a"))]).await, Written::Applied);
        assert_eq!(run.write(3, &[(2, index("a", "{}"))]).await, Written::Applied);
        assert_eq!(documents(&bench), ["a:{}"]);
    });
}

#[test]
fn a_value_that_the_mapping_refuses_is_its_own_commands_alone() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        assert_eq!(run.write(1, &[(0, index("old", r#"{"n":0}"#))]).await, Written::Applied);
        let bad = index("bad", r#"{"n":"x"}"#);
        let batch =
            [(1, index("good", r#"{"n":1}"#)), (2, bad.clone()), (3, delete("old")), (4, index("bad2", r#"{"n":{}}"#))];
        let refused = run.refused(5, &batch).await;
        assert_eq!(refused.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 3]);
        assert!(refused[0].1.contains("\"bad\"") && refused[0].1.contains("For input string"), "{refused:?}");
        // What may be refused is sent before what is deleted.
        assert_eq!(documents(&bench), [r#"good:{"n":1}"#, r#"old:{"n":0}"#]);
        let rest = [batch[0].clone(), batch[2].clone()];
        assert_eq!(run.write(5, &rest).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"good:{"n":1}"#]);
    });
}

#[test]
fn what_a_refused_answer_has_set_is_written_over() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        // Event 1 sets a and b, and b is refused; a had been set by event 0, which was folded away.
        let refused = run.refused(2, &[(1, index("a", r#"{"n":1}"#)), (1, index("b", r#"{"n":"x"}"#))]).await;
        assert_eq!(refused.len(), 1);
        assert_eq!(run.write(2, &[(0, index("a", r#"{"n":0}"#))]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":0}"#]);
        assert_eq!(run.write(3, &[(2, index("a", r#"{"n":2}"#))]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":2}"#]);
    });
}

#[test]
fn no_text_can_break_a_line() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        let body = RawValue::from_string("{\"s\":\r\n\"a\\nb\",\n\"n\":1}".into()).unwrap();
        let lines = Command::DocumentIndex { index: "i".into(), id: "x\"\n/ü".into(), body };
        assert_eq!(run.write(1, &[(0, lines), (0, index("b", "{}"))]).await, Written::Applied);
        assert_eq!(documents(&bench), ["b:{}", "x\"\n/ü:{\"s\":  \"a\\nb\", \"n\":1}"]);
    });
}

#[test]
fn text_of_a_stranger_stays_text() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        let body = |text: &str| serde_json::json!({ "a": text }).to_string();
        let texts = || STRANGE_TEXTS.into_iter();
        let sets: Vec<_> = texts().map(|text| (0, index(text, &body(text)))).collect();
        assert_eq!(run.write(1, &sets).await, Written::Applied);
        let expected: BTreeMap<_, _> = texts().map(|text| (text.to_owned(), body(text))).collect();
        let stored = |bench: &ElasticBench| -> BTreeMap<String, String> {
            bench.contents().documents.into_iter().map(|((_, id), body)| (id, body)).collect()
        };
        assert_eq!(stored(&bench), expected);
        let merges: Vec<_> = texts().map(|text| (1, merge(text, &body(text)))).collect();
        assert_eq!(run.write(2, &merges).await, Written::Applied);
        assert_eq!(stored(&bench), expected);
        let deletes: Vec<_> = texts().skip(1).map(|text| (2, delete(text))).collect();
        assert_eq!(run.write(3, &deletes).await, Written::Applied);
        assert_eq!(stored(&bench).into_keys().collect::<Vec<_>>(), [STRANGE_TEXTS[0]]);
    });
}

#[test]
fn an_id_has_1_to_512_bytes() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        let ids = ["x".repeat(512), "x".repeat(513), String::new(), "ü".repeat(257)];
        let batch: Vec<_> = ids.iter().map(|id| (0, index(id, "{}"))).collect();
        let refused = run.refused(1, &batch).await;
        assert_eq!(refused.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(refused[0].1.contains("513 bytes"), "{refused:?}");
        assert_eq!(run.refused(1, &[(0, merge("", "{}"))]).await.len(), 1);
        assert_eq!(run.write(1, &batch[..1]).await, Written::Applied);
    });
}

#[test]
fn commands_of_one_document_take_effect_in_order() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        let batch = [
            (0, index("a", r#"{"n":1}"#)),
            (1, delete("a")),
            (2, index("a", r#"{"n":2}"#)),
            (3, merge("a", r#"{"s":"x"}"#)),
            (3, merge("a", r#"{"s":"y"}"#)),
            (4, index("b", r#"{"n":1}"#)),
            (5, delete("b")),
        ];
        assert_eq!(run.write(6, &batch).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":2,"s":"y"}"#]);
        // A merge sees what the batch before has set, which no refresh has shown yet.
        assert_eq!(run.write(7, &[(6, index("c", r#"{"n":9.50}"#))]).await, Written::Applied);
        assert_eq!(run.write(8, &[(7, merge("c", r#"{"s":"z"}"#))]).await, Written::Applied);
        assert_eq!(documents(&bench), [r#"a:{"n":2,"s":"y"}"#, r#"c:{"n":9.50,"s":"z"}"#]);
        // And misses what the batch itself deletes.
        let refused = run.refused(9, &[(8, delete("c")), (8, merge("c", "{}")), (8, merge("none", "{}"))]).await;
        assert_eq!(refused.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 2]);
        assert!(refused[1].1.contains("does not exist"), "{refused:?}");
    });
}

#[test]
fn a_batch_is_cut_into_requests_and_compressed() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        let options =
            Options { max_request_bytes: 4096, compress: true, urls: vec![proxy.url.clone()], ..bench.options() };
        let mut run = Run::start(options, 1).await;
        proxy.take();
        let text = "x".repeat(1000);
        let batch: Vec<_> = (0..30).map(|n| (n, index(&n.to_string(), &format!("{{\"t\":\"{text}\"}}")))).collect();
        assert_eq!(run.write(30, &batch).await, Written::Applied);
        assert_eq!(documents(&bench).len(), 30);
        let sent = proxy.take();
        assert_eq!(sent.matches("POST /_bulk").count(), 10);
        assert_eq!(sent.matches("content-encoding: gzip").count(), 10);
        assert!(sent.len() < 20_000, "{}", sent.len());
    });
}

#[test]
fn a_request_that_is_too_large_for_the_server_is_halved() {
    on_each_server(|bench| async move {
        let mut run = Run::start(Options { max_request_bytes: 90 << 20, ..bench.options() }, 1).await;
        let text = "x".repeat(4 << 20);
        let batch: Vec<_> =
            (0..20).map(|n| (n, index(&n.to_string(), &format!("{{\"o\":{{\"t\":\"{text}\"}}}}")))).collect();
        let definition = json!({"properties": {"o": {"type": "object", "enabled": false}}});
        bench.ask("PUT", &format!("{}i/_mapping", bench.prefix), &definition);
        assert_eq!(run.write(20, &batch).await, Written::Applied);
        assert_eq!(documents(&bench).len(), 20);
    });
}

#[test]
fn a_blocked_index_is_waited_for() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        let block = |value: serde_json::Value| {
            let settings = json!({"index.blocks.read_only_allow_delete": value});
            bench.ask("PUT", &format!("{}i/_settings", bench.prefix), &settings);
        };
        block(true.into());
        let found = run.sink.inspect("p", &declared()).await.unwrap().faults;
        assert!(found.iter().any(|line| line.contains("read_only_allow_delete")), "{found:?}");
        let batch = [(0, index("a", "{}"))];
        let Err(SinkError::Retry(cause)) = run.try_write(1, &batch).await else { panic!("not to be tried again") };
        assert!(cause.contains("watermark"), "{cause}");
        block(serde_json::Value::Null);
        assert_eq!(run.write(1, &batch).await, Written::Applied);
    });
}

#[test]
fn credentials_are_sent_and_never_shown() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        let password = Credentials::Password { username: "user".into(), password: "hunter2".into() };
        for (credentials, header) in [
            (password, "authorization: Basic dXNlcjpodW50ZXIy"),
            (Credentials::ApiKey("id:hunter2".into()), "authorization: ApiKey aWQ6aHVudGVyMg=="),
            (Credentials::ApiKey("aWQ6aHVudGVyMg==".into()), "authorization: ApiKey aWQ6aHVudGVyMg=="),
        ] {
            let options =
                Options { urls: vec![proxy.url.clone()], credentials: Some(credentials.clone()), ..bench.options() };
            let sink = Elasticsearch::open(options).unwrap();
            assert!(!sink.knows("p").await.unwrap());
            assert!(proxy.take().contains(header));
            assert!(!format!("{credentials:?} {sink:?}").contains("hunter2"));
        }
    });
}

#[test]
fn another_address_answers_when_one_does_not() {
    on_each_server(|bench| async move {
        let urls = vec!["http://127.0.0.1:1".into(), bench.url.clone()];
        let mut run = Run::start(Options { urls, ..bench.options() }, 1).await;
        assert_eq!(run.write(1, &[(0, index("a", "{}"))]).await, Written::Applied);
        let urls = vec!["http://127.0.0.1:1".into()];
        let sink = Elasticsearch::open(Options { urls, ..bench.options() }).unwrap();
        let Err(SinkError::Retry(cause)) = sink.knows("p").await else { panic!("not to be tried again") };
        assert!(cause.contains("http://127.0.0.1:1/ gives no answer"), "{cause}");
    });
}
