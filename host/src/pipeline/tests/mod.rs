//! Lanes over scripted stores: what comes of a stream when stores fail in every way that the contract knows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod claims;
mod dead_letter;
mod dead_letter_topic;
mod exchange;
mod faults;
mod fence;
mod letters;
mod order;
mod played;
mod random;
mod replay;
mod replay_messages;
mod replaying;
mod store;
mod suspects;
mod topics;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use tokio::runtime::{Builder, Runtime};

use self::store::Store;
use super::Pipeline;
use super::breaker::Breaker;
use super::dead_letter::{DeadLetterFile, DeadLetters, Stage};
use super::lane::{self, Lane};
use super::observe::ObservedPipeline;
use super::one_writer::OneWriter;
use super::open::Source;
use super::progress::{PipelineSummary, count};
use super::serving::{Serving, Slot};
use super::stop::Stop;
use super::trial::By;
use super::write::{BoundSink, Policies, Prepared, Refused, Stores};
use crate::command::collapse::Tagged;
use crate::command::{Command, Port, Row};
use crate::config::{self, OnLost, OnLostCache};
use crate::contract::{Fault, Rejection};
use crate::source::{Bounds, FileSource, LaneQueue, Record};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// The first half of a lane, as a test scripts it.
type Prepare = Box<dyn FnMut(Vec<Record>) -> anyhow::Result<Prepared> + Send>;

impl lane::Prepare for Prepare {
    fn prepare(&mut self, records: Vec<Record>, _by: By) -> anyhow::Result<Prepared> {
        self(records)
    }

    fn renew(&mut self) -> anyhow::Result<Arc<Serving>> {
        Ok(serving())
    }
}

const TABLES: &[Port] = &[Port::Tables];
const OTHERS: &[Port] = &[Port::Documents, Port::Cache, Port::Messages];

/// What a transform answers to each event, by partition and offset; none is a refusal.
#[derive(Clone, Default)]
struct Events(Vec<(u32, u64, Option<Vec<Command>>)>);

impl Events {
    /// Events of partition 0 at the offsets 0, 1, 2, …
    fn new(answers: impl IntoIterator<Item = Vec<Command>>) -> Self {
        Self(answers.into_iter().zip(0..).map(|(commands, offset)| (0, offset, Some(commands))).collect())
    }

    fn prepare(&self) -> Prepare {
        let answers: HashMap<_, _> =
            self.0.iter().map(|(partition, offset, answer)| ((*partition, *offset), answer.clone())).collect();
        answering(move |record| answers[&(record.partition.partition, record.offset)].clone())
    }
}

/// The first half of a lane whose transform answers so.
fn answering(answer: impl Fn(&Record) -> Option<Vec<Command>> + Send + 'static) -> Prepare {
    Box::new(move |records| {
        let mut summary = PipelineSummary::default();
        let (mut commands, mut refused) = (Vec::new(), Vec::new());
        for (place, record) in records.iter().enumerate() {
            count(&mut summary.events, "create");
            match answer(record) {
                Some(answer) => commands.extend(answer.into_iter().map(|command| {
                    count(&mut summary.commands, command.kind());
                    Tagged { offset: record.offset, transform: 0, command }
                })),
                None => {
                    let why = Rejection::new(Fault::Refused, "no");
                    refused.push(Refused { place, transform: Some(0), stage: Stage::Transform, sink: None, why });
                }
            }
        }
        let to = records.last().unwrap().offset + 1;
        let serving = serving();
        let partial = BTreeMap::new();
        Ok(Prepared { to, records, serving, commands, partial, refused, summary, happened: None, stop: None })
    })
}

/// Stores, a file of events and a file of dead letters that outlive the runs of a pipeline.
struct Site {
    folder: tempfile::TempDir,
    sinks: Vec<(&'static [Port], Arc<Store>)>,
    policies: Policies,
    breaker: config::Breaker,
}

impl Site {
    fn new(sinks: Vec<(&'static [Port], Arc<Store>)>) -> Self {
        let policies = Policies {
            on_lost_records: OnLost::Stop,
            on_changed_topic: OnLost::Stop,
            on_lost_cache: OnLostCache::Rebuild,
            clash_patience: Duration::from_secs(30),
        };
        let breaker = config::Breaker { in_a_row: 0, percent: 0 };
        Self { folder: tempfile::tempdir().unwrap(), sinks, policies, breaker }
    }

    fn letters_path(&self) -> PathBuf {
        self.folder.path().join("dead-letters.jsonl")
    }

    /// The offsets of the dead letters, in order.
    fn letters(&self) -> Vec<u64> {
        store::letters(&self.letters_path())
    }

    fn stores(&self) -> Arc<Stores> {
        let sinks = self.sinks.iter().zip(0..).map(|((ports, store), number)| BoundSink {
            name: format!("s{number}"),
            ports: ports.to_vec(),
            sink: store.clone(),
        });
        let letters = Arc::new(DeadLetters::File(DeadLetterFile::open(self.letters_path(), 1000).unwrap()));
        Arc::new(Stores {
            pipeline: "p".into(),
            sinks: sinks.collect(),
            dead_letters: letters,
            stop: Arc::new(Stop::default()),
            policies: self.policies.clone(),
            configured: String::new(),
            breaker: Breaker::new(self.breaker),
            one_writer: OneWriter::default(),
            is_ready: AtomicBool::default(),
            slot: Arc::new(Slot::new(Serving::named(0, &[("first", "d1"), ("second", "d2")]))),
            claims: AtomicU64::default(),
            observed: Arc::new(ObservedPipeline::new("p", vec![], [])),
            trial: Arc::default(),
            beginning_afresh: tokio::sync::Mutex::default(),
            entering_topics: tokio::sync::Mutex::default(),
        })
    }

    /// A pipeline over the stores, with lanes that do this with their records.
    fn pipeline(&self, events: &Events, most: usize, prepare: Vec<Prepare>) -> Pipeline {
        let path = self.folder.path().join("events.jsonl");
        let line = |(partition, offset, _): &(u32, u64, Option<Vec<Command>>)| {
            format!("{{\"topic\":\"t\",\"partition\":{partition},\"offset\":{offset}}}\n")
        };
        std::fs::write(&path, events.0.iter().map(line).collect::<String>()).unwrap();
        let (control, receiver) = mpsc::channel();
        let stores = self.stores();
        let lane = |prepare| lane(&stores, prepare, control.clone(), most);
        Pipeline {
            name: "p".into(),
            lanes: prepare.into_iter().map(lane).collect(),
            control: receiver,
            source: Source::File(FileSource { paths: vec![path], topics: vec!["t".into()] }),
            stores,
            runtime: RUNTIME.handle().clone(),
        }
    }

    /// Runs the events through one lane in batches of so many, to the end or the first failure.
    fn run(&self, events: &Events, most: usize) -> (PipelineSummary, Option<String>) {
        let (summary, failure) = self.pipeline(events, most, vec![events.prepare()]).run();
        (summary, failure.map(|failure| format!("{failure:#}")))
    }

    fn run_well(&self, events: &Events, most: usize) -> PipelineSummary {
        let (summary, failure) = self.run(events, most);
        assert_eq!(failure, None);
        summary
    }
}

fn lane(stores: &Arc<Stores>, prepare: Prepare, control: mpsc::Sender<crate::source::Control>, most: usize) -> Lane {
    let batch = Bounds { records: most, bytes: 1 << 20 };
    Lane {
        queue: Arc::new(LaneQueue::new(batch)),
        control,
        prepare: Box::new(prepare),
        serving: serving(),
        stores: stores.clone(),
        runtime: RUNTIME.handle().clone(),
        batch,
    }
}

/// Waits for a condition, on a machine that may be busy with other things.
fn until(what: &str, there: impl Fn() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// The modules that every test has.
fn serving() -> Arc<Serving> {
    Arc::new(Serving::named(0, &[("first", "d1"), ("second", "d2")]))
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.into()).unwrap()
}

fn set(key: &str, value: &str) -> Command {
    Command::CacheSet { key: key.into(), value: value.into(), ttl_seconds: None }
}

fn publish(n: u64) -> Command {
    Command::Publish { topic: "topic".into(), key: None, value: Some(n.to_string().into_bytes()), headers: Vec::new() }
}

fn row(id: &str, a: &str) -> Row {
    Row { table: "t".into(), key: vec![("id".into(), raw(id))], values: vec![("a".into(), raw(a))] }
}

/// A row whose store holds none such: it will be rejected.
fn bad_row() -> Command {
    Command::RowMerge(row("404", "1"))
}
