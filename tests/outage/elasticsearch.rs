//! Documents in Elasticsearch: an alias or an index that is gone, one that takes no writes, a node that is away, a
//! ledger that was deleted.

use serde_json::{Value, json};
use xtask::services::{Elasticsearch, Flavour};

use super::support::{
    Broker, Event, Folder, Http, Program, Run, Topic, documents, jars, repeated, rows_of, service, settled, unique,
};

const TRANSFORM: &str = r#"
[[pipelines.transforms]]
name = "company-search"
module = "{guests}/company_search.wasm"
grants = { documents = ["company", "contact", "job_posting"] }
"#;

/// A pipeline into indexes of its own.
struct Case {
    server: Http,
    /// What the names of its indexes begin with.
    prefix: String,
    program: Program,
    topic: Topic,
    pipeline: String,
    produced: Vec<Event>,
}

impl Case {
    fn new() -> Self {
        Self::on(&service("elasticsearch"))
    }

    fn on(server: &str) -> Self {
        let (broker, pipeline, prefix) = (Broker::shared(), unique("search"), format!("{}-", unique("index")));
        let topic = broker.topic("contact", 3, &documents());
        let config = format!(
            "[sinks.search.elasticsearch]\nurl = \"{server}\"\nindex_prefix = \"{prefix}\"\n\
             ledger_index = \"{prefix}ledger\"\n[[pipelines]]\nname = \"{pipeline}\"\ntopics = [\"{}\"]\n\
             sinks = {{ documents = \"search\" }}\n{TRANSFORM}",
            topic.name
        );
        let program = Program::new(&broker, &config);
        Self { server: Http(server.to_owned()), prefix, program, topic, pipeline, produced: documents() }
    }

    fn produce(&mut self, events: &[Event]) {
        self.topic.produce(events);
        self.produced.extend_from_slice(events);
    }

    fn settled(&self, run: &mut Run) {
        settled(run, &self.topic, &self.pipeline);
    }

    /// Starts it, and waits until all is done.
    fn running(&self) -> Run {
        let mut run = self.program.start();
        self.settled(&mut run);
        run
    }

    /// The alias or index of this name in the configuration's own namespace.
    fn named(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Takes an alias from the first index behind it, or puts it back.
    fn alias(&self, action: &str, name: &str) {
        let alias = self.named(name);
        let action = json!({action: {"index": format!("{alias}-000001"), "alias": alias}});
        self.server.send("POST", "/_aliases", &json!({"actions": [action]}).to_string());
    }

    fn set(&self, index: &str, settings: &Value) {
        self.server.send("PUT", &format!("/{}/_settings", self.named(index)), &settings.to_string());
    }

    /// The pipeline stops in mid-stream for `name`, which has just gone; and so does every new start.
    fn stops(&mut self, run: Run, name: &str) {
        let alias = self.named(name);
        self.produce(&documents());
        run.fails(&[&self.pipeline, "sink `search`", &alias, "put the alias back", "another index_prefix"]);
        let at_a_start = [&self.pipeline, "sink `search`", &alias, "is gone", "put the alias back"];
        self.program.start().fails(&at_a_start);
        assert_eq!(self.program.dead_letters(), 0);
    }

    /// The documents are what they should be, and no record went elsewhere.
    fn check(&self) {
        let contact = self.named("contact");
        self.server.send("POST", &format!("/{contact}/_refresh"), "");
        let found = self.server.send("POST", &format!("/{contact}/_search"), r#"{"size": 1000}"#);
        let hits = found["hits"]["hits"].as_array().unwrap().iter();
        let mut found: Vec<_> =
            hits.map(|hit| (hit["_id"].as_str().unwrap().to_owned(), hit["_source"].clone())).collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let query = "SELECT id, body FROM tidegate_documents WHERE index_name = 'contact' ORDER BY id";
        let untroubled: Vec<(String, Value)> = rows_of(&self.produced, "contact", "documents", TRANSFORM, query)
            .into_iter()
            .map(|row| (row["id"].clone(), serde_json::from_str(&row["body"]).unwrap()))
            .collect();
        assert!(!untroubled.is_empty());
        assert_eq!(found, untroubled);
        assert_eq!(self.program.dead_letters(), 0);
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        // A node of the test's own may be gone by now.
        self.server.try_send("DELETE", &format!("/{}*", self.prefix), "");
    }
}

#[test]
fn an_alias_that_is_removed_stops_the_pipeline_until_it_is_back() {
    let mut case = Case::new();
    let run = case.running();
    case.alias("remove", "contact");
    case.stops(run, "contact");
    case.alias("add", "contact");
    let troubles = case.running().stop();
    assert_eq!(troubles, [""; 0]);
    case.check();
}

#[test]
fn an_index_that_is_deleted_stops_the_pipeline_and_another_prefix_fills_a_new_one() {
    let mut case = Case::new();
    let run = case.running();
    case.server.send("DELETE", &format!("/{}-000001", case.named("contact")), "");
    case.stops(run, "contact");

    let (anew, pipeline) = (case.named("anew-"), unique("search"));
    case.program.change(&format!("index_prefix = \"{}\"", case.prefix), &format!("index_prefix = \"{anew}\""));
    case.program.change(&case.pipeline, &pipeline);
    (case.prefix, case.pipeline) = (anew, pipeline);
    let troubles = case.running().stop();
    assert_eq!(troubles, [""; 0]);
    case.check();
}

#[test]
fn an_index_that_takes_no_writes_is_waited_for() {
    let mut case = Case::new();
    let mut run = case.running();
    // What a node sets by itself when its disk is full.
    case.set("contact", &json!({"index.blocks.read_only_allow_delete": true}));
    case.produce(&repeated(&documents(), 20));
    run.complains(&[&case.pipeline, "sink `search`", &case.prefix, "writing is blocked", "read_only_allow_delete"]);
    case.set("contact", &json!({"index.blocks.read_only_allow_delete": null}));
    case.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 1, "{troubles:#?}");
}

#[test]
fn a_ledger_that_is_deleted_stops_the_pipeline_until_it_is_restored() {
    let mut case = Case::new();
    let run = case.running();
    // The copy of a ledger at rest, as a snapshot keeps it.
    let (ledger, kept) = (format!("{}-000001", case.named("ledger")), case.named("kept"));
    let copy = |from: &str, to: &str, alias: Value| {
        let open = json!({"settings": {"index.blocks.write": null}, "aliases": alias});
        case.server.send("PUT", &format!("/{from}/_settings"), r#"{"index.blocks.write": true}"#);
        case.server.send("POST", &format!("/{from}/_clone/{to}?wait_for_active_shards=1"), &open.to_string());
        case.server.send("PUT", &format!("/{from}/_settings"), r#"{"index.blocks.write": null}"#);
    };
    copy(&ledger, &kept, json!({}));

    case.server.send("DELETE", &format!("/{ledger}"), "");
    case.topic.produce(&documents());
    run.fails(&[&case.pipeline, "sink `search`", "ledger", "Restore it"]);
    // The documents are there and nobody knows of when: it is not begun afresh by a restart.
    case.program.start().fails(&[&case.pipeline, "the ledger of sink `search` is gone", "Restore it"]);
    assert_eq!(case.program.dead_letters(), 0);

    copy(&kept, &ledger, json!({case.named("ledger"): {}}));
    case.produced.extend(documents());
    case.running().stop();
    case.check();
}

#[test]
fn a_node_that_is_away_is_waited_for() {
    let folder = Folder::new();
    let mut server = Elasticsearch::new(jars(), Flavour::Elasticsearch).start(folder.path()).unwrap();
    let mut case = Case::on(server.url());
    server.kill().unwrap();
    let mut run = case.program.start();
    run.complains(&[&case.pipeline, "sink `search`", server.url(), "gives no answer", "refused", "is it running"]);
    server.restart().unwrap();
    case.settled(&mut run);
    assert_eq!(run.troubles().len(), 1, "{:#?}", run.troubles());

    server.kill().unwrap();
    case.produce(&repeated(&documents(), 20));
    run.complains_after(1, &[&case.pipeline, "sink `search`", server.url(), "gives no answer"]);
    server.restart().unwrap();
    case.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 2, "{troubles:#?}");
}
