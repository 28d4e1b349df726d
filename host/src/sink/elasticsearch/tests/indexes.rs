//! Indexes and the ledger: made once, known again, and never made by the way.

use serde_json::{Value, json};

use super::super::ledger;
use super::*;

fn stop(answer: Result<(), SinkError>) -> String {
    match answer {
        Err(SinkError::Stop(cause)) => cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_first_start_makes_the_index_behind_its_alias() {
    on_each_server(|bench| async move {
        let (first, second) = (bench.open_sink(), bench.open_sink());
        let definition = declared();
        let (one, two) = tokio::join!(first.prepare("p", &definition), second.prepare("p", &definition));
        // One of them may find what the other is just making.
        for (sink, mut answer) in [(first, one), (second, two)] {
            while let Err(SinkError::Retry(_)) = answer {
                answer = sink.prepare("p", &definition).await;
            }
            answer.unwrap();
        }
        let name = format!("{}i", bench.prefix);
        let made = bench.ask("GET", &format!("{name}?flat_settings=true"), &Value::Null);
        let made = &made[format!("{name}-000001")];
        assert_eq!(made["aliases"][&name]["is_write_index"], true);
        assert_eq!(made["settings"]["index.gc_deletes"], "1h");
        assert_eq!(made["mappings"]["_meta"]["tidegate"], json!({"pipeline": "p", "sink": "search"}));
        assert_eq!(made["mappings"]["properties"]["n"]["type"], "long");
        assert_eq!(bench.open_sink().inspect("p", &declared()).await.unwrap(), Inspection::default());
    });
}

#[test]
fn index_of_the_ledger_or_the_server_is_never_written() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        let of = |name: &str| Declared {
            indexes: vec![Index { name: name.into(), definition: "{}".into() }],
            ..Declared::default()
        };
        for name in ["ledger", "ledger-000001", "i~rewind", "A", "a,b", "a*", "<a-{now/d}>", "a/_doc", "\u{7f}"] {
            let told = stop(run.sink.prepare("p", &of(name)).await);
            assert!(told.contains(&format!("{:?}", format!("{}{name}", bench.prefix))), "{name}: {told}");
            assert_eq!(run.sink.inspect("p", &of(name)).await.unwrap().faults, [told]);
            let command =
                Command::DocumentIndex { index: name.into(), id: "x".into(), body: parse_object("{}").unwrap() };
            let bad = run.refused(2, &[(0, index("a", "{}")), (1, command)]).await;
            assert!(bad.len() == 1 && bad[0].0 == 1, "{bad:?}");
        }
        // Without a prefix, a name may begin with a dot.
        let bare = Elasticsearch::open(Options { index_prefix: String::new(), ..bench.options() }).unwrap();
        for name in [".tasks", "_all", "-x", ".", ".."] {
            assert!(matches!(bare.prepare("p", &of(name)).await, Err(SinkError::Stop(_))), "{name}");
        }
        // An alias that leads to the ledger.
        let (ledger, alias) = (format!("{}ledger-000001", bench.prefix), format!("{}guise", bench.prefix));
        bench.ask("POST", "_aliases", &json!({"actions": [{"add": {"index": ledger, "alias": alias}}]}));
        assert!(stop(run.sink.prepare("p", &of("guise")).await).contains("leads to"));
    });
}

#[test]
fn an_index_that_goes_missing_stops_the_pipeline_and_is_not_made_again() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        let name = format!("{}i", bench.prefix);
        bench.ask("DELETE", &format!("{name}-000001"), &Value::Null);
        for command in [index("a", "{}"), delete("a"), merge("a", "{}")] {
            let cause = run.stops(1, &[(0, command)]).await;
            assert!(cause.contains("give the sink another index_prefix"), "{cause}");
        }
        assert_eq!(bench.ask("GET", &name, &Value::Null)["status"], 404);
        for cause in
            [stop(run.sink.prepare("p", &declared()).await), stop(run.sink.claim(&key(), Token(2), 0).await.map(drop))]
        {
            assert!(cause.contains("is gone"), "{cause}");
        }
        // Another one under the same name is another index.
        bench.ask("PUT", &format!("{name}-000001"), &json!({"aliases": {&name: {}}}));
        assert!(stop(run.sink.prepare("p", &declared()).await).contains("the ledger belongs to"));
    });
}

#[test]
fn an_alias_that_is_removed_or_moved_stops_the_pipeline() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        let name = format!("{}i", bench.prefix);
        let other = format!("{name}-other");
        bench.ask("PUT", &other, &json!({}));
        let remove = json!({"remove": {"index": format!("{name}-000001"), "alias": name}});
        bench.ask("POST", "_aliases", &json!({"actions": [remove]}));
        assert!(run.stops(1, &[(0, index("a", "{}"))]).await.contains("put the alias back"));
        bench.ask("POST", "_aliases", &json!({"actions": [{"add": {"index": other, "alias": name}}]}));
        assert!(run.stops(1, &[(0, index("a", "{}"))]).await.contains("was moved"));
    });
}

#[test]
fn a_ledger_that_is_deleted_is_told_and_not_made_up_for() {
    on_each_server(|bench| async move {
        let mut run = Run::start(bench.options(), 1).await;
        assert_eq!(run.write(1, &[(0, index("a", "{}"))]).await, Written::Applied);
        bench.ask("DELETE", &format!("{}ledger-000001", bench.prefix), &Value::Null);
        assert_eq!(run.write(2, &[(1, index("a", "{}"))]).await, Written::LedgerMissing);
        assert!(stop(run.sink.claim(&key(), Token(2), 0).await.map(drop)).contains("restart"));
        assert!(!run.sink.knows("p").await.unwrap());
        // The documents are still there: to begin afresh over them would show old states.
        let cause = stop(run.sink.prepare("p", &declared()).await);
        assert!(cause.contains("the ledger does not know it"), "{cause}");
    });
}

#[test]
fn an_index_that_the_pipeline_has_just_entered_is_known_to_a_look() {
    on_each_server(|bench| async move {
        // No search of this ledger sees what is written there.
        let ledger = format!("{}ledger", bench.prefix);
        let mut definition = ledger::definition();
        definition["settings"]["refresh_interval"] = "-1".into();
        definition["aliases"] = json!({&ledger: {"is_write_index": true}});
        bench.ask("PUT", &format!("{ledger}-000001"), &definition);
        let mut run = Run::start(bench.options(), 1).await;
        assert_eq!(run.write(1, &[(0, index("a", "{}"))]).await, Written::Applied);
        assert_eq!(bench.open_sink().inspect("p", &declared()).await.unwrap(), Inspection::default());
        // To another pipeline it is somebody else's, as its start would say.
        let found = bench.open_sink().inspect("q", &declared()).await.unwrap().faults;
        assert!(found.len() == 1 && found[0].contains("the ledger does not know it"), "{found:?}");
        assert!(stop(bench.open_sink().prepare("q", &declared()).await).contains("the ledger does not know it"));
    });
}

#[test]
fn an_index_of_somebody_else_is_not_taken_over() {
    on_each_server(|bench| async move {
        let name = format!("{}i", bench.prefix);
        bench.ask("PUT", &name, &json!({}));
        let found = bench.open_sink().inspect("p", &declared()).await.unwrap().faults;
        assert!(found.len() == 1 && found[0].contains("is an index already"), "{found:?}");
        assert!(stop(bench.open_sink().prepare("p", &declared()).await).contains("is an index already"));
        bench.ask("DELETE", &name, &Value::Null);

        // One that its owner has made ready, and nobody has written to, is taken.
        bench.ask("PUT", &format!("{name}-v1"), &json!({"aliases": {&name: {}}, "mappings": declared_mappings()}));
        bench.open_sink().prepare("p", &declared()).await.unwrap();

        bench.ask("DELETE", &format!("{}ledger-000001", bench.prefix), &Value::Null);
        bench.ask("PUT", &format!("{name}-v1/_doc/1"), &json!({"n": 1}));
        bench.ask("DELETE", &format!("{name}-v1/_doc/1"), &Value::Null);
        assert!(stop(bench.open_sink().prepare("p", &declared()).await).contains("or has held, documents"));
    });
}

fn declared_mappings() -> Value {
    json!({"properties": {"n": {"type": "long"}}})
}

#[test]
fn a_definition_may_grow_and_not_change() {
    on_each_server(|bench| async move {
        let sink = bench.open_sink();
        sink.prepare("p", &declared()).await.unwrap();
        let more = defined(r#"{"mappings":{"properties":{"n":{"type":"long"},"new":{"type":"date"}}}}"#);
        let Inspection { faults, notes } = sink.inspect("p", &more).await.unwrap();
        let told = notes.len() == 1 && notes[0].contains("field new is not there yet");
        assert!(told && faults.is_empty(), "what the start adds is no fault: {faults:?} {notes:?}");
        sink.prepare("p", &more).await.unwrap();
        let name = format!("{}i", bench.prefix);
        let mapping = bench.ask("GET", &format!("{name}/_mapping"), &Value::Null);
        let mapping = &mapping[format!("{name}-000001")]["mappings"];
        assert_eq!(mapping["properties"]["new"]["type"], "date");
        assert_eq!(mapping["_meta"]["tidegate"]["pipeline"], "p");
        let other = defined(r#"{"mappings":{"properties":{"n":{"type":"keyword"}}}}"#);
        let faults = sink.inspect("p", &other).await.unwrap().faults;
        assert!(faults[0].contains("field n is declared as keyword and stored as long"), "{faults:?}");
        assert!(stop(sink.prepare("p", &other).await).contains("tidegate rewind"));
        let parameter = defined(r#"{"mappings":{"properties":{"n":{"type":"long","index":false}}}}"#);
        assert_eq!(
            sink.inspect("p", &parameter).await.unwrap(),
            Inspection::default(),
            "the server leaves defaults out"
        );
        assert!(stop(sink.prepare("p", &defined(r#"{"mapping":{}}"#)).await).contains("\"mapping\""));
    });
}

#[test]
fn a_request_larger_than_the_heap_allows_is_found_beforehand() {
    on_each_server(|bench| async move {
        let sink = Elasticsearch::open(Options { max_request_bytes: 90 << 20, ..bench.options() }).unwrap();
        let found = sink.inspect("p", &declared()).await.unwrap().faults;
        assert!(found.len() == 1 && found[0].contains("set max_request_bytes to"), "{found:?}");
    });
}

#[test]
fn documents_are_no_cache() {
    on_each_server(|bench| async move {
        assert!(stop(bench.open_sink().clear_cache("p", &[]).await).contains("no cache"));
    });
}
