//! The ways in which a pipeline stops: each says why and how to go on, and loses nothing.

use std::io::{BufRead as _, BufReader};

use tidegate_tests::{Site, corpus, text};

/// The cache of orders, from one file of events.
pub(crate) const ORDERS: &str = r#"
[source.file]
paths = ["events.jsonl"]

[sinks.cache.sqlite]
path = "store.db"

[[pipelines]]
name = "orders"
topics = ["dbserver1.public.orders"]
format = "debezium-flattened"
sinks = { cache = "cache" }

[[pipelines.transforms]]
name = "order-cache"
module = "{guests}/order_cache.wasm"
settings = { ttl_seconds = 600 }
grants = { cache = ["order:*"] }
"#;

/// The captured events of the orders table.
pub(crate) fn orders() -> Vec<String> {
    let text = std::fs::read_to_string(corpus("order-cache/dbserver1.public.orders.jsonl")).unwrap();
    text.split('\n').filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
}

/// A pipeline that stops at its first record, which truncates a table.
fn truncated() -> String {
    r#"
[source.file]
paths = ["EVENTS"]
[sinks.out.sqlite]
path = "store.db"
[[pipelines]]
name = "truncated"
topics = ["misc.public.truncated"]
sinks = { messages = "out" }
on_truncate = "stop"
[[pipelines.transforms]]
name = "hostile"
module = "{guests}/hostile.wasm"
settings = { do = "nothing" }
"#
    .replace("EVENTS", &corpus("torture/misc.public.truncated.jsonl").display().to_string())
}

/// A pipeline that waits for its store, and keeps the program running.
const WAITING: &str = r#"
[sinks.away.redis]
url = "redis://127.0.0.1:1"
[[pipelines]]
name = "waiting"
topics = ["misc.public.truncated"]
sinks = { cache = "away" }
[[pipelines.transforms]]
name = "hostile"
module = "{guests}/hostile.wasm"
settings = { do = "nothing" }
"#;

#[test]
fn a_pipeline_that_stops_says_so_while_another_goes_on() {
    let site = Site::new(&(truncated() + WAITING));
    let mut run = site.start(&["run", "tidegate.toml"]);
    let mut said = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    let told = said.find(|line| line.contains("ERROR")).expect("the run ended without a word");
    assert!(told.contains("pipeline `truncated`: ") && told.contains("; the other pipelines go on"), "{told}");
    assert!(run.try_wait().unwrap().is_none(), "the other pipeline does not go on");
    let signalled = std::process::Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let rest: Vec<String> = said.collect();
    assert_eq!(run.wait().unwrap().code(), Some(1), "{rest:#?}");
    assert!(rest.iter().any(|line| line.starts_with("error: pipeline `truncated`: ")), "{rest:#?}");
}

#[test]
fn a_truncate_stops_the_pipeline_before_it_until_it_is_ignored() {
    let config = truncated();
    let site = Site::new(&config);
    for _ in 0..2 {
        let output = site.run();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("misc.public.truncated-0@") && said.contains("on_truncate = \"ignore\""), "{said}");
    }
    site.configure(&config.replace("\"stop\"", "\"ignore\""));
    site.run_well();
}

#[test]
fn records_that_are_gone_from_the_source_stop_the_pipeline() {
    let site = Site::new(ORDERS);
    let partition_0: Vec<String> = orders().into_iter().filter(|line| line.contains("\"partition\":0")).collect();
    site.write("events.jsonl", partition_0[..3].join("\n").as_bytes());
    site.run_well();
    // What is left begins after a gap.
    site.write("events.jsonl", partition_0[6..].join("\n").as_bytes());
    let output = site.run();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("begins at offset 6") && said.contains("3 offsets are gone"), "{said}");
}

#[test]
fn files_in_the_wrong_order_are_told_and_nothing_is_passed_over() {
    let site = Site::new(ORDERS);
    let mut lines: Vec<String> = orders().into_iter().filter(|line| line.contains("\"partition\":0")).collect();
    lines.swap(3, 4);
    site.write("events.jsonl", lines.join("\n").as_bytes());
    let output = site.run();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the offsets of a partition must rise") && said.contains("events.jsonl"), "{said}");
}

#[test]
fn a_second_run_finds_everything_done() {
    let site = Site::new(ORDERS);
    site.write("events.jsonl", orders().join("\n").as_bytes());
    site.run_well();
    let before = site.query("store.db", "SELECT key, value FROM tidegate_cache ORDER BY key");
    // Another run finds everything done, and changes nothing.
    site.run_well();
    assert_eq!(site.query("store.db", "SELECT key, value FROM tidegate_cache ORDER BY key"), before);
}

#[test]
fn a_signal_ends_the_run_between_two_batches_and_the_next_goes_on() {
    // The captured orders again and again, at rising offsets.
    let lines = orders();
    let mut events = Vec::new();
    for round in 0..300 {
        for line in &lines {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["offset"] = (line["offset"].as_u64().unwrap() + round * 1000).into();
            events.push(line.to_string());
        }
    }
    let whole = Site::new(ORDERS);
    whole.write("events.jsonl", events.join("\n").as_bytes());
    whole.run_well();

    let site = Site::new(&ORDERS.replace("[[pipelines]]\n", "[[pipelines]]\nbatch = { max_events = 1 }\n"));
    site.write("events.jsonl", events.join("\n").as_bytes());
    let mut run = site.start(&["run", "tidegate.toml"]);
    let standing = "SELECT coalesce(sum(next_offset), 0) AS standing FROM tidegate_ledger";
    let begun = || {
        let made = site.path("store.db").exists()
            && !site.query("store.db", "SELECT 1 FROM sqlite_schema WHERE name = 'tidegate_ledger'").is_empty();
        made && site.query("store.db", standing)[0]["standing"] != "0"
    };
    while !begun() {
        assert!(run.try_wait().unwrap().is_none(), "the run ended before anything was written");
        std::thread::yield_now();
    }
    let signalled = std::process::Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let ended_early = site.query("store.db", standing) != whole.query("store.db", standing);
    assert!(ended_early, "the run came to its end before the signal");

    site.configure(ORDERS);
    site.run_well();
    let entries = "SELECT key, value FROM tidegate_cache ORDER BY key";
    assert_eq!(site.query("store.db", standing), whole.query("store.db", standing));
    assert_eq!(site.query("store.db", entries), whole.query("store.db", entries));
}

#[test]
fn a_topic_that_no_file_has_is_told() {
    let site = Site::new(&ORDERS.replace("dbserver1.public.orders", "dbserver1.public.order"));
    site.write("events.jsonl", orders().join("\n").as_bytes());
    let output = site.run();
    assert!(output.status.success(), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no file has a record of this topic") && said.contains("dbserver1.public.order"), "{said}");
}

#[test]
fn stopped_pipeline_starts_again_in_the_running_program() {
    let site = Site::new(&(ORDERS.to_owned() + WAITING + "[admin]\nlisten = \"unix:tidegate.sock\"\n"));
    let lines = orders();
    let broken: Vec<String> = [&lines[..5], &["no event".to_owned()]].concat();
    site.write("events.jsonl", broken.join("\n").as_bytes());
    let mut run = site.start(&["run", "tidegate.toml"]);
    let mut said = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    let told = said.find(|line| line.contains("ERROR")).expect("the run ended without a word");
    assert!(told.contains("events.jsonl") && told.contains("tidegate pipelines resume"), "{told}");
    let reading = std::thread::spawn(move || said.collect::<Vec<_>>());
    let ask = |what: &str| {
        let output = site.start(&["pipelines", what, "tidegate.toml", "orders"]).wait_with_output().unwrap();
        (output.status.code(), text(&output))
    };
    let refused = ask("pause");
    assert!(refused.0 == Some(1) && refused.1.contains("has stopped") && refused.1.contains("resume"), "{refused:?}");
    site.write("events.jsonl", lines.join("\n").as_bytes());
    let started = ask("resume");
    assert!(started.0 == Some(0) && !started.1.contains("stopped"), "{started:?}");
    let list = || text(&site.start(&["pipelines", "list", "tidegate.toml"]).wait_with_output().unwrap());
    let begun = std::time::Instant::now();
    while !list().contains("orders ended") {
        assert!(begun.elapsed().as_secs() < 60 && run.try_wait().unwrap().is_none(), "{}", list());
    }
    let refused = ask("resume");
    assert!(refused.0 == Some(1) && refused.1.contains("has ended"), "{refused:?}");
    let signalled = std::process::Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    // The failure is over.
    assert_eq!(run.wait().unwrap().code(), Some(0), "{:#?}", reading.join().unwrap());
    let entries = "SELECT key, value FROM tidegate_cache ORDER BY key";
    let whole = Site::new(ORDERS);
    whole.write("events.jsonl", lines.join("\n").as_bytes());
    whole.run_well();
    assert_eq!(site.query("store.db", entries), whole.query("store.db", entries));
}
