//! Documents: a new index behind the same alias.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::live::random::Random;
use crate::outage::support::{Broker, Http, Program, Run, documents, rows_of, service, settled, unique};
use crate::schedules::stream::{Stream, round_of};
use crate::schedules::watcher::{Look, Watcher};

const SEARCH: &str = r#"
[[pipelines.transforms]]
name = "company-search"
module = "{guests}/company_search.wasm"
grants = { documents = ["company", "contact", "job_posting"] }
"#;

/// A pipeline into indexes of its own, and a reader that looks at one of them the whole time.
struct Case {
    server: Http,
    prefix: String,
    program: Program,
    stream: Stream,
    random: Random,
    watcher: Watcher,
    /// How often the reader was told that there is no such index.
    missing: Arc<AtomicUsize>,
}

impl Case {
    fn new() -> Self {
        let (broker, server) = (Broker::shared(), service("elasticsearch"));
        let prefix = format!("{}-", unique("index"));
        let stream = Stream::new(broker.topic("contact", 3, &[]), unique("search"), &documents(), "full_name");
        let config = format!(
            "[sinks.search.elasticsearch]\nurl = \"{server}\"\nindex_prefix = \"{prefix}\"\n\
             ledger_index = \"{prefix}ledger\"\n[[pipelines]]\nname = \"{}\"\ntopics = [\"{}\"]\n\
             batch = {{ max_events = 10 }}\nsinks = {{ documents = \"search\" }}\n{SEARCH}",
            stream.pipeline, stream.topic.name
        );
        let missing = Arc::new(AtomicUsize::new(0));
        let look = found(server.clone(), format!("{prefix}contact"), &stream.ids(), missing.clone());
        let watcher = Watcher::start("elasticsearch", stream.states.clone(), look);
        let program = Program::new(&broker, &config);
        Self { server: Http(server), prefix, program, stream, random: Random::new(7), watcher, missing }
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

    /// What nobody produced: a document that is not of the source, and one of it that is not as it should be.
    fn spoil(&self) {
        let alias = format!("{}contact", self.prefix);
        self.server.send("PUT", &format!("/{alias}/_doc/ghost"), "{}");
        self.server.send("POST", &format!("/{alias}/_refresh"), "");
        let body = r#"{"script": {"source": "ctx._source.remove('email')", "lang": "painless"}}"#;
        self.server.try_send("POST", &format!("/{alias}/_update_by_query?conflicts=proceed"), body);
    }

    /// The index behind the alias.
    fn index(&self) -> String {
        let answer = self.server.send("GET", &format!("/_alias/{}contact", self.prefix), "");
        let names: Vec<_> = answer.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names.len(), 1, "{answer}");
        names[0].clone()
    }

    /// All aliases and indexes there are, but for the ledger's.
    fn indexes(&self) -> Vec<String> {
        let answer = self.server.send("GET", &format!("/{}contact-*", self.prefix), "");
        answer.as_object().unwrap().keys().cloned().collect()
    }

    /// The documents are what an untroubled run makes of all that was produced; no reader ever saw an older state than
    /// before, or no index; and the ledger has nothing left of a rewind.
    fn check(&self) {
        let contact = format!("{}contact", self.prefix);
        self.server.send("POST", &format!("/{contact}/_refresh"), "");
        let found = self.server.send("POST", &format!("/{contact}/_search"), r#"{"size": 1000}"#);
        let hits = found["hits"]["hits"].as_array().unwrap().iter();
        let mut found: Vec<_> =
            hits.map(|hit| (hit["_id"].as_str().unwrap().to_owned(), hit["_source"].clone())).collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let query = "SELECT id, body FROM tidegate_documents WHERE index_name = 'contact' ORDER BY id";
        let untroubled: Vec<(String, Value)> = rows_of(&self.stream.produced, "contact", "documents", SEARCH, query)
            .into_iter()
            .map(|row| (row["id"].clone(), serde_json::from_str(&row["body"]).unwrap()))
            .collect();
        assert!(!untroubled.is_empty());
        assert_eq!(found, untroubled);
        assert_eq!(self.program.dead_letters(), 0);
        assert_eq!(self.watcher.regressed(), [""; 0]);
        assert_eq!(self.missing.load(Ordering::Relaxed), 0, "a reader met no index");
        let ledger = format!("/{}ledger", self.prefix);
        self.server.send("POST", &format!("{ledger}/_refresh"), "");
        let left = self.server.send("GET", &format!("{ledger}/_count?q=sink:search~rewind"), "");
        assert_eq!(left["count"], 0);
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        self.server.try_send("DELETE", &format!("/{}*", self.prefix), "");
    }
}

/// Reads documents by their ids, which shows what is written at once.
fn found(server: String, index: String, ids: &[String], missing: Arc<AtomicUsize>) -> Look {
    let server = Http(server);
    let body = json!({ "ids": ids }).to_string();
    let mut begun = false;
    Box::new(move || {
        let (status, answer) = server.try_send("POST", &format!("/{index}/_mget"), &body)?;
        let documents = answer["docs"].as_array().filter(|_| status == 200);
        let gone = documents.is_none_or(|documents| documents.iter().any(|one| !one["error"].is_null()));
        if gone {
            // Before the first start there is none.
            missing.fetch_add(usize::from(begun), Ordering::Relaxed);
            return None;
        }
        begun = true;
        let state = |document: &Value| {
            let id = document["_id"].as_str()?.to_owned();
            let round = (document["found"] == true).then(|| round_of(&document["_source"].to_string()));
            Some((id, round))
        };
        documents?.iter().map(state).collect::<Option<BTreeMap<_, _>>>()
    })
}

#[test]
fn indexes_are_filled_anew_while_the_pipeline_writes_and_somebody_reads() {
    let mut case = Case::new();
    let mut run = case.program.start();
    case.produce(100);
    case.settle(&mut run);
    case.spoil();
    let mut rewind = case.rewind();
    while rewind.is_running() {
        case.produce(5);
    }
    let said = rewind.ends_well();
    assert!(said.iter().any(|line| line.contains("was filled with")), "{said:#?}");
    assert_eq!(case.index(), format!("{}contact-000002", case.prefix));
    case.produce(20);
    case.settle(&mut run);
    case.check();
    assert!(case.watcher.behind().is_empty());
    run.stop();
    // It goes on from there after a restart, and can be rewound while nobody runs it.
    case.rewind().ends_well();
    assert_eq!(case.index(), format!("{}contact-000003", case.prefix));
    case.produce(5);
    let mut run = case.program.start();
    case.settle(&mut run);
    case.check();
    run.stop();
}
