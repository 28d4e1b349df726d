//! Documents in Elasticsearch: an alias or an index that is gone, one that takes no writes, a node that is away, a
//! ledger that was deleted.

mod access;

use std::time::Instant;

use serde_json::{Value, json};
use xtask::services::{Elasticsearch, Flavour};

use super::support::{Broker, Event, Folder, Http, Run, Stream, documents, jars, repeated, rows_of, service, unique};

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
    stream: Stream,
}

impl Case {
    fn new() -> Self {
        Self::on(&service("elasticsearch"))
    }

    fn on(server: &str) -> Self {
        let prefix = format!("{}-", unique("index"));
        let config = format!(
            "[sinks.search.elasticsearch]\nurl = \"{server}\"\nindex_prefix = \"{prefix}\"\n\
             ledger_index = \"{prefix}ledger\"\n[[pipelines]]\nname = \"{{pipeline}}\"\ntopics = [\"{{topic}}\"]\n\
             sinks = {{ documents = \"search\" }}\n{TRANSFORM}"
        );
        let stream = Stream::new(&Broker::shared(), "contact", documents(), &config);
        Self { server: Http(server.to_owned()), prefix, stream }
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
        self.stream.produce(&documents());
        run.fails(&[&self.stream.pipeline, "sink `search`", &alias, "put the alias back", "another index_prefix"]);
        let at_a_start = [&self.stream.pipeline, "sink `search`", &alias, "is gone", "put the alias back"];
        self.stream.program.start().fails(&at_a_start);
        assert_eq!(self.stream.program.dead_letters(), 0);
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
        let untroubled: Vec<(String, Value)> = rows_of(&self.stream.produced, "contact", "documents", TRANSFORM, query)
            .into_iter()
            .map(|row| (row["id"].clone(), serde_json::from_str(&row["body"]).unwrap()))
            .collect();
        assert!(!untroubled.is_empty());
        assert_eq!(found, untroubled);
        assert_eq!(self.stream.program.dead_letters(), 0);
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
    let run = case.stream.running();
    case.alias("remove", "contact");
    case.stops(run, "contact");
    case.alias("add", "contact");
    let troubles = case.stream.running().stop();
    assert_eq!(troubles, [""; 0]);
    case.check();
}

#[test]
fn an_index_that_is_deleted_stops_the_pipeline_and_another_prefix_fills_a_new_one() {
    let mut case = Case::new();
    let run = case.stream.running();
    case.server.send("DELETE", &format!("/{}-000001", case.named("contact")), "");
    case.stops(run, "contact");

    let (anew, pipeline) = (case.named("anew-"), unique("search"));
    case.stream.program.change(&format!("index_prefix = \"{}\"", case.prefix), &format!("index_prefix = \"{anew}\""));
    case.stream.program.change(&case.stream.pipeline, &pipeline);
    (case.prefix, case.stream.pipeline) = (anew, pipeline);
    let troubles = case.stream.running().stop();
    assert_eq!(troubles, [""; 0]);
    case.check();
}

#[test]
fn an_index_that_takes_no_writes_is_waited_for() {
    let mut case = Case::new();
    let mut run = case.stream.running();
    // What a node sets by itself when its disk is full.
    case.set("contact", &json!({"index.blocks.read_only_allow_delete": true}));
    case.stream.produce(&repeated(&documents(), 20));
    run.complains(&[
        &case.stream.pipeline,
        "sink `search`",
        &case.prefix,
        "writing is blocked",
        "read_only_allow_delete",
    ]);
    case.set("contact", &json!({"index.blocks.read_only_allow_delete": null}));
    case.stream.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 1, "{troubles:#?}");
}

#[test]
fn a_ledger_that_is_deleted_stops_the_pipeline_until_it_is_restored() {
    let mut case = Case::new();
    let run = case.stream.running();
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
    case.stream.topic.produce(&documents());
    run.fails(&[&case.stream.pipeline, "sink `search`", "ledger", "Restore it"]);
    // The documents are there and nobody knows of when: it is not begun afresh by a restart.
    case.stream.program.start().fails(&[&case.stream.pipeline, "the ledger of sink `search` is gone", "Restore it"]);
    assert_eq!(case.stream.program.dead_letters(), 0);

    copy(&kept, &ledger, json!({case.named("ledger"): {}}));
    case.stream.produced.extend(documents());
    case.stream.running().stop();
    case.check();
}

/// The lines are of one outage: it is told once, and once more for each half minute after which its cause is another one.
/// A node that starts passes through several, which a busy machine makes last.
fn is_told_once(lines: &[String], since: Instant) {
    let most = 1 + since.elapsed().as_secs() / 30;
    assert!((1..=most).contains(&u64::try_from(lines.len()).unwrap()), "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("waiting for the store")), "{lines:#?}");
}

#[test]
fn a_node_that_is_away_is_waited_for() {
    let folder = Folder::new();
    let mut server = Elasticsearch::new(jars(), Flavour::Elasticsearch).start(folder.path()).unwrap();
    let mut case = Case::on(server.url());
    server.kill().unwrap();
    let begun = Instant::now();
    let mut run = case.stream.program.start();
    run.complains(&[
        &case.stream.pipeline,
        "sink `search`",
        server.url(),
        "gives no answer",
        "refused",
        "is it running",
    ]);
    server.restart().unwrap();
    case.stream.settled(&mut run);
    is_told_once(&run.troubles(), begun);

    let (before, begun) = (run.troubles().len(), Instant::now());
    server.kill().unwrap();
    case.stream.produce(&repeated(&documents(), 20));
    run.complains_after(before, &[&case.stream.pipeline, "sink `search`", server.url(), "gives no answer"]);
    server.restart().unwrap();
    case.stream.settled(&mut run);
    case.check();
    is_told_once(&run.stop()[before..], begun);
}
