//! A store that is away: the run waits for it, says so, and can be stopped meanwhile.

use std::io::{BufRead, BufReader};

use rusqlite::Connection;
use tidegate_tests::Site;

use crate::stop::{ORDERS, orders};

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
    let signalled = std::process::Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let rest: Vec<String> = said.collect();
    assert_eq!(run.wait().unwrap().code(), Some(1), "{rest:#?}");
    let errors: Vec<&String> = rest.iter().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{rest:#?}");
    assert!(errors[0].contains("pipeline `orders`: sink `cache`: stopped while waiting"), "{errors:?}");

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
