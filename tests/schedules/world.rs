//! What a series of schedules plays in: three pipelines of one program between real servers, wires to the stores that can
//! be troubled, and a watcher at each store.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tidegate_tests::guest;

use super::fault::kill;
use super::looks::{Look, cached, found, kept};
use super::proxy::Proxy;
use super::servers::Servers;
use super::stream::{Stream, round_of};
use super::typed::Typed;
use super::watcher::Watcher;
use crate::live::random::Random;
use crate::outage::support::{
    Broker, Database, MIRROR, ORDER_CACHE, Program, Run, Topic, books, documents, orders, unique,
};

/// The tables, and every state of a row that was ever written, in order.
const TABLES: &str = "
    CREATE TABLE mirrored (id text PRIMARY KEY, status text);
    CREATE SCHEMA beside;
    CREATE TABLE beside.mirrored (id text PRIMARY KEY, status text);
    CREATE TABLE states (place bigserial, schema text, id text, status text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
        INSERT INTO states (schema, id, status) VALUES (
            TG_TABLE_SCHEMA, coalesce(NEW.id, OLD.id), CASE WHEN TG_OP <> ''DELETE'' THEN NEW.status END);
        RETURN NULL; END';
    CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON mirrored FOR EACH ROW EXECUTE FUNCTION note();
    CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON beside.mirrored FOR EACH ROW EXECUTE FUNCTION note()";
/// Takes the states since the last time.
const STATES: &str = "
    WITH gone AS (DELETE FROM states RETURNING *) SELECT schema, id, status FROM gone ORDER BY place";

const SEARCH: &str = r#"
[[pipelines.transforms]]
name = "company-search"
module = "{guests}/company_search.wasm"
grants = { documents = ["company", "contact", "job_posting"] }
"#;

/// The stores, by their places in what follows.
pub(super) const STORES: [&str; 3] = ["redis", "postgres", "elasticsearch"];
/// The modules, by the stores that they write.
const MODULES: [&str; 3] = ["order-cache", "hostile", "company-search"];
/// In how many forms a module is exchanged for itself.
const FORMS: u8 = 8;
/// What is watched, each with the place of its stream. The first pipeline writes a table before its cache.
const WATCHED: [(&str, usize); 4] =
    [("redis", 0), ("postgres", 1), ("elasticsearch", 2), ("postgres, beside redis", 0)];
/// The schemas of the tables, each with the place of its stream.
const SCHEMAS: [(&str, usize); 2] = [("public", 1), ("beside", 0)];

/// How long it may take to fill a store anew.
const REWOUND_BY: Duration = Duration::from_secs(15);

/// The replica that comes and goes.
pub(super) const GUEST: usize = 0;
/// The replica that is killed, ended and started.
pub(super) const VICTIM: usize = 1;

/// The servers, the streams and the program.
pub(super) struct World {
    /// The replicas of the program, each running or not. The last one is there whenever the world settles.
    pub(super) replicas: Vec<(Program, Option<Run>)>,
    /// A stream a pipeline.
    pub(super) streams: Vec<Stream>,
    /// A wire a store.
    pub(super) wires: [Proxy; 3],
    /// Those of the streams first, in their order.
    pub(super) watchers: [Arc<Watcher>; 4],
    /// Pipelines into stores that refuse.
    pub(super) typed: Typed,
    pub(super) database: Database,
    /// Where the modules lie, in which form each.
    modules: PathBuf,
    forms: [u8; 3],
    /// How far each row of each schema is known to have been written, by the place of its state.
    written: [BTreeMap<String, usize>; 2],
    /// What fills a store anew just now.
    pub(super) rewinds: Vec<Run>,
    /// How often a store was filled anew.
    pub(super) rewound: usize,
    pub(super) servers: Servers,
}

impl World {
    /// With so many replicas, none of which runs yet.
    pub(super) fn new(replicas: usize) -> Self {
        let servers = Servers::start();
        let broker = Broker(servers.broker.url().to_owned());
        let database = Database::new(servers.postgres.url());
        database.run(TABLES);
        let (prefix, modules) = (&servers.prefix, servers.modules());
        let host = |url: &str| url.split(['/', '@']).find(|part| part.starts_with("127.0.0.1:")).unwrap().to_owned();
        let wires = servers.urls().map(|url| Proxy::to(&host(url), replicas));
        let through = |url: &str, wire: &Proxy| url.replace(&host(url), &wire.addresses[0].to_string());
        let streams = vec![
            Stream::new(broker.topic("orders", 3, &[]), unique("cache"), &orders(), "status"),
            Stream::new(broker.topic("orders", 3, &[]), unique("warehouse"), &books(), "status"),
            Stream::new(broker.topic("contact", 3, &[]), unique("search"), &documents(), "full_name"),
        ];
        let pipeline = |stream: &Stream, sinks: &str, transforms: &str| {
            format!(
                "[[pipelines]]\nname = \"{}\"\ntopics = [\"{}\"]\nformat = \"auto\"\nbatch = {{ max_events = 10 }}\n\
                 sinks = {{ {sinks} }}\n{}\n",
                stream.pipeline,
                stream.topic.name,
                transforms.replace("{guests}", &modules.display().to_string())
            )
        };
        let typed = Typed::new(&broker, &servers, &database, &modules);
        let config = format!(
            "[admin]\nlisten = \"unix:admin.sock\"\n[sinks.cache.redis]\nurl = \"{}\"\ntimeout_ms = 2000\n\
             [sinks.warehouse.postgres]\nurl = \"{table}\"\n\
             [sinks.beside.postgres]\nurl = \"{table}\"\nschema = \"beside\"\n\
             [sinks.search.elasticsearch]\nurl = \"{}\"\nindex_prefix = \"{prefix}\"\n\
             ledger_index = \"{prefix}ledger\"\ntimeout_ms = 2000\n{}{}{}{}",
            through(servers.redis.url(), &wires[0]),
            through(&servers.elasticsearch.0, &wires[2]),
            typed.config(&through(&database.url, &wires[1])),
            pipeline(&streams[0], "tables = \"beside\", cache = \"cache\"", &format!("{ORDER_CACHE}{MIRROR}")),
            pipeline(&streams[1], "tables = \"warehouse\"", MIRROR),
            pipeline(&streams[2], "documents = \"search\"", SEARCH),
            table = through(&database.url, &wires[1]),
        );
        let mut program = Program::new(&broker, &config);
        // Who is gone without a word is not waited for for long.
        program.change("\"6000\"", "\"2000\"");
        let looks: [Look; 4] = [
            cached(servers.redis.url(), "order:", streams[0].ids()),
            kept(&database.url, "mirrored", streams[1].ids()),
            found(servers.elasticsearch.0.clone(), format!("{prefix}contact"), &streams[2].ids()),
            kept(&database.url, "beside.mirrored", streams[0].ids()),
        ];
        let mut looks = looks.into_iter();
        let watchers = WATCHED.map(|(name, stream)| {
            Arc::new(Watcher::start(name, streams[stream].states.clone(), looks.next().unwrap()))
        });
        let replica = |number: usize| {
            let mut replica = program.replica();
            for wire in &wires {
                let [first, own] = [0, number].map(|number| wire.addresses[number].to_string());
                replica.change(&first, &own);
            }
            (replica, None)
        };
        let replicas = (0..replicas).map(replica).collect();
        let (forms, written, rewinds, rewound) = ([0; 3], Default::default(), vec![], 0);
        let mut world = Self {
            replicas,
            streams,
            wires,
            watchers,
            typed,
            database,
            modules,
            forms,
            written,
            rewinds,
            rewound,
            servers,
        };
        (0..MODULES.len()).for_each(|store| world.exchange(store));
        world
    }

    /// Puts another module in the place of the one that writes a store: the same under another digest.
    pub(super) fn exchange(&mut self, store: usize) {
        let mut bytes = fs::read(guest(MODULES[store])).unwrap();
        // A section that nobody reads: its kind, its length, the length of its name, its name, and which form it is.
        bytes.extend([0, 6, 4]);
        bytes.extend(b"form");
        bytes.push(self.forms[store]);
        self.forms[store] = (self.forms[store] + 1) % FORMS;
        let file = self.modules.join(format!("{}.wasm", MODULES[store].replace('-', "_")));
        let next = file.with_extension("next");
        fs::write(&next, bytes).unwrap();
        fs::rename(next, file).unwrap();
    }

    pub(super) fn produce(&mut self, rounds: u32, random: &mut Random) {
        self.streams.iter_mut().for_each(|stream| drop(stream.produce(rounds, random)));
        self.typed.produce(rounds / 2, random);
    }

    /// How many events there were.
    pub(super) fn produced(&self) -> usize {
        self.streams.iter().map(|stream| stream.produced).sum::<usize>() + self.typed.produced()
    }

    /// All who watch.
    pub(super) fn watched(&self) -> impl Iterator<Item = &Arc<Watcher>> {
        self.watchers.iter().chain(&self.typed.watchers)
    }

    /// All topics, with the pipelines that read them.
    fn topics(&self) -> Vec<(&Topic, &str)> {
        let plain = self.streams.iter().map(|stream| (&stream.topic, stream.pipeline.as_str()));
        plain.chain(self.typed.topics()).collect()
    }

    /// Starts a replica that does not run.
    pub(super) fn start(&mut self, replica: usize) {
        let (program, run) = &mut self.replicas[replica];
        if run.is_none() {
            *run = Some(program.start());
        }
    }

    /// Kills all replicas.
    pub(super) fn kill_all(&mut self) {
        (0..self.replicas.len()).for_each(|replica| kill(self, replica));
    }

    /// Has the last replica alone run.
    pub(super) fn alone(&mut self) {
        let last = self.last();
        (0..last).for_each(|replica| kill(self, replica));
        self.start(last);
    }

    /// Changes the configuration of all replicas, for their next start.
    pub(super) fn change(&mut self, from: &str, to: &str) {
        self.replicas.iter_mut().for_each(|(program, _)| program.change(from, to));
    }

    /// None of the replicas that were started has ended by itself.
    pub(super) fn assert_runs(&self) {
        for (number, (_, run)) in self.replicas.iter().enumerate() {
            let Some(run) = run else { continue };
            let status = fs::read_to_string(format!("/proc/{}/status", run.id())).unwrap();
            assert!(!status.contains("State:\tZ"), "replica {number} ended by itself: {:#?}", run.troubles());
        }
    }

    /// The replica that is there whenever the world settles.
    pub(super) fn last(&self) -> usize {
        self.replicas.len() - 1
    }

    /// Waits until everything that was produced is durable, by a replica that runs.
    pub(super) fn settle(&mut self) {
        self.wires.iter().for_each(Proxy::heal);
        let last = self.last();
        self.start(last);
        let mut run = self.replicas[last].1.take().unwrap();
        for (topic, pipeline) in self.topics() {
            let ends: Vec<_> = topic.ends().into_iter().map(Some).collect();
            let mut durable = Vec::new();
            // However long that takes on a busy machine, it goes on.
            while durable != ends {
                let before = durable;
                durable = run.until("more to be durable", || {
                    let now = topic.committed(pipeline);
                    (now != before).then_some(now)
                });
            }
        }
        // A cache may have lost what was durable before.
        for (topic, pipeline) in [self.topics()[0], self.typed.topics()[0]] {
            for (partition, end) in topic.ends().into_iter().enumerate() {
                run.until("the cache to be filled again", || {
                    (self.servers.cached_to(pipeline, &topic.name, partition) == u64::try_from(end).ok()).then_some(())
                });
            }
        }
        self.rewound += self.rewinds.drain(..).map(|rewind| usize::from(comes_to_an_end(rewind))).sum::<usize>();
        for watcher in self.watched() {
            // A look that begins now sees the end.
            let looks = watcher.looks() + 2;
            run.until("another look", || (watcher.looks() >= looks).then_some(()));
        }
        self.watchers[0].is_filled();
        self.typed.watchers[2].is_filled_as_it_is();
        self.replicas[last].1 = Some(run);
    }

    /// Has the cache lose what it holds, or some of it, by `lose`; it is filled again until the world settles.
    pub(super) fn lose_cache(&mut self, lose: impl FnOnce(&mut Servers)) {
        let servers = &mut self.servers;
        let entries = &self.typed.watchers[2];
        self.watchers[0].while_it_loses(|| entries.while_it_loses(|| lose(servers)));
    }

    /// What is wrong now that everything is durable: lost, stepped back, done twice, or elsewhere.
    pub(super) fn wrong(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for watcher in &self.watchers {
            wrong.extend(watcher.behind().into_iter().map(|row| format!("lost: {row}")));
            wrong.extend(watcher.regressed().into_iter().map(|row| format!("stepped back: {row}")));
        }
        wrong.extend(self.doubled());
        wrong.extend(self.typed.wrong(&self.servers, &self.database));
        wrong
    }

    /// Forgets what is behind every row, when all is durable and nothing is wrong.
    pub(super) fn forget(&mut self) {
        Watcher::forget(&self.watchers);
        self.written.iter_mut().flat_map(BTreeMap::values_mut).for_each(|at| *at = 0);
    }

    /// The states that the tables have been through since the last call, each of which must be newer than the one before.
    fn doubled(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for row in self.database.rows(STATES) {
            let place = SCHEMAS.iter().position(|(schema, _)| *schema == row[0]).unwrap();
            let states = self.streams[SCHEMAS[place].1].states.lock().unwrap();
            let state = (row[2] != "null").then(|| round_of(&row[2]));
            let from = self.written[place].get(&row[1]).map_or(0, |at| at + 1);
            match states[&row[1]].iter().skip(from).position(|known| *known == state) {
                Some(at) => drop(self.written[place].insert(row[1].clone(), from + at)),
                None => wrong.push(format!("written twice, or a step back: {row:?} after {from} states")),
            }
        }
        wrong
    }
}

/// Waits until a store is filled anew; where that takes long, as under modules that are not those which run, it is asked to
/// end. Answers whether it was done.
fn comes_to_an_end(mut rewind: Run) -> bool {
    let begin = Instant::now();
    while rewind.is_running() && begin.elapsed() < REWOUND_BY {
        thread::park_timeout(Duration::from_millis(20));
    }
    if rewind.is_running() {
        rewind.signal("TERM");
    }
    rewind.ended().0 == Some(0)
}

impl Drop for World {
    fn drop(&mut self) {
        for (_, run) in &mut self.replicas {
            drop(run.take());
        }
    }
}
