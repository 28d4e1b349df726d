//! Modules that are exchanged while a stream comes from Kafka: every event is handled by one of them, once and in order,
//! whatever is wrong with the others.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tidegate::config::Config;
use tidegate::pipeline::{Exchange, Observed, Outcome, Pipelines, Stops};
use tidegate::registry::{How, Offer, Origin, Registry, State};
use tidegate::sink::HistoryRow;

use crate::harness::{engine, hostile};
use crate::made::{locals_by_loops, transform};

const PARTITIONS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(120);

/// The hostile guest with other settings laid over the pipeline's: another module.
fn patched(patch: &Value) -> Vec<u8> {
    let mut bytes = hostile().to_vec();
    let at = bytes.windows(17).position(|window| window == b"{\"tidegate-patch\"").expect("the guest has its patch");
    let patch = patch.to_string();
    assert!(patch.len() <= 256);
    bytes[at..at + 256].fill(b' ');
    bytes[at..at + patch.len()].copy_from_slice(patch.as_bytes());
    bytes
}

/// A pipeline from a topic of its own into a SQLite file, where each event becomes a message with the stamp of the
/// module that handled it.
struct Stream {
    folder: TempDir,
    topic: String,
    brokers: String,
    producer: BaseProducer,
    produced: u64,
}

impl Stream {
    fn new() -> Self {
        let brokers = brokers();
        let topic = format!("swap{:016x}.public.orders", getrandom::u64().unwrap());
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
        let new = NewTopic::new(&topic, PARTITIONS, TopicReplication::Fixed(1));
        let made = block_on(admin.create_topics([&new], &AdminOptions::new())).unwrap();
        assert_eq!(made, [Ok(topic.clone())]);
        let producer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
        Self { folder: tempfile::tempdir().unwrap(), topic, brokers, producer, produced: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Appends so many of the captured orders, again and again from the first, to the partitions in turn.
    fn produce(&mut self, count: u64) {
        let orders = orders();
        for number in self.produced..self.produced + count {
            let (key, value) = &orders[usize::try_from(number).unwrap() % orders.len()];
            let partition = i32::try_from(number).unwrap() % PARTITIONS;
            let mut record = BaseRecord::to(&self.topic).partition(partition).key(key).payload(value);
            while let Err((_, again)) = self.producer.send(record) {
                self.producer.poll(Duration::from_millis(10));
                record = again;
            }
        }
        self.producer.flush(PATIENCE).unwrap();
        self.produced += count;
    }

    /// Runs the pipeline, which begins with the module `stamp 0`, for as long as `during` takes.
    fn run(&mut self, block: &str, during: impl FnOnce(&mut Self, &Registry, &Exchange)) -> Outcome {
        std::fs::write(self.path("module.wasm"), patched(&json!({"stamp": "0"}))).unwrap();
        let config = format!(
            r#"
[source.kafka]
brokers = "{}"
[engine]
deadline_ms = 300
compile_seconds = 30
compile_memory_mb = 16384
[sinks.out.sqlite]
path = "store.db"
[[pipelines]]
name = "swap-{}"
topics = ["{}"]
format = "debezium-flattened"
sinks = {{ messages = "out", tables = "out" }}
batch = {{ max_events = 100 }}
[[pipelines.transforms]]
name = "stamping"
module = "module.wasm"
settings = {{ describe = {{ topics = ["stamps"], tables = [{{ name = "t", key = ["id"] }}] }} }}
grants = {{ messages = ["stamps"], tables = ["t"] }}
{block}"#,
            self.brokers, self.topic, self.topic
        );
        std::fs::write(self.path("tidegate.toml"), config).unwrap();
        let config = Config::load(&self.path("tidegate.toml")).unwrap();
        let stops = Stops::default();
        let mut pipelines = Pipelines::open(&config, engine(), &stops, &Observed::new(&config)).unwrap();
        let registry = Registry::new(pipelines.exchanges());
        thread::scope(|scope| {
            let running = scope.spawn(|| pipelines.run());
            let exchange = registry.exchanges()[0].clone();
            let begun = Instant::now();
            while !exchange.is_running() && begun.elapsed() < PATIENCE {
                thread::yield_now();
            }
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                during(self, &registry, &exchange);
            }));
            stops.set();
            let outcome = running.join().unwrap();
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcome
        })
    }

    /// Waits until everything that was produced is in the store.
    fn settle(&self) {
        let begun = Instant::now();
        while self.stored() < self.produced {
            assert!(begun.elapsed() < PATIENCE, "{} of {} are in the store", self.stored(), self.produced);
            thread::yield_now();
        }
    }

    fn stored(&self) -> u64 {
        let store = Connection::open_with_flags(self.path("store.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let count = store.and_then(|store| {
            store.query_row("SELECT count(*) FROM tidegate_messages", [], |row| row.get::<_, u32>(0))
        });
        count.unwrap_or_default().into()
    }

    /// `PARTITION@OFFSET` and the stamp of each event, in the order in which they were stored.
    fn stamps(&self) -> Vec<(String, String)> {
        let store = Connection::open(self.path("store.db")).unwrap();
        let mut query = store.prepare("SELECT key, value FROM tidegate_messages ORDER BY sequence").unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Each event is there once, in the order of its partition. Answers each partition's stamps in that order.
    fn in_order(&self) -> BTreeMap<String, Vec<String>> {
        let mut partitions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (position, stamp) in self.stamps() {
            let (partition, offset) = position.split_once('@').unwrap();
            let stamps = partitions.entry(partition.to_owned()).or_default();
            assert_eq!(offset, stamps.len().to_string(), "of partition {partition}");
            stamps.push(stamp);
        }
        assert_eq!(partitions.values().map(|stamps| stamps.len() as u64).sum::<u64>(), self.produced);
        partitions
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap();
        let _ = block_on(admin.delete_topics(&[&self.topic], &AdminOptions::new()));
    }
}

/// Key and value of the captured orders that have both.
fn orders() -> Vec<(String, String)> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/corpus/order-cache/dbserver1.public.orders.jsonl");
    let lines = std::fs::read_to_string(file).unwrap();
    let lines = lines.split('\n').filter(|line| !line.is_empty());
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| Some((line["key"].as_str()?.to_owned(), line["value"].as_str()?.to_owned()))).collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The address of the broker, as the build tool has started it.
fn brokers() -> String {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let default = target.parent().unwrap().join("services/addresses.json");
    let file = std::env::var_os("TIDEGATE_SERVICES").map_or(default, Into::into);
    let text = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}: start the servers by `cargo xtask services`", file.display()));
    serde_json::from_str::<Value>(&text).unwrap()["kafka"].as_str().unwrap().to_owned()
}

#[test]
fn two_hundred_exchanges_under_load_leave_every_event_stamped_once_and_in_order() {
    let mut stream = Stream::new();
    let mut history = Vec::new();
    let outcome = stream.run("", |stream, registry, exchange| {
        for number in 1..=200 {
            stream.produce(500);
            let module = patched(&json!({"stamp": number.to_string()}));
            registry.offer(exchange, "stamping", &module, Origin::Upload, How::Configured).unwrap();
        }
        stream.produce(500);
        stream.settle();
        history = exchange.history().unwrap();
    });
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    let digest = |stamp: &str| -> String {
        Sha256::digest(patched(&json!({ "stamp": stamp }))).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let digests: BTreeMap<String, String> =
        (0..=200).map(|stamp: u32| (stamp.to_string(), digest(&stamp.to_string()))).collect();
    let mut met = Vec::new();
    for (partition, stamps) in stream.in_order() {
        let of = |(_, row): &&(String, HistoryRow)| row.partition.partition.to_string() == partition;
        let rows: Vec<_> = history.iter().filter(of).collect();
        let made_by = |(offset, stamp): (u64, &String)| {
            let (sink, row) = rows.iter().rev().find(|(_, row)| row.offset <= offset).unwrap();
            assert_eq!((&**sink, &row.digests[0]), ("out", &digests[stamp]), "{partition}@{offset}");
        };
        (0..).zip(&stamps).for_each(made_by);
        let stamps: Vec<u32> = stamps.iter().map(|stamp| stamp.parse().unwrap()).collect();
        assert!(stamps.is_sorted(), "a module served again that had been exchanged");
        met.extend(stamps);
    }
    met.sort_unstable();
    met.dedup();
    // The stream was under way: not one module or two did it all.
    assert!(met.len() > 50 && met.last() == Some(&200), "{met:?}");
}

#[test]
fn a_module_that_is_broken_never_touches_the_stream() {
    let mut stream = Stream::new();
    let outcome = stream.run("", |stream, registry, exchange| {
        let refused = |bytes: &[u8], part: &str| {
            let refusal =
                registry.offer(exchange, "stamping", bytes, Origin::Upload, How::Configured).unwrap_err().to_string();
            assert!(refusal.contains(part), "{part:?} is not why: {refusal}");
        };
        refused(b"<html>", "not WebAssembly");
        refused(&hostile()[..10_000], "damaged or cut off");
        refused(b"\0asm\x01\0\0\0", "is no transform");
        refused(&patched(&json!({"start": "trap"})), "trap");
        refused(&patched(&json!({"describe": {"topics": ["others"]}})), "others");
        let other_key = json!({"describe": {"topics": ["stamps"], "tables": [{"name": "t", "key": ["other"]}]}});
        refused(&patched(&other_key), "declares the key (other) of table `t`");
        stream.produce(300);
        stream.settle();

        for (number, deed) in ["trap", "loop", "allocate", "wrong-sum", "panic"].into_iter().enumerate() {
            let good = exchange.serving();
            // From the tenth event of what comes next: the events before that would be well.
            let next = stream.produced / 3;
            let bad = json!({"stamp": "bad", "do": deed, "at": (next + 10..next + 20).collect::<Vec<_>>()});
            registry.offer(exchange, "stamping", &patched(&bad), Origin::Upload, How::Configured).unwrap();
            stream.produce(300);
            stream.settle();
            assert_eq!(exchange.serving(), good, "{deed}");
            let left = exchange.before().unwrap();
            assert_ne!(left.modules, good, "{deed}");
            assert!(left.failure.is_some(), "{deed}");
            // A good one is taken as ever.
            let next = patched(&json!({"stamp": (number + 1).to_string()}));
            registry.offer(exchange, "stamping", &next, Origin::Upload, How::Configured).unwrap();
            stream.produce(300);
            stream.settle();
        }
    });
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    let rejected: u64 = outcome.summary.pipelines.iter().flat_map(|pipeline| pipeline.rejected.values()).sum();
    assert_eq!(rejected, 0);
    for stamps in stream.in_order().into_values() {
        // A bad one may have handled what it can before it fails.
        let good: Vec<u32> = stamps.iter().filter_map(|stamp| stamp.parse().ok()).collect();
        assert!(good.is_sorted() && good.last() == Some(&5), "{good:?}");
    }
}

#[test]
fn what_the_file_comes_to_hold_serves_and_can_be_gone_back_from() {
    let mut stream = Stream::new();
    let outcome = stream.run("", |stream, registry, exchange| {
        let watching = registry.watch().unwrap();
        stream.produce(30);
        stream.settle();
        let next = stream.path("next");
        std::fs::write(&next, patched(&json!({"stamp": "1"}))).unwrap();
        std::fs::rename(&next, stream.path("module.wasm")).unwrap();
        let (first, begun) = (exchange.serving(), Instant::now());
        while exchange.serving() == first {
            assert!(begun.elapsed() < PATIENCE);
            thread::yield_now();
        }
        stream.produce(30);
        stream.settle();
        exchange.go_back().unwrap();
        assert_eq!(exchange.serving(), first);
        stream.produce(30);
        stream.settle();
        watching.end();
        assert_eq!(registry.offers().len(), 1);
    });
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    let ten = |stamp: &str| vec![stamp.to_owned(); 10];
    for stamps in stream.in_order().into_values() {
        assert_eq!(stamps, [ten("0"), ten("1"), ten("0")].concat());
    }
}

const COMPARED: &str = "shadow = { events = 200, seconds = 20, times_slower = 1000 }";

/// Offers a module into the shadow, and gives it events until there is a decision.
fn compared(stream: &mut Stream, registry: &Registry, exchange: &Exchange, patch: &Value) -> Offer {
    let id = registry.offer(exchange, "stamping", &patched(patch), Origin::Upload, How::Configured).unwrap().unwrap();
    let begun = Instant::now();
    loop {
        stream.produce(30);
        let offer = registry.offers().into_iter().find(|offer| offer.id == id).unwrap();
        if !matches!(offer.state, State::Shadow(_)) {
            return offer;
        }
        assert!(begun.elapsed() < PATIENCE, "{offer:?}");
    }
}

#[test]
fn in_the_shadow_only_what_answers_the_same_is_promoted() {
    let mut stream = Stream::new();
    let outcome = stream.run(COMPARED, |stream, registry, exchange| {
        let first = exchange.serving();
        let refused = |offer: Offer| match offer.state {
            State::Refused(why, comparison) => (why, comparison.unwrap()),
            other => panic!("{other:?}"),
        };
        let (why, comparison) = refused(compared(stream, registry, exchange, &json!({"stamp": "other"})));
        assert!(why.contains("differently"), "{why}");
        assert_eq!(comparison.different, comparison.events);
        let sample = &comparison.samples[0];
        assert!(sample.serving.contains("\"value\":0") && sample.candidate.contains("\"other\""), "{sample:?}");
        assert!(sample.position.starts_with(&stream.topic), "{sample:?}");

        let (why, comparison) = refused(compared(stream, registry, exchange, &json!({"stamp": "0", "do": "reject"})));
        assert!(why.contains("rejects"), "{why}");
        assert_eq!(comparison.newly_rejected, comparison.events);
        for deed in ["trap", "loop", "allocate"] {
            let (why, _) = refused(compared(stream, registry, exchange, &json!({"stamp": "0", "do": deed})));
            assert!(why.contains("fails where what serves does not"), "{deed}: {why}");
        }
        assert_eq!(exchange.serving(), first);

        // The same by meaning, and another module all the same.
        let promoted = compared(stream, registry, exchange, &json!({"stamp": "0", "version": 2}));
        assert!(matches!(promoted.state, State::Promoted(Some(_))), "{promoted:?}");
        assert_eq!(exchange.serving()[0].1, promoted.digest);
        stream.settle();
    });
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    assert!(stream.in_order().into_values().flatten().all(|stamp| stamp == "0"), "what was compared left a trace");
}

#[test]
fn by_hand_a_compared_module_waits_for_a_word() {
    let mut stream = Stream::new();
    let by_hand = COMPARED.replace("events", "promote = \"by-hand\", events");
    let outcome = stream.run(&by_hand, |stream, registry, exchange| {
        let waits = compared(stream, registry, exchange, &json!({"stamp": "1"}));
        assert!(matches!(&waits.state, State::Waits(comparison) if comparison.different > 0), "{waits:?}");
        stream.settle();
        assert!(stream.stamps().iter().all(|(_, stamp)| stamp == "0"));
        registry.promote(waits.id).unwrap();
        assert!(registry.promote(waits.id).is_err());
        stream.produce(30);
        stream.settle();
        assert_eq!(stream.stamps().last().unwrap().1, "1");
        let waits = compared(stream, registry, exchange, &json!({"stamp": "2"}));
        registry.discard(waits.id).unwrap();
        stream.settle();
    });
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    assert!(stream.in_order().into_values().flatten().all(|stamp| stamp != "2"));
}

#[test]
fn a_module_that_compiles_for_long_holds_up_no_other() {
    let mut stream = Stream::new();
    std::fs::write(stream.path("second.wasm"), patched(&json!({"stamp": "0"}))).unwrap();
    let second = r#"
[[pipelines.transforms]]
name = "second"
module = "second.wasm"
settings = { describe = { topics = ["stamps"], tables = [{ name = "t", key = ["id"] }] } }
grants = { messages = ["stamps"], tables = ["t"] }
"#;
    let slow = || transform(&[locals_by_loops(1500)]);
    let outcome = stream.run(second, |stream, registry, exchange| {
        let state = |transform: &str| {
            registry.offers().into_iter().rev().find(|offer| offer.transform == transform).map(|offer| offer.state)
        };
        let digest = |transform: &str| {
            exchange.serving().into_iter().find(|(name, _)| name == transform).map(|(_, digest)| digest).unwrap()
        };
        let wait = |mut until: Box<dyn FnMut() -> bool>| {
            let begun = Instant::now();
            while !until() {
                assert!(begun.elapsed() < PATIENCE, "{:?}", registry.offers());
                thread::yield_now();
            }
        };
        // By upload. A second one for the same transform waits, a third is told to come again.
        registry.upload(exchange, "stamping", slow(), How::AtOnce).unwrap();
        registry.upload(exchange, "stamping", patched(&json!({"stamp": "1"})), How::AtOnce).unwrap();
        let busy = registry.upload(exchange, "stamping", patched(&json!({"stamp": "2"})), How::AtOnce);
        assert!(busy.unwrap_err().to_string().contains("looked at already"));
        let next = patched(&json!({"stamp": "3"}));
        registry.offer(exchange, "second", &next, Origin::Upload, How::AtOnce).unwrap();
        let is_checked = |offer: &&Offer| matches!(offer.state, State::Checking);
        assert_eq!(registry.offers().iter().filter(is_checked).count(), 2, "{:?}", registry.offers());
        assert_eq!(digest("second"), tidegate::engine::digest(&next));
        let waiting = tidegate::engine::digest(&patched(&json!({"stamp": "1"})));
        wait(Box::new(|| digest("stamping") == waiting));
        let offers = registry.offers();
        assert!(matches!(&offers[0].state, State::Refused(why, _) if why.contains("too long")), "{offers:?}");

        // By file.
        let watching = registry.watch().unwrap();
        let replace = |file: &str, bytes: &[u8]| {
            std::fs::write(stream.path("next"), bytes).unwrap();
            std::fs::rename(stream.path("next"), stream.path(file)).unwrap();
        };
        replace("module.wasm", &slow());
        wait(Box::new(|| matches!(state("stamping"), Some(State::Checking))));
        let next = patched(&json!({"stamp": "4"}));
        replace("second.wasm", &next);
        wait(Box::new(|| digest("second") == tidegate::engine::digest(&next)));
        assert!(matches!(state("stamping"), Some(State::Checking)), "{:?}", registry.offers());
        watching.end();
    });
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
}
