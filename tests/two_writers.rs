//! A target that two partitions write: nobody orders them, and the run says so.

use serde_json::Value;
use tidegate_tests::{Site, text};

use crate::stop::{ORDERS, orders};

/// Creates of so many orders of the captured kind, on two partitions: each on both, or each on one.
fn events(on_both: bool) -> String {
    let created = orders().into_iter().find(|line| line.contains("\\\"__op\\\":\\\"c\\\"")).unwrap();
    let mut lines = String::new();
    for number in 0..500_u64 {
        for partition in (0..2).filter(|partition| on_both || number % 2 == *partition) {
            let mut line: Value = serde_json::from_str(&created).unwrap();
            for part in ["key", "value"] {
                line[part] = line[part].as_str().unwrap().replace("ord_", &format!("ord_{number}_")).into();
            }
            (line["partition"], line["offset"]) = (partition.into(), number.into());
            lines += &format!("{line}\n");
        }
    }
    lines
}

/// The warnings of a run over these events.
fn warnings(events: &str) -> Vec<String> {
    let site = Site::new(ORDERS);
    site.write("events.jsonl", events.as_bytes());
    let run = site.run();
    assert!(run.status.success(), "{}", text(&run));
    let said = String::from_utf8(run.stderr).unwrap();
    said.lines().filter(|line| line.contains(" WARN ")).map(ToOwned::to_owned).collect()
}

#[test]
fn a_run_warns_once_of_a_target_that_two_partitions_write() {
    let told = warnings(&events(true));
    assert_eq!(told.len(), 1, "{told:#?}");
    for part in ["orders", "cache", "orders-0", "orders-1", "both write", "order:", "the record's key alone"] {
        assert!(told[0].contains(part), "{part:?} is not in it: {}", told[0]);
    }
    assert_eq!(warnings(&events(false)), [""; 0]);
}
