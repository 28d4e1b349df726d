//! What happens to a world at rest, when all is durable: losses at which the program must stop as documented, until an operator
//! has mended them, and what else an operator does.

use std::collections::BTreeMap;
use std::fmt;

use super::super::world::World;
use super::event::Port;
use super::model::{self, Bound};
use super::stores;
use crate::live::random::Random;
use crate::outage::support::until;

/// The pipelines, by their places.
const SPREAD: usize = 0;
const SEARCH: usize = 1;
const OUTBOX: usize = 2;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum AtRest {
    /// A row of the ledger of a table goes, and the rest of the ledger stays.
    RowLost,
    /// A document of the ledger in Elasticsearch goes.
    DocumentLost,
    /// The commits of a group go while nobody is there.
    CommitsExpired,
    /// Records go from a topic that were not read.
    LogCut { pipeline: usize },
    /// A pipeline gets a table, when there is history.
    SinkAdded,
    /// A constraint of a table is dropped, what it had refused is replayed, and then the cache is emptied.
    Mended,
}

impl AtRest {
    pub(in super::super) const ALL: [Self; 7] = [
        Self::RowLost,
        Self::DocumentLost,
        Self::CommitsExpired,
        Self::LogCut { pipeline: SEARCH },
        Self::LogCut { pipeline: OUTBOX },
        Self::SinkAdded,
        Self::Mended,
    ];

    /// Any of them.
    pub(in super::super) fn any(random: &mut Random) -> Self {
        Self::ALL[random.below(Self::ALL.len())]
    }

    /// Its kind, to be counted by.
    pub(in super::super) fn kind(self) -> &'static str {
        match self {
            Self::RowLost => "a row of a ledger lost",
            Self::DocumentLost => "a document of a ledger lost",
            Self::CommitsExpired => "commits expired",
            Self::LogCut { pipeline: SEARCH } => "records lost before documents had them",
            Self::LogCut { .. } => "records lost before they were published",
            Self::SinkAdded => "a sink added",
            Self::Mended => "a table mended and its letters replayed",
        }
    }

    /// Has it happen. Afterwards the world is as it should be, or `wrong` says what is not. False where it was so already.
    pub(in super::super) fn happen(self, world: &mut World, random: &mut Random) -> bool {
        match self {
            Self::RowLost => row_lost(world, random.below(3)),
            Self::DocumentLost => document_lost(world, random.below(3)),
            Self::CommitsExpired => commits_expired(world, random),
            Self::LogCut { pipeline } => return log_cut(world, pipeline, random),
            Self::SinkAdded if world.typed.pipelines[SEARCH].has(Port::Tables) => return false,
            Self::SinkAdded => sink_added(world),
            Self::Mended if !world.typed.pipelines[SPREAD].stream.checked => return false,
            Self::Mended => mended(world),
        }
        true
    }
}

impl fmt::Display for AtRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// The program stops a pipeline, says so with these words, and says it again when it is started again. In the end it does not
/// run.
fn stops_for_good(world: &mut World, pipeline: usize, words: &[&str]) {
    stops(world, pipeline, words);
    world.kill_all();
    world.start(world.last());
    stops(world, pipeline, &[]);
    world.kill_all();
}

fn stops(world: &mut World, pipeline: usize, words: &[&str]) {
    let name = world.typed.pipelines[pipeline].stream.pipeline.clone();
    let last = world.last();
    let run = world.replicas[last].1.as_mut().unwrap();
    run.says(&[&[" ERROR ", name.as_str()], words].concat());
}

fn row_lost(world: &mut World, partition: usize) {
    world.alone();
    let stream = &world.typed.pipelines[SPREAD].stream;
    let row = format!(
        "pipeline = '{}' AND sink = 'typed' AND topic = '{}' AND partition = {partition}",
        stream.pipeline, stream.topic.name
    );
    let moved = format!(
        "CREATE TABLE set_aside AS SELECT * FROM tidegate.ledger WHERE {row};
         DELETE FROM tidegate.ledger WHERE {row}"
    );
    world.database.run(&moved);
    stops_for_good(world, SPREAD, &["typed", "does not know"]);
    world.database.run(&format!(
        "DELETE FROM tidegate.ledger WHERE {row};
         INSERT INTO tidegate.ledger SELECT * FROM set_aside; DROP TABLE set_aside"
    ));
    world.start(world.last());
}

fn document_lost(world: &mut World, partition: usize) {
    world.alone();
    let stream = &world.typed.pipelines[SEARCH].stream;
    let (ledger, server) = (format!("{}ledger", world.servers.prefix), &world.servers.elasticsearch);
    let query = serde_json::json!({ "size": 1000, "query": { "match_all": {} } }).to_string();
    server.send("POST", &format!("/{ledger}/_refresh"), "");
    let found = server.send("POST", &format!("/{ledger}/_search"), &query);
    let is_it = |document: &&serde_json::Value| {
        let row = &document["_source"];
        row["pipeline"] == *stream.pipeline && row["partition"] == partition && row["next"].is_u64()
    };
    let document = found["hits"]["hits"].as_array().unwrap().iter().find(is_it);
    let document = document.unwrap_or_else(|| panic!("the ledger has no row of partition {partition}: {found}"));
    let path = format!("/{ledger}/_doc/{}", document["_id"].as_str().unwrap().replace('/', "%2F"));
    server.send("DELETE", &path, "");
    stops_for_good(world, SEARCH, &["search"]);
    world.servers.elasticsearch.send("PUT", &path, &document["_source"].to_string());
    world.start(world.last());
}

fn commits_expired(world: &mut World, random: &mut Random) {
    world.kill_all();
    let pipeline = &world.typed.pipelines[SPREAD];
    let name = pipeline.stream.pipeline.clone();
    let topic = pipeline.messages.as_ref().unwrap().name.clone();
    let broker = world.typed.broker.0.clone();
    let published = || {
        let mut times = BTreeMap::<_, usize>::new();
        for message in stores::messages(&broker, &topic) {
            *times.entry(message.place).or_default() += 1;
        }
        times
    };
    let before = published();
    until("the group can be deleted", || stores::forget_group(&broker, &format!("tidegate.{name}")).then_some(()));
    world.produce(20, random);
    world.start(world.last());
    world.settle();
    let after = published();
    // What is killed has not noted its last batch.
    let is_of_the_last_batch = |(partition, offset): (usize, usize)| {
        let newest = before.range((partition, offset)..(partition + 1, 0)).next_back();
        newest.is_some_and(|((_, newest), _)| *newest < offset + model::BATCH)
    };
    let again = before.iter().filter(|(place, times)| after[*place] > **times && !is_of_the_last_batch(**place));
    let again: Vec<_> = again.collect();
    assert!(again.is_empty(), "{name} publishes again what was published before its commits expired: {again:?}");
}

/// False where no partition has records that can go.
fn log_cut(world: &mut World, pipeline: usize, random: &mut Random) -> bool {
    world.kill_all();
    let ends = world.typed.pipelines[pipeline].stream.ends();
    world.produce(20, random);
    let stream = &mut world.typed.pipelines[pipeline].stream;
    let partition = random.below(3);
    let new = stream.ends()[partition] - ends[partition];
    if new < 2 {
        return false;
    }
    let cut = ends[partition] + 1 + random.below(new - 1);
    stream.events[partition][ends[partition]..cut].iter_mut().for_each(|event| event.lost = true);
    stream.begins[partition] = cut;
    stream.topic.delete_below(i32::try_from(partition).unwrap(), i64::try_from(cut).unwrap());
    let name = stream.pipeline.clone();
    world.start(world.last());
    let lost = format!("{} offsets are gone", cut - ends[partition]);
    stops_for_good(world, pipeline, &[&lost]);
    let (stop, go_on) =
        (format!("name = \"{name}\"\n"), format!("name = \"{name}\"\non_lost_records = \"continue\"\n"));
    world.change(&stop, &go_on);
    world.start(world.last());
    world.settle();
    world.change(&go_on, &stop);
    world.kill_all();
    world.start(world.last());
    true
}

fn sink_added(world: &mut World) {
    world.kill_all();
    let modules = world.typed.modules.clone();
    let pipeline = &mut world.typed.pipelines[SEARCH];
    let before = pipeline.config(&modules);
    let (since, from) = (pipeline.stream.ends(), pipeline.stream.begins);
    pipeline.bound.insert(0, Bound { port: Port::Tables, since, from });
    let after = pipeline.config(&modules);
    world.change(&before, &after);
    world.start(world.last());
}

fn mended(world: &mut World) {
    world.alone();
    world.settle();
    world.database.run("ALTER TABLE typed.typed DROP CONSTRAINT positive");
    let stream = &mut world.typed.pipelines[SPREAD].stream;
    stream.checked = false;
    stream.events.iter_mut().flatten().for_each(|event| event.mended = true);
    let name = stream.pipeline.clone();
    let program = &world.replicas[world.last()].0;
    until("all letters are replayed", || {
        let output = program.run(&["dead-letters", "replay", "tidegate.toml", "--pipeline", &name]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        // Another replica may just have gone, or this one just have come.
        let done = said.contains("records: ") && !said.contains(" elsewhere");
        done.then_some(())
    });
    world.settle();
    let wrong = world.wrong();
    assert!(wrong.is_empty(), "after the replay: {wrong:#?}");
    world.lose_cache(|servers| servers.flush_redis());
}
