//! Three more pipelines of a world, into stores that refuse what does not fit, and into topics: what must be in each store,
//! among the dead letters and among the messages is computed by a model that knows what each store refuses.
//!
//! - `spread` writes a table with constraints, documents of a strict mapping, cache entries and messages.
//! - `search` writes documents alone, also such of other keys of its partition; later on a table comes to it.
//! - `outbox` publishes messages, and nothing else.
//! - `once` does the same exactly once.

mod event;
mod model;
pub(super) mod operator;
mod stores;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, iter};

use tidegate_tests::guest;

use self::event::{Names, Port, TAKEN};
use self::model::{Bound, Expected, Place, expect};
use self::stores::Published;
use self::stream::Stream;
use super::looks::{cached, found, kept};
use super::servers::Servers;
use super::watcher::Watcher;
use crate::live::random::Random;
use crate::outage::support::{Broker, Database, Topic, unique};

/// A table that takes little, and a row that no event is about.
fn table(schema: &str) -> String {
    format!(
        "CREATE SCHEMA {schema};
         CREATE TABLE {schema}.parents (id integer PRIMARY KEY);
         INSERT INTO {schema}.parents VALUES (1), (2), (3);
         CREATE TABLE {schema}.typed (
             id text PRIMARY KEY, status varchar(12) NOT NULL, amount integer CONSTRAINT positive CHECK (amount >= 0),
             day date, code text UNIQUE, parent integer REFERENCES {schema}.parents);
         INSERT INTO {schema}.typed (id, status, code) VALUES ('other', 'round-000000', '{TAKEN}')"
    )
}

/// A mapping that takes little.
const MAPPING: &str = r#"{"mappings": {"dynamic": "strict", "properties": {"status": {"type": "keyword"},
    "amount": {"type": "integer"}, "day": {"type": "date", "format": "strict_date"}}}}"#;

/// The file of the module that all of them run.
const MODULE: &str = "typed.wasm";

/// A pipeline and what it must come to.
pub(super) struct Pipeline {
    what: &'static str,
    stream: Stream,
    bound: Vec<Bound>,
    /// Where its messages go.
    messages: Option<Topic>,
}

/// The pipeline whose messages come exactly once.
const ONCE: &str = "once";

/// The pipelines.
pub(super) struct Typed {
    pub(super) pipelines: [Pipeline; 4],
    /// Tables, documents and the cache of the first.
    pub(super) watchers: [Arc<Watcher>; 3],
    letters: Topic,
    broker: Broker,
    modules: PathBuf,
    form: u8,
}

impl Typed {
    pub(super) fn new(broker: &Broker, servers: &Servers, database: &Database, modules: &Path) -> Self {
        database.run(&table("typed"));
        database.run(&table("later"));
        let letters = broker.create(&unique("letters"), 1);
        let pipeline = |what: &'static str, ports: &[Port], later: &[Port], strays| {
            let messages = ports.contains(&Port::Messages).then(|| broker.create(&unique("messages"), 3));
            let names = Names {
                table: "typed".to_owned(),
                index: format!("typed_{what}"),
                cache: "typed:".to_owned(),
                topic: messages.as_ref().map_or_else(String::new, |topic| topic.name.clone()),
            };
            let topic = broker.create(&Broker::name("typed"), 3);
            let stream = Stream::new(topic, unique(what), names, &[later, ports].concat(), strays);
            let bound = ports.iter().map(|port| Bound::new(*port)).collect();
            Pipeline { what, stream, bound, messages }
        };
        let pipelines = [
            pipeline("spread", &[Port::Tables, Port::Documents, Port::Cache, Port::Messages], &[], false),
            pipeline("search", &[Port::Documents], &[Port::Tables], true),
            pipeline("outbox", &[Port::Messages], &[], false),
            pipeline(ONCE, &[Port::Messages], &[], false),
        ];
        let stream = &pipelines[0].stream;
        let index = format!("{}{}", servers.prefix, stream.names.index);
        let looks = [
            ("a typed table", Port::Tables, kept(&database.url, "typed.typed", stream.keys())),
            ("typed documents", Port::Documents, found(servers.elasticsearch.0.clone(), index, &stream.keys())),
            ("typed entries", Port::Cache, cached(servers.redis.url(), &stream.names.cache, stream.keys())),
        ];
        let watchers =
            looks.map(|(name, port, look)| Arc::new(Watcher::start(name, stream.states[&port].clone(), look)));
        let typed = Self { pipelines, watchers, letters, broker: broker.clone(), modules: modules.to_owned(), form: 0 };
        let mut typed = typed;
        typed.swap(false);
        typed
    }

    /// What the configuration says of them; `warehouse` and `cache` are the addresses of the stores by their wires.
    pub(super) fn config(&self, warehouse: &str) -> String {
        let sinks = ["typed", "later"]
            .map(|schema| format!("[sinks.{schema}.postgres]\nurl = \"{warehouse}\"\nschema = \"{schema}\"\n"));
        let config = format!(
            "{}[sinks.events.kafka]\nbrokers = \"{1}\"\n\
             [sinks.once.kafka]\nbrokers = \"{1}\"\ndelivery = \"exactly-once\"\n\
             [dead_letters.kafka]\ntopic = \"{2}\"\n",
            sinks.concat(),
            self.broker.0,
            self.letters.name
        );
        self.pipelines.iter().fold(config, |config, pipeline| config + &pipeline.config(&self.modules))
    }

    /// Puts another module in the place of the one that they run: one that refuses what it does not like, or one that does not.
    pub(super) fn swap(&mut self, picky: bool) {
        let mut bytes = fs::read(guest("hostile")).unwrap();
        let at = bytes.windows(17).position(|window| window == b"{\"tidegate-patch\"").unwrap();
        self.form = self.form.wrapping_add(1);
        let patch = format!("{{\"picky\": {picky}, \"form\": {}}}", self.form);
        let patch: Vec<u8> = patch.bytes().chain(iter::repeat(b' ')).take(256).collect();
        bytes[at..at + 256].copy_from_slice(&patch);
        let next = self.modules.join("typed.next");
        fs::write(&next, bytes).unwrap();
        fs::rename(next, self.modules.join(MODULE)).unwrap();
    }

    pub(super) fn produce(&mut self, rounds: u32, random: &mut Random) {
        self.pipelines.iter_mut().for_each(|pipeline| pipeline.stream.produce(rounds, random));
    }

    /// How many events there were.
    pub(super) fn produced(&self) -> usize {
        self.pipelines.iter().flat_map(|pipeline| pipeline.stream.ends()).sum()
    }

    /// Whether there are none of its pipelines.
    pub(super) fn is_empty(&self) -> bool {
        self.pipelines.is_empty()
    }

    /// The topics and their pipelines.
    pub(super) fn topics(&self) -> [(&Topic, &str); 3] {
        [0, 1, 2].map(|place| {
            let stream = &self.pipelines[place].stream;
            (&stream.topic, stream.pipeline.as_str())
        })
    }

    /// What is wrong now that everything is durable.
    pub(super) fn wrong(&self, servers: &Servers, database: &Database) -> Vec<String> {
        let mut letters = stores::letters(&self.broker.0, &self.letters.name);
        let mut wrong = Vec::new();
        for (place, pipeline) in self.pipelines.iter().enumerate() {
            let letters = letters.remove(&pipeline.stream.pipeline).unwrap_or_default();
            wrong.extend(pipeline.wrong(&letters, servers, database, &self.broker.0));
            if place == 0 {
                wrong.extend(self.regressed(&letters));
            }
        }
        wrong.extend(letters.into_iter().map(|(pipeline, letters)| format!("dead letters of {pipeline}: {letters:?}")));
        wrong
    }

    /// What was older than what was there before, with what each of these keys was asked for.
    fn regressed(&self, letters: &BTreeMap<Place, BTreeSet<String>>) -> Vec<String> {
        let mut wrong = Vec::new();
        let spread = &self.pipelines[0];
        for (port, watcher) in [Port::Tables, Port::Documents, Port::Cache].into_iter().zip(&self.watchers) {
            let regressed = watcher.regressed();
            wrong.extend(regressed.iter().map(|row| format!("stepped back: {row}")));
            let keys = spread.stream.keys();
            for key in keys.iter().filter(|key| regressed.iter().any(|row| row.contains(&format!(" {key}:")))) {
                wrong.push(format!("{}: {:#?}", port.name(), spread.history(port, key, letters, 40)));
            }
        }
        wrong
    }
}

impl Pipeline {
    fn has(&self, port: Port) -> bool {
        self.bound.iter().any(|bound| bound.port == port)
    }

    fn config(&self, modules: &Path) -> String {
        let (names, mut sinks, mut describes, mut grants) = (&self.stream.names, vec![], vec![], vec![]);
        for Bound { port, .. } in &self.bound {
            let (sink, describe, grant) = match port {
                Port::Tables => {
                    let sink = if self.has(Port::Cache) { "typed" } else { "later" };
                    (sink, format!("tables = [{{ name = \"{}\", key = [\"id\"] }}]", names.table), names.table.clone())
                }
                Port::Documents => {
                    let describe =
                        format!("indexes = [{{ name = \"{}\", definition = '''{MAPPING}''' }}]", names.index);
                    ("search", describe, names.index.clone())
                }
                Port::Cache => {
                    let pattern = format!("{}*", names.cache);
                    ("cache", format!("cache_keys = [\"{pattern}\"]"), pattern)
                }
                Port::Messages if self.what == ONCE => {
                    ("once", format!("topics = [\"{}\"]", names.topic), names.topic.clone())
                }
                Port::Messages => ("events", format!("topics = [\"{}\"]", names.topic), names.topic.clone()),
            };
            sinks.push(format!("{} = \"{sink}\"", port.name()));
            describes.push(describe);
            grants.push(format!("{} = [\"{grant}\"]", port.name()));
        }
        format!(
            "[[pipelines]]\nname = \"{}\"\ntopics = [\"{}\"]\nbatch = {{ max_events = {} }}\n\
             clash_patience_seconds = 1\nsinks = {{ {} }}\n\
             [[pipelines.transforms]]\nname = \"typed\"\nmodule = \"{}\"\n\
             settings = {{ do = \"obey\", describe = {{ {} }} }}\ngrants = {{ {} }}\n",
            self.stream.pipeline,
            self.stream.topic.name,
            model::BATCH,
            sinks.join(", "),
            modules.join(MODULE).display(),
            describes.join(", "),
            grants.join(", ")
        )
    }

    fn wrong(
        &self,
        letters: &BTreeMap<Place, BTreeSet<String>>,
        servers: &Servers,
        database: &Database,
        broker: &str,
    ) -> Vec<String> {
        let Self { what, stream, bound, .. } = self;
        let filed: BTreeSet<Place> = letters.keys().copied().collect();
        let expected = expect(&stream.events, bound, &filed);
        let mut wrong = Vec::new();
        let keys = stream.keys();
        for port in bound.iter().map(|bound| bound.port) {
            let names = &stream.names;
            let there = match port {
                Port::Tables => {
                    let schema = if self.has(Port::Cache) { "typed" } else { "later" };
                    stores::rows(database, &format!("{schema}.{}", names.table), &keys)
                }
                Port::Documents => {
                    stores::documents(&servers.elasticsearch, &format!("{}{}", servers.prefix, names.index), &keys)
                }
                Port::Cache => stores::entries(servers.redis.url(), &names.cache, &keys),
                Port::Messages => continue,
            };
            for (key, state) in there {
                let may = expected.states.get(&(port, key.clone()));
                if may.map_or(state.is_some(), |may| !may.contains(&state)) {
                    let history = self.history(port, &key, letters, 12);
                    wrong.push(format!(
                        "lost: {what}, {} {key}: {state:?} is none of {may:?}; {history:#?}",
                        port.name()
                    ));
                }
            }
        }
        for place in expected.must.difference(&filed) {
            wrong.push(format!("lost: {what}: no dead letter of {place:?}: {:?}", stream.events[place.0][place.1]));
        }
        for (place, reasons) in letters.iter().filter(|(place, _)| !expected.may.contains(place)) {
            let event = &stream.events[place.0][place.1];
            wrong.push(format!("{what}: a dead letter of {place:?}, which is sound: {reasons:?}: {event:?}"));
        }
        if let Some(topic) = &self.messages {
            wrong.extend(self.unpublished(&expected, &stores::messages(broker, &topic.name)));
        }
        wrong
    }

    /// The last events of a key of a store, for whoever has to find out what happened.
    fn history(&self, port: Port, key: &str, letters: &BTreeMap<Place, BTreeSet<String>>, last: usize) -> Vec<String> {
        let mut history = Vec::new();
        for (partition, events) in self.stream.events.iter().enumerate() {
            for (offset, event) in events.iter().enumerate() {
                let mine: Vec<_> =
                    event.asked.iter().filter(|asked| asked.port == port && asked.target == key).collect();
                if !mine.is_empty() {
                    let letter = letters.get(&(partition, offset));
                    history.push(format!(
                        "{partition}@{offset}: {mine:?}, disliked {}, letter {letter:?}",
                        event.disliked
                    ));
                }
            }
        }
        history.split_off(history.len().saturating_sub(last))
    }

    /// What is wrong with what was published: all of it is there, and each key's last message is its newest.
    fn unpublished(&self, expected: &Expected, published: &[Published]) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.what == ONCE {
            let mut seen = BTreeSet::new();
            let again = published.iter().filter(|message| !seen.insert(&message.id));
            wrong.extend(again.map(|message| format!("twice: {}: {}", self.what, message.id)));
        }
        let there: BTreeSet<Place> = published.iter().map(|message| message.place).collect();
        for (key, events) in &expected.published {
            let may: BTreeSet<Place> = events.iter().map(|(place, _)| *place).collect();
            for (place, _) in events.iter().filter(|(place, certain)| *certain && !there.contains(place)) {
                wrong.push(format!("lost: {}: the message of {key} at {place:?}", self.what));
            }
            let newest = events.iter().rev().find(|(_, certain)| *certain).map(|(place, _)| *place);
            let mine: Vec<Place> =
                published.iter().filter(|message| message.key == *key).map(|message| message.place).collect();
            for place in mine.iter().filter(|place| !may.contains(place)).collect::<BTreeSet<_>>() {
                wrong.push(format!("{}: a message of {key} at {place:?}, which a store refused", self.what));
            }
            let last = mine.last().copied();
            if last < newest {
                let tail = &mine[mine.len().saturating_sub(12)..];
                wrong.push(format!(
                    "stepped back: {}: the last message of {key} is of {last:?}, and not of {newest:?}: {tail:?}",
                    self.what
                ));
            }
        }
        wrong
    }
}
