//! Messages that come exactly once for who reads what is committed: the program is killed again and again, frozen while
//! another takes over, begins where a sink without a ledger stood, and loses its ledger.

use std::collections::BTreeMap;

use rdkafka::Message as _;
use rdkafka::message::Headers as _;

use xtask::services::{Kafka, Running};

use super::support::{Broker, Event, Folder, Run, Stream, Topic, jars, numbered, orders};

/// How many updates of each row there are at once: enough that the program is at work for a while.
const ROUNDS: u32 = 60;
const EXACTLY: &str = "delivery = \"exactly-once\"";

/// A pipeline that publishes a message for each record, under the key `PARTITION@OFFSET`, on a cluster of its own.
struct Case {
    stream: Stream,
    stamps: Topic,
    ledger: Topic,
    rounds: u32,
    _server: Running,
    _folder: Folder,
}

impl Case {
    fn new(delivery: &str) -> Self {
        let folder = Folder::new();
        let server = Kafka::new(jars()).start(folder.path()).unwrap();
        let broker = Broker(server.url().to_owned());
        let (stamps, ledger) = (broker.create("stamps", 2), broker.named("tidegate.ledger"));
        let config = format!(
            "[sinks.events.kafka]\nbrokers = \"{}\"\n{delivery}\n\
             [[pipelines]]\nname = \"{{pipeline}}\"\ntopics = [\"{{topic}}\"]\nformat = \"debezium-flattened\"\n\
             batch = {{ max_events = 5 }}\nsinks = {{ messages = \"events\" }}\n\
             [[pipelines.transforms]]\nname = \"stamps\"\nmodule = \"{{guests}}/hostile.wasm\"\n\
             settings = {{ stamp = \"1\", describe = {{ topics = [\"stamps\"] }} }}\n\
             grants = {{ messages = [\"stamps\"] }}\n",
            broker.0,
        );
        let mut stream = Stream::new(&broker, "orders", Vec::new(), &config);
        // Who is gone without a word is not waited for for long.
        stream.program.change("\"6000\"", "\"2000\"");
        let mut case = Self { stream, stamps, ledger, rounds: 0, _server: server, _folder: folder };
        case.load();
        case
    }

    fn load(&mut self) {
        let rounds = self.rounds..self.rounds + ROUNDS;
        self.stream.produce(&numbered(&orders(), rounds.clone()));
        self.rounds = rounds.end;
    }

    /// How many messages there are by now, with what was aborted.
    fn published(&self) -> i64 {
        self.stamps.ends().iter().sum()
    }

    /// Waits until so many more are published.
    fn at_work(&self, run: &mut Run, more: i64) {
        let before = self.published();
        run.until("it publishes", || (self.published() >= before + more).then_some(()));
    }

    /// Each record was published once, and those of each partition in their order, by identity and key.
    fn check(&self) {
        let mut next = BTreeMap::new();
        let mut wanted: Vec<String> = Vec::new();
        for event in &self.stream.produced {
            let next: &mut u64 = next.entry(event.partition).or_default();
            if is_change(event) {
                wanted.push(format!("{}@{next}", event.partition));
            }
            *next += 1;
        }
        let mut published = self.stamps.read_committed(|message| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let header = message.headers().unwrap().iter().find(|header| header.key == "tidegate.id");
            (text(message.key().unwrap()), text(header.unwrap().value.unwrap()), message.partition())
        });
        let mut last: BTreeMap<(i32, String), u64> = BTreeMap::new();
        for (key, id, partition) in &published {
            let (of, offset) = key.split_once('@').unwrap();
            assert!(id.contains(&format!("-{key}/")), "{id} under {key}");
            let offset = offset.parse().unwrap();
            let before = last.insert((*partition, of.to_owned()), offset);
            assert!(before < Some(offset), "{key} lies behind {before:?}");
        }
        published.sort();
        wanted.sort();
        assert_eq!(published.into_iter().map(|(key, ..)| key).collect::<Vec<_>>(), wanted);
        assert_eq!(self.stream.program.dead_letters(), 0);
    }
}

fn is_change(event: &Event) -> bool {
    event.value.is_some()
}

#[test]
fn program_that_is_killed_again_and_again_publishes_each_message_once() {
    let mut case = Case::new(EXACTLY);
    for more in [1, 20, 50, 90, 140] {
        let mut run = case.stream.program.start();
        case.at_work(&mut run, more);
        run.signal("KILL");
        assert_eq!(run.ended().0, None);
        case.load();
    }
    case.stream.running().stop();
    case.check();
}

#[test]
fn frozen_program_that_wakes_behind_its_successor_publishes_nothing_twice() {
    let mut case = Case::new(EXACTLY);
    let mut first = case.stream.program.start();
    case.at_work(&mut first, 30);
    first.signal("STOP");
    case.load();
    let replica = case.stream.program.replica();
    let mut second = replica.start();
    case.at_work(&mut second, 30);
    // It wakes with a batch in flight, another prepared, and others in its queue.
    first.signal("CONT");
    case.stream.settled(&mut second);
    case.load();
    case.stream.settled(&mut second);
    second.stop();
    case.load();
    case.stream.settled(&mut first);
    first.stop();
    case.check();
}

#[test]
fn sink_that_changes_its_delivery_goes_on_where_it_stood() {
    let mut case = Case::new("");
    case.stream.running().stop();
    case.load();
    case.stream.program.change("\n\n[[pipelines]]", &format!("\n{EXACTLY}\n[[pipelines]]"));
    case.stream.running().stop();
    case.check();
    // And back, and once more: the ledger from before is behind by then.
    case.load();
    case.stream.program.change(EXACTLY, "");
    case.stream.running().stop();
    case.check();
    case.load();
    case.stream.program.change("\n\n[[pipelines]]", &format!("\n{EXACTLY}\n[[pipelines]]"));
    case.stream.running().stop();
    case.check();
}

#[test]
fn ledger_topic_that_is_deleted_stops_the_pipeline_at_each_start() {
    let mut case = Case::new(EXACTLY);
    case.stream.running().stop();
    case.ledger.delete();
    case.load();
    for _ in 0..2 {
        let parts = [case.stream.pipeline.as_str(), "the ledger of sink `events` is gone", "`ledger_topic`"];
        case.stream.program.start().fails(&parts);
    }
    let (code, said) = case.stream.program.check();
    assert!(code == 2 && said.iter().any(|line| line.contains("the ledger of sink `events` is gone")), "{said:#?}");
    // As the message says.
    case.stream.program.change(EXACTLY, "");
    case.stream.running().stop();
    case.stream.program.change("\n\n[[pipelines]]", &format!("\n{EXACTLY}\n[[pipelines]]"));
    case.stream.running().stop();
    case.check();
}
