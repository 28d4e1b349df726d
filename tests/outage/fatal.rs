//! A record that ends the process that handles it: every replica would die of it, one after the other. Its partition is
//! given up after a while, and the others go on.

use super::support::{Broker, Event, Stream, orders};

/// The first record of partition 0 that is left.
const FATAL: u64 = 3;

const CONFIG: &str = r#"
[sinks.cache.sqlite]
path = "store.db"

[[pipelines]]
name = "{pipeline}"
topics = ["{topic}"]
format = "debezium-flattened"
sinks = { cache = "cache" }

[[pipelines.transforms]]
name = "orders"
module = "{guests}/hostile.wasm"
settings = { do = "stick", at = [3], describe = { cache_keys = ["k:*"] } }
grants = { cache = ["k:*"] }
"#;

/// Eight orders on partition 0, three on each of the others.
fn events() -> Vec<Event> {
    let of = |partition: i32, most: usize| {
        orders()
            .into_iter()
            .filter(|event| event.value.is_some())
            .take(most)
            .map(move |event| Event { partition, ..event })
    };
    of(0, 8).chain(of(1, 3)).chain(of(2, 3)).collect()
}

fn keys(stream: &Stream) -> Vec<String> {
    stream.program.cache("store.db").into_iter().map(|(key, _)| key).collect()
}

#[test]
fn a_record_that_kills_the_process_stops_its_partition_alone() {
    let mut stream = Stream::new(&Broker::shared(), "orders", events(), CONFIG);
    stream.topic.delete_below(0, i64::try_from(FATAL).unwrap());
    stream.program.change("[engine]\n", "[engine]\ndeadline_ms = 600000\n");
    // A process that was killed is not waited for for long.
    stream.program.change("\"6000\"", "\"2000\"");
    for death in 1..=6 {
        let mut run = stream.program.start();
        run.says(&["stuck at offset 3"]);
        let told = run.said().iter().any(|line| line.contains("one record at a time"));
        assert_eq!(told, death > 3, "at death {death}");
        run.signal("KILL");
        run.ended();
    }
    let partition = format!("{}-0@{FATAL}", stream.topic.name);
    let mut run = stream.program.start();
    run.says(&["ERROR", &stream.pipeline, "6 processes in a row have died", &partition, "Mend the module"]);
    run.until("the other partitions to be durable", || {
        (stream.topic.committed(&stream.pipeline)[1..] == [Some(3), Some(3)]).then_some(())
    });
    assert_eq!(keys(&stream), ["k:0", "k:1", "k:2"]);
    run.stop();

    // Mended, it goes on with that record.
    stream.program.change("do = \"stick\", at = [3], ", "");
    let troubles = stream.running().stop();
    assert_eq!(troubles, [""; 0]);
    assert_eq!(keys(&stream), ["k:0", "k:1", "k:2", "k:3", "k:4", "k:5", "k:6", "k:7"]);
    assert_eq!(stream.program.dead_letters(), 0);
}

#[test]
fn a_process_that_is_killed_in_peace_is_not_suspected() {
    let mut stream = Stream::new(&Broker::shared(), "orders", events(), CONFIG);
    stream.program.change("do = \"stick\", at = [3], ", "");
    stream.program.change("\"6000\"", "\"2000\"");
    for _ in 0..8 {
        let run = stream.running();
        run.signal("KILL");
        run.ended();
    }
    let run = stream.running();
    assert!(!run.said().iter().any(|line| line.contains("one record at a time")));
    assert_eq!(run.stop(), [""; 0]);
}
