//! A store that is away: the run waits for it, says so, and can be stopped meanwhile.

use std::io::{BufRead, BufReader};

use rusqlite::Connection;
use tidegate_tests::{Site, corpus};

use crate::stop::{ORDERS, orders};

/// Sends a signal so many times, as fast as it goes.
fn signal(process: u32, name: &str, times: u32) {
    let script = format!("kill -{name} {process};").repeat(usize::try_from(times).unwrap());
    assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

#[test]
fn a_signal_ends_a_run_that_waits_for_its_store_and_nothing_is_lost() {
    let one_by_one = "[[pipelines]]\nlanes = 1\nbatch = { max_events = 1 }\n";
    let site = Site::new(&ORDERS.replace("[[pipelines]]\n", one_by_one));
    // The captured orders again and again, so that the run has work left when the store is taken away.
    let mut events = Vec::new();
    for round in 0..100 {
        for line in orders() {
            let mut line: serde_json::Value = serde_json::from_str(&line).unwrap();
            line["offset"] = (line["offset"].as_u64().unwrap() + round * 1000).into();
            events.push(line.to_string());
        }
    }
    // The first record makes the store, as an earlier run.
    site.write("events.jsonl", events[0].as_bytes());
    site.run_well();
    site.write("events.jsonl", events.join("\n").as_bytes());

    // Another program keeps the store for itself from the moment at which the run has opened it.
    let store = Connection::open(site.path("store.db")).unwrap();
    store.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
    let token = "SELECT token FROM tidegate_ledger ORDER BY partition LIMIT 1";
    let before = site.query("store.db", token);
    let mut run = site.start(&["run", "tidegate.toml"]);
    while site.query("store.db", token) == before {
        assert!(run.try_wait().unwrap().is_none(), "the run ended before the store was taken away");
    }
    store.execute_batch("BEGIN IMMEDIATE").unwrap();

    let mut said = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    let waits = said.find(|line| line.contains("waiting for the store")).expect("the run did not wait");
    assert!(waits.contains("orders") && waits.contains("cache") && waits.contains("locked"), "{waits}");
    // `timeout` sends its signal to the program and to its group: it comes twice.
    signal(run.id(), "TERM", 5);
    let rest: Vec<String> = said.collect();
    assert_eq!(run.wait().unwrap().code(), Some(0), "{rest:#?}");
    assert!(!rest.iter().any(|line| line.starts_with("error: ")), "{rest:#?}");
    let waited = "pipeline `orders`: sink `cache`: stopped while waiting";
    assert!(rest.iter().any(|line| line.contains(" INFO ") && line.contains(waited)), "{rest:#?}");
    assert_eq!(rest.iter().filter(|line| line.contains("stopping: what is in flight")).count(), 1, "{rest:#?}");
    assert!(rest.iter().any(|line| line.contains("ended") && line.contains("pipeline=\"orders\"")), "{rest:#?}");

    store.execute_batch("COMMIT").unwrap();
    site.run_well();
    let whole = Site::new(ORDERS);
    whole.write("events.jsonl", events.join("\n").as_bytes());
    whole.run_well();
    for query in
        ["SELECT key, value FROM tidegate_cache ORDER BY key", "SELECT partition, next_offset FROM tidegate_ledger"]
    {
        assert_eq!(site.query("store.db", query), whole.query("store.db", query));
    }
}

/// One pipeline that has nothing to do but to wait.
const WAITING: &str = r#"
[[pipelines]]
name = "waiting"
topics = ["misc.public.truncated"]
sinks = { PORT = "away" }
[[pipelines.transforms]]
name = "hostile"
module = "{guests}/hostile.wasm"
settings = { do = "nothing" }
"#;

/// A source, a sink, the port of the sink, and what is said while one of the first two is away.
fn each_that_may_be_away() -> Vec<(String, &'static str, &'static str, &'static str)> {
    let file = format!("[source.file]\npaths = [\"{}\"]", corpus("torture/misc.public.truncated.jsonl").display());
    let kafka = |brokers: &str| format!("[source.kafka]\nbrokers = \"{brokers}\"\n[dead_letters.file]");
    let waits = "waiting for the store";
    vec![
        (file.clone(), "[sinks.away.redis]\nurl = \"redis://127.0.0.1:1\"", "cache", waits),
        (file.clone(), "[sinks.away.postgres]\nurl = \"postgres://a@127.0.0.1:1/a\"", "tables", waits),
        (file, "[sinks.away.elasticsearch]\nurl = \"http://127.0.0.1:1\"", "documents", waits),
        (kafka("127.0.0.1:1"), "[sinks.away.sqlite]\npath = \"store.db\"", "messages", "Kafka cannot be reached"),
    ]
}

#[test]
fn signal_while_a_store_or_the_source_is_away_ends_with_0() {
    for (source, sink, port, waits) in each_that_may_be_away() {
        let site = Site::new(&format!("{source}\n{sink}\n{}", WAITING.replace("PORT", port)));
        let mut run = site.start(&["run", "tidegate.toml", "--summary", "summary.json"]);
        let mut said = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
        let told = said.find(|line| line.contains(waits)).unwrap_or_else(|| panic!("{sink}: it did not wait"));
        assert!(told.contains("waiting"), "{told}");
        signal(run.id(), "INT", 1);
        let rest: Vec<String> = said.collect();
        assert_eq!(run.wait().unwrap().code(), Some(0), "{sink}: {rest:#?}");
        assert!(!rest.iter().any(|line| line.starts_with("error: ")), "{rest:#?}");
        assert!(site.path("summary.json").exists(), "{rest:#?}");
    }
}

#[test]
fn second_signal_ends_at_once_and_the_summary_is_there() {
    // It takes connections, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sink = format!("[sinks.away.redis]\nurl = \"redis://{}\"\ntimeout_ms = 30000", silent.local_addr().unwrap());
    let (source, ..) = each_that_may_be_away().remove(0);
    let site = Site::new(&format!("{source}\n{sink}\n{}", WAITING.replace("PORT", "cache")));
    let mut run = site.start(&["run", "tidegate.toml", "--summary", "summary.json"]);
    let (_connection, _) = silent.accept().unwrap();
    let mut said = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    signal(run.id(), "TERM", 1);
    said.find(|line| line.contains("stopping: what is in flight")).expect("the first signal is told");
    let begun = std::time::Instant::now();
    while run.try_wait().unwrap().is_none() {
        assert!(begun.elapsed().as_secs() < 20, "the second signal does not end it");
        signal(run.id(), "TERM", 1);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let rest: Vec<String> = said.collect();
    assert_eq!(run.wait().unwrap().code(), Some(1), "{rest:#?}");
    assert!(rest.iter().any(|line| line.contains("a second signal")), "{rest:#?}");
    assert!(rest.iter().any(|line| line.contains("ended") && line.contains("pipeline=\"waiting\"")), "{rest:#?}");
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(site.path("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["pipelines"][0]["name"], "waiting");
}
