//! Messages of an owner that has lost its partition: it was frozen while another took over. None of them comes behind those
//! of its successor, since the last message of a key is what its readers keep.

use std::collections::BTreeMap;

use rdkafka::Message as _;
use xtask::services::{Kafka, Redis, Running};

use super::support::{Broker, Event, Folder, ORDER_CACHE, Program, Run, Stream, Topic, jars, numbered, orders};

/// Publishes a message for each record of its topic, under the key `PARTITION@OFFSET`, with a value that says which
/// program it was.
const STAMPS: &str = r#"
[[pipelines.transforms]]
name = "stamps"
module = "{guests}/hostile.wasm"
settings = { stamp = "first", describe = { topics = ["stamps"] } }
grants = { messages = ["stamps"] }
"#;

/// How many updates of each row there are at once: enough that the program is at work for a while.
const ROUNDS: u32 = 400;

/// A pipeline that publishes to a cluster of its own, with or without a store that keeps a ledger.
struct Case {
    stream: Stream,
    stamps: Topic,
    rounds: u32,
    _servers: (Running, Option<Running>),
    _folder: Folder,
}

impl Case {
    fn new(with_ledger: bool) -> Self {
        let folder = Folder::new();
        let server = Kafka::new(jars()).start(&folder.path().join("kafka")).unwrap();
        let cluster = Broker(server.url().to_owned());
        let cache = with_ledger.then(|| Redis::default().start(&folder.path().join("redis")).unwrap());
        let (sink, sinks, transforms) = if let Some(cache) = &cache {
            let sink = format!("[sinks.cache.redis]\nurl = \"{}\"\n", cache.url());
            // It has nothing to say of this table: the cache is there for its ledger.
            (sink, "cache = \"cache\", messages = \"events\"", format!("{STAMPS}{ORDER_CACHE}"))
        } else {
            (String::new(), "messages = \"events\"", STAMPS.to_owned())
        };
        let config = format!(
            "[sinks.events.kafka]\nbrokers = \"{}\"\n{sink}[[pipelines]]\nname = \"{{pipeline}}\"\n\
             topics = [\"{{topic}}\"]\nformat = \"debezium-flattened\"\nbatch = {{ max_events = 5 }}\n\
             sinks = {{ {sinks} }}\n{transforms}",
            server.url(),
        );
        let stream = Stream::new(&Broker::shared(), "jobs", Vec::new(), &config);
        let stamps = cluster.create("stamps", 1);
        let mut case = Self { stream, stamps, rounds: 0, _servers: (server, cache), _folder: folder };
        case.load();
        case
    }

    fn load(&mut self) {
        let rounds = self.rounds..self.rounds + ROUNDS;
        self.stream.produce(&numbered(&orders(), rounds.clone()));
        self.rounds = rounds.end;
    }

    /// Another replica, whose messages say so.
    fn second(&self) -> Program {
        let mut second = self.stream.program.replica();
        second.change("stamp = \"first\"", "stamp = \"second\"");
        second
    }

    /// By whom each message was published, and of which partition and offset, in the order of the topic.
    fn published(&self) -> Vec<(String, u64, u64)> {
        self.stamps.read(|message| {
            let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
            let key = text(message.key());
            let (partition, offset) = key.split_once('@').unwrap();
            (text(message.payload()), partition.parse().unwrap(), offset.parse().unwrap())
        })
    }

    /// Waits until the program is at work and has some left to do.
    fn at_work(&self, run: &mut Run) {
        run.until("it publishes", || (self.stamps.ends()[0] > 50).then_some(()));
    }

    /// The last message of each partition is of its last event, and the first has published nothing behind a later one of
    /// the second.
    fn check(&self) {
        let published = self.published();
        let mut taken: BTreeMap<u64, u64> = BTreeMap::new();
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for (by, partition, offset) in &published {
            let newest = taken.get(partition).copied();
            if by == "second" {
                taken.insert(*partition, newest.max(Some(*offset)).unwrap());
            } else {
                assert!(
                    Some(*offset) > newest,
                    "{partition}@{offset} of the first lies behind {newest:?} of the second"
                );
            }
            last.insert(*partition, *offset);
        }
        let mut wanted: BTreeMap<u64, u64> = BTreeMap::new();
        let mut next = BTreeMap::new();
        for event in &self.stream.produced {
            let partition = u64::try_from(event.partition).unwrap();
            let next: &mut u64 = next.entry(partition).or_default();
            if is_change(event) {
                wanted.insert(partition, *next);
            }
            *next += 1;
        }
        assert_eq!(last, wanted, "the last message of each partition is its newest");
        assert!(!taken.is_empty());
    }
}

fn is_change(event: &Event) -> bool {
    event.value.is_some()
}

fn frozen(with_ledger: bool) {
    let mut case = Case::new(with_ledger);
    let mut first = case.stream.program.start();
    case.at_work(&mut first);
    first.signal("STOP");
    let committed = case.stream.topic.committed(&case.stream.pipeline);
    let ends: Vec<_> = case.stream.topic.ends().into_iter().map(Some).collect();
    assert_ne!(committed, ends, "the load was too small: nothing was left to do");
    let replica = case.second();
    let mut second = replica.start();
    case.stream.settled(&mut second);
    // It wakes with a batch in flight, another prepared, and others in its queue.
    first.signal("CONT");
    second.stop();
    case.load();
    case.stream.settled(&mut first);
    first.stop();
    case.check();
}

#[test]
fn frozen_program_without_a_ledger_publishes_nothing_behind_its_successor() {
    frozen(false);
}

#[test]
fn frozen_program_with_a_ledger_publishes_nothing_behind_its_successor() {
    frozen(true);
}
