//! A cache: entries that were filled beside take the place of those in use.

use std::collections::BTreeMap;

use ::redis::Commands as _;
use xtask::services::{Redis, Running};

use crate::live::random::Random;
use crate::outage::support::{Broker, Folder, ORDER_CACHE, Program, Run, orders, settled, unique};
use crate::schedules::looks::cached;
use crate::schedules::stream::{Stream, round_of};
use crate::schedules::watcher::Watcher;

/// A pipeline into a server of its own, and a reader that looks at all entries the whole time.
struct Case {
    connection: ::redis::Connection,
    program: Program,
    stream: Stream,
    random: Random,
    watcher: Watcher,
    _server: Running,
    _folder: Folder,
}

impl Case {
    fn new() -> Self {
        Self::with(&[])
    }

    /// With these arguments of the server.
    fn with(arguments: &[&str]) -> Self {
        let (broker, folder) = (Broker::shared(), Folder::new());
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let server = Redis { arguments, ..Redis::default() }.start(folder.path()).unwrap();
        let stream = Stream::new(broker.topic("orders", 3, &[]), unique("cache"), &orders(), "status");
        let config = format!(
            "[sinks.cache.redis]\nurl = \"{}\"\n[[pipelines]]\nname = \"{}\"\ntopics = [\"{}\"]\nformat = \"auto\"\n\
             batch = {{ max_events = 10 }}\nsinks = {{ cache = \"cache\" }}\n{ORDER_CACHE}",
            server.url(),
            stream.pipeline,
            stream.topic.name
        );
        let connection = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        let watcher = Watcher::start("redis", stream.states.clone(), cached(server.url(), "order:", stream.ids()));
        let program = Program::new(&broker, &config);
        Self { connection, program, stream, random: Random::new(5), watcher, _server: server, _folder: folder }
    }

    fn produce(&mut self, rounds: u32) {
        self.stream.produce(rounds, &mut self.random);
    }

    fn settle(&self, run: &mut Run) {
        settled(run, &self.stream.topic, &self.stream.pipeline);
    }

    fn rewind(&self) -> Run {
        self.program.rewind(&["--pipeline", &self.stream.pipeline])
    }

    /// The entries are the last states of the rows and no others; nobody saw an older state than before; and nothing is left
    /// of a rewind.
    fn check(&mut self) {
        let keys: Vec<String> = self.connection.keys("order:*").unwrap();
        let mut found = BTreeMap::new();
        for key in keys {
            let value: String = self.connection.get(&key).unwrap();
            found.insert(key, round_of(&value));
        }
        let states = self.stream.states.lock().unwrap();
        let expected: BTreeMap<_, _> = states
            .iter()
            .filter_map(|(id, states)| Some((format!("order:{id}"), states.last().copied().flatten()?)))
            .collect();
        drop(states);
        assert_eq!(found, expected);
        assert_eq!(self.watcher.regressed(), [""; 0]);
        assert_eq!(self.program.dead_letters(), 0);
        for pattern in ["*rewind*", "*:hold:*"] {
            let left: Vec<String> = self.connection.keys(pattern).unwrap();
            assert_eq!(left, [""; 0]);
        }
    }
}

#[test]
fn a_cache_is_filled_anew_while_the_pipeline_writes_and_somebody_reads() {
    let mut case = Case::new();
    let mut run = case.program.start();
    case.produce(100);
    case.settle(&mut run);
    let () = case.connection.set("order:ghost", "round-000000").unwrap();
    let mut rewind = case.rewind();
    while rewind.is_running() {
        case.produce(5);
    }
    let said = rewind.ends_well();
    assert!(said.iter().any(|line| line.contains("entries took the place of")), "{said:#?}");
    case.produce(20);
    case.settle(&mut run);
    case.check();
    assert!(case.watcher.behind().is_empty());
    run.stop();
    // While nobody runs it; and a start goes on from there.
    case.rewind().ends_well();
    case.produce(5);
    let mut run = case.program.start();
    case.settle(&mut run);
    case.check();
    run.stop();
}

#[test]
fn a_rewind_that_is_killed_has_changed_nothing_and_the_next_one_cleans_up() {
    let mut case = Case::new();
    let mut run = case.program.start();
    case.produce(60);
    case.settle(&mut run);
    let () = case.connection.set("order:ghost", "round-000000").unwrap();
    for moment in ["claimed", "the fill is near"] {
        let mut rewind = case.rewind();
        rewind.says(&[moment]);
        rewind.signal("KILL");
        assert_eq!(rewind.ended().0, None);
        case.produce(20);
        case.settle(&mut run);
        assert_eq!(case.watcher.regressed(), [""; 0], "{moment}");
        assert_eq!(case.connection.exists::<_, usize>("order:ghost").unwrap(), 1, "{moment}");
    }
    let said = case.rewind().ends_well();
    assert!(said.iter().any(|line| line.starts_with("removed the keys tidegate:")), "{said:#?}");
    case.produce(5);
    case.settle(&mut run);
    case.check();
    run.stop();
}

#[test]
fn cache_among_three_million_other_keys_is_put_in_place_at_the_first_try() {
    let mut case = Case::with(&["--enable-debug-command", "yes", "--save", ""]);
    let mut run = case.program.start();
    case.produce(20);
    case.settle(&mut run);
    let () = ::redis::cmd("DEBUG").arg(&["POPULATE", "3000000", "foreign"]).query(&mut case.connection).unwrap();
    let () = case.connection.set("order:ghost", "round-000000").unwrap();
    let said = case.rewind().ends_well();
    assert!(said.iter().any(|line| line.contains("entries took the place of")), "{said:#?}");
    let lines = |what: &str| said.iter().filter(|line| line.contains(what)).count();
    assert_eq!((lines("holding the pipeline"), lines("did not come up in time")), (1, 0), "{said:#?}");
    case.produce(5);
    case.settle(&mut run);
    case.check();
    run.stop();
}
