//! What a series of schedules plays in: three pipelines of one program between real servers, wires to the stores that can
//! be troubled, and a watcher at each store.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use ::redis::Commands as _;
use serde_json::{Value, json};
use tidegate_tests::guest;
use xtask::services::{Redis, Running};

use super::proxy::Proxy;
use super::stream::{Stream, round_of};
use super::watcher::{Look, Watcher};
use crate::live::random::Random;
use crate::outage::support::{
    Broker, Database, Folder, Http, ORDER_CACHE, Program, Run, books, connect, documents, orders, service, settled,
    unique,
};

/// The tables, and every state of an order that was ever written, in order.
const TABLES: &str = "
    CREATE TABLE mirrored (id text PRIMARY KEY, status text);
    CREATE TABLE states (place bigserial, id text, status text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
        INSERT INTO states (id, status) VALUES (coalesce(NEW.id, OLD.id), CASE WHEN TG_OP <> ''DELETE'' THEN NEW.status END);
        RETURN NULL; END';
    CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON mirrored FOR EACH ROW EXECUTE FUNCTION note()";

/// Rows that go as well as come: the bookstore's transform keeps those that are deleted.
const MIRROR: &str = r#"
[[pipelines.transforms]]
name = "mirror"
module = "{guests}/hostile.wasm"
settings = { do = "mirror", describe = { tables = [{ name = "mirrored", key = ["id"] }] } }
grants = { tables = ["mirrored"] }
"#;

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

/// The replica that comes and goes.
pub(super) const GUEST: usize = 0;
/// The replica that is killed, ended and started.
pub(super) const VICTIM: usize = 1;

/// The servers, the streams and the program.
pub(super) struct World {
    /// The replicas of the program, each running or not. The last one is there whenever the world settles.
    pub(super) replicas: Vec<(Program, Option<Run>)>,
    /// A stream a store.
    pub(super) streams: Vec<Stream>,
    /// A wire a store.
    pub(super) wires: [Proxy; 3],
    /// A watcher a store.
    pub(super) watchers: [Arc<Watcher>; 3],
    pub(super) database: Database,
    /// Where the modules lie, in which form each.
    modules: PathBuf,
    forms: [u8; 3],
    /// How far each row of the table is known to have been written, by the place of its state.
    written: BTreeMap<String, usize>,
    search: Http,
    prefix: String,
    _cache: Running,
    _folder: Folder,
}

impl World {
    /// With so many replicas, none of which runs yet.
    pub(super) fn new(replicas: usize) -> Self {
        let (broker, folder) = (Broker::shared(), Folder::new());
        let cache = Redis::default().start(folder.path()).unwrap();
        let (postgres, elasticsearch) = (service("postgres"), service("elasticsearch"));
        let database = Database::new(&postgres);
        database.run(TABLES);
        let prefix = format!("{}-", unique("index"));
        let host = |url: &str| url.split(['/', '@']).find(|part| part.starts_with("127.0.0.1:")).unwrap().to_owned();
        let wires = [cache.url(), &postgres, &elasticsearch].map(|url| Proxy::to(&host(url), replicas));
        let through = |url: &str, wire: &Proxy| url.replace(&host(url), &wire.addresses[0].to_string());
        let modules = folder.path().join("modules");
        fs::create_dir(&modules).unwrap();
        let streams = vec![
            Stream::new(broker.topic("orders", 3, &[]), unique("cache"), &orders(), "status"),
            Stream::new(broker.topic("orders", 3, &[]), unique("warehouse"), &books(), "status"),
            Stream::new(broker.topic("contact", 3, &[]), unique("search"), &documents(), "full_name"),
        ];
        let pipeline = |stream: &Stream, port: &str, sink: &str, transform: &str| {
            format!(
                "[[pipelines]]\nname = \"{}\"\ntopics = [\"{}\"]\nformat = \"auto\"\nbatch = {{ max_events = 10 }}\n\
                 sinks = {{ {port} = \"{sink}\" }}\n{}\n",
                stream.pipeline,
                stream.topic.name,
                transform.replace("{guests}", &modules.display().to_string())
            )
        };
        let config = format!(
            "[sinks.cache.redis]\nurl = \"{}\"\ntimeout_ms = 2000\n[sinks.warehouse.postgres]\nurl = \"{}\"\n\
             [sinks.search.elasticsearch]\nurl = \"{}\"\nindex_prefix = \"{prefix}\"\nledger_index = \"{prefix}ledger\"\n\
             timeout_ms = 2000\n{}{}{}",
            through(cache.url(), &wires[0]),
            through(&database.url, &wires[1]),
            through(&elasticsearch, &wires[2]),
            pipeline(&streams[0], "cache", "cache", ORDER_CACHE),
            pipeline(&streams[1], "tables", "warehouse", MIRROR),
            pipeline(&streams[2], "documents", "search", SEARCH),
        );
        let mut program = Program::new(&broker, &config);
        // Who is gone without a word is not waited for for long.
        program.change("\"6000\"", "\"2000\"");
        let search = Http(elasticsearch.clone());
        let looks: [Look; 3] = [
            cached(cache.url(), streams[0].ids()),
            kept(&database.url, streams[1].ids()),
            found(elasticsearch, format!("{prefix}contact"), &streams[2].ids()),
        ];
        let mut looks = looks.into_iter();
        let watchers = [0, 1, 2]
            .map(|place| Arc::new(Watcher::start(STORES[place], streams[place].states.clone(), looks.next().unwrap())));
        let replica = |number: usize| {
            let mut replica = program.replica();
            for wire in &wires {
                let [first, own] = [0, number].map(|number| wire.addresses[number].to_string());
                replica.change(&first, &own);
            }
            (replica, None)
        };
        let replicas = (0..replicas).map(replica).collect();
        let (forms, written) = ([0; 3], BTreeMap::new());
        let mut world = Self {
            replicas,
            streams,
            wires,
            watchers,
            database,
            modules,
            forms,
            written,
            search,
            prefix,
            _cache: cache,
            _folder: folder,
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
        self.streams.iter_mut().for_each(|stream| stream.produce(rounds, random));
    }

    /// Starts a replica that does not run.
    pub(super) fn start(&mut self, replica: usize) {
        let (program, run) = &mut self.replicas[replica];
        if run.is_none() {
            *run = Some(program.start());
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
        let run = self.replicas[last].1.as_mut().unwrap();
        self.streams.iter().for_each(|stream| settled(run, &stream.topic, &stream.pipeline));
        for watcher in &self.watchers {
            // A look that begins now sees the end.
            let looks = watcher.looks() + 2;
            run.until("another look", || (watcher.looks() >= looks).then_some(()));
        }
    }

    /// What is wrong now that everything is durable: lost, stepped back, done twice, or elsewhere.
    pub(super) fn wrong(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for watcher in &self.watchers {
            wrong.extend(watcher.behind().into_iter().map(|row| format!("lost: {row}")));
            wrong.extend(watcher.regressed().into_iter().map(|row| format!("stepped back: {row}")));
        }
        wrong.extend(self.doubled());
        for (program, _) in &self.replicas {
            let letters = program.dead_letters();
            wrong.extend((letters > 0).then(|| format!("{letters} dead letters")));
        }
        wrong
    }

    /// Forgets what is behind every row, when all is durable and nothing is wrong.
    pub(super) fn forget(&mut self) {
        self.watchers.iter().for_each(|watcher| watcher.forget());
        self.written.values_mut().for_each(|at| *at = 0);
    }

    /// The states that the table has been through since the last call, each of which must be newer than the one before.
    fn doubled(&mut self) -> Vec<String> {
        let states = self.streams[1].states.lock().unwrap();
        let mut wrong = Vec::new();
        for row in self
            .database
            .rows("WITH gone AS (DELETE FROM states RETURNING *) SELECT id, status FROM gone ORDER BY place")
        {
            let state = (row[1] != "null").then(|| round_of(&row[1]));
            let from = self.written.get(&row[0]).map_or(0, |at| at + 1);
            match states[&row[0]].iter().skip(from).position(|known| *known == state) {
                Some(place) => drop(self.written.insert(row[0].clone(), from + place)),
                None => wrong.push(format!("written twice, or a step back: {row:?} after {from} states")),
            }
        }
        wrong
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (_, run) in &mut self.replicas {
            drop(run.take());
        }
        self.search.try_send("DELETE", &format!("/{}*", self.prefix), "");
    }
}

/// Reads a cache.
fn cached(url: &str, ids: Vec<String>) -> Look {
    let client = ::redis::Client::open(url).unwrap();
    let keys: Vec<String> = ids.iter().map(|id| format!("order:{id}")).collect();
    let mut connection = None;
    Box::new(move || {
        if connection.is_none() {
            connection = client.get_connection().ok();
        }
        let values: Result<Vec<Option<String>>, _> = connection.as_mut()?.mget(&keys);
        let Ok(values) = values else {
            connection = None;
            return None;
        };
        Some(ids.iter().cloned().zip(values.iter().map(|value| value.as_deref().map(round_of))).collect())
    })
}

/// Reads a table.
fn kept(url: &str, ids: Vec<String>) -> Look {
    let (runtime, client) = connect(url);
    Box::new(move || {
        let rows = runtime.block_on(client.query("SELECT id, status FROM mirrored", &[])).ok()?;
        let rows: BTreeMap<String, u32> = rows.iter().map(|row| (row.get(0), round_of(row.get(1)))).collect();
        Some(ids.iter().map(|id| (id.clone(), rows.get(id).copied())).collect())
    })
}

/// Reads documents, each by its identity, which shows what is written at once.
fn found(server: String, index: String, ids: &[String]) -> Look {
    let server = Http(server);
    let body = json!({ "ids": ids }).to_string();
    Box::new(move || {
        let (status, answer) = server.try_send("POST", &format!("/{index}/_mget"), &body)?;
        if status != 200 {
            return None;
        }
        let documents = answer["docs"].as_array()?;
        let state = |document: &Value| {
            let id = document["_id"].as_str()?.to_owned();
            let round = (document["found"] == true).then(|| round_of(&document["_source"].to_string()));
            Some((id, round))
        };
        documents.iter().map(state).collect()
    })
}
