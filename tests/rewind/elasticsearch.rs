//! Documents: a new index behind the same alias.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::live::random::Random;
use crate::outage::support::{
    self, Broker, Event, Folder, Gate, Http, Program, Request, Run, Verdict, documents, rows_of, service, settled,
    unique,
};
use crate::schedules::looks::Look;
use crate::schedules::stream::{Stream, round_of};
use crate::schedules::watcher::Watcher;

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
    produced: Vec<Event>,
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
             batch = {{ max_events = 40 }}\nsinks = {{ documents = \"search\" }}\n{SEARCH}",
            stream.pipeline, stream.topic.name
        );
        let missing = Arc::new(AtomicUsize::new(0));
        let look = found(server.clone(), format!("{prefix}contact"), &stream.ids(), missing.clone());
        let watcher = Watcher::start("elasticsearch", stream.states.clone(), look);
        let program = Program::new(&broker, &config);
        Self {
            server: Http(server),
            prefix,
            program,
            stream,
            random: Random::new(7),
            watcher,
            produced: Vec::new(),
            missing,
        }
    }

    fn produce(&mut self, rounds: u32) {
        self.produced.extend(self.stream.produce(rounds, &mut self.random));
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
        let untroubled: Vec<(String, Value)> = rows_of(&self.produced, "contact", "documents", SEARCH, query)
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
        let query = json!({"query": {"term": {"sink": "search~rewind"}}}).to_string();
        let left = self.server.send("POST", &format!("{ledger}/_count"), &query);
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
    case.produce(50);
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

/// Whether a request is the one at which the program is killed, and whether the server still gets that one.
type Moment = (&'static str, fn(&Request) -> bool, bool);

/// The moments of a rewind, from its first document to its last word to the ledger.
const MOMENTS: [Moment; 6] = [
    ("the first documents", |request| request.path.contains("_bulk"), true),
    ("the announcement", |request| request.body.contains("replacement"), true),
    ("the first row that is held", |request| request.body.contains("\"held\":true"), true),
    ("the switch, which does not come", |request| request.path.contains("_aliases"), false),
    ("the switch", |request| request.path.contains("_aliases"), true),
    ("the ledger's first row after the switch", is_of_a_new_row, false),
];

/// What the fresh ledger said, on its way into the real one.
fn is_of_a_new_row(request: &Request) -> bool {
    let changes = request.path.contains("partition%2Fsearch%2F") && request.path.contains("if_seq_no");
    changes && !request.body.contains("\"held\":true")
}

#[test]
fn a_rewind_that_is_killed_leaves_the_old_indexes_or_the_new_ones_and_the_next_one_cleans_up() {
    let mut case = Case::new();
    let mut run = case.program.start();
    case.produce(60);
    case.settle(&mut run);
    let gate = Gate::open(&case.server.0, None);
    let mut through = case.program.replica();
    through.change(&format!("url = \"{}\"", case.server.0), &format!("url = \"{}\"", gate.url));
    for (moment, is_it, arrives) in MOMENTS {
        println!("killed at {moment}");
        let struck = Arc::new(AtomicBool::new(false));
        let mine = struck.clone();
        gate.rule(move |request| {
            // Nothing more comes from it until it is dead.
            if mine.load(Ordering::Relaxed) {
                return Verdict::LoseRequest;
            }
            if !is_it(request) {
                return Verdict::Pass;
            }
            mine.store(true, Ordering::Relaxed);
            if arrives { Verdict::LoseAnswer } else { Verdict::LoseRequest }
        });
        let mut rewind = through.rewind(&["--pipeline", &case.stream.pipeline]);
        rewind.until(moment, || {
            case.produce(1);
            struck.load(Ordering::Relaxed).then_some(())
        });
        rewind.signal("KILL");
        assert_eq!(rewind.ended().0, None);
        case.produce(20);
        case.settle(&mut run);
        assert_eq!(case.watcher.regressed(), [""; 0], "{moment}");
    }
    let said = case.rewind().ends_well();
    assert!(said.iter().any(|line| line.contains("was filled with")), "{said:#?}");
    case.produce(5);
    case.settle(&mut run);
    case.check();
    run.stop();
    let before = case.indexes();
    let said = case.program.rewind(&["--pipeline", &case.stream.pipeline, "--abort"]).ends_well();
    assert!(said.iter().any(|line| line == "nothing was left"), "{said:#?}");
    assert_eq!(case.indexes(), before);
}

#[test]
fn a_changed_definition_is_put_in_place_under_the_same_alias() {
    let mut case = Case::new();
    let mut run = case.program.start();
    case.produce(40);
    case.settle(&mut run);
    let mut changed = case.program.replica();
    changed.change("name = \"company-search\"\n", "name = \"company-search\"\nsettings = { shards = 2 }\n");
    changed.rewind(&["--pipeline", &case.stream.pipeline]).ends_well();
    case.produce(20);
    case.settle(&mut run);
    case.check();
    run.stop();
    let settings = case.server.send("GET", &format!("/{}contact/_settings", case.prefix), "").to_string();
    assert!(settings.contains("\"number_of_shards\":\"2\""), "{settings}");
    case.produce(5);
    let mut run = changed.start();
    case.settle(&mut run);
    case.check();
    assert_eq!(run.stop(), [""; 0]);
}

#[test]
fn what_another_module_has_made_is_put_in_place_when_the_pipeline_has_stopped() {
    let mut case = Case::new();
    let mut run = case.program.start();
    case.produce(40);
    case.settle(&mut run);
    // The same module with an empty custom section, which makes it another one.
    let folder = Folder::new();
    let module = folder.path().join("other.wasm");
    let mut bytes = std::fs::read(tidegate_tests::guest("company-search")).unwrap();
    bytes.extend([0, 2, 1, b'x']);
    std::fs::write(&module, bytes).unwrap();
    let mut changed = case.program.replica();
    changed.change("{guests}/company_search.wasm", module.to_str().unwrap());
    let mut rewind = changed.rewind(&["--pipeline", &case.stream.pipeline]);
    rewind.complains(&["by other modules", "stop the 1 processes"]);
    case.produce(20);
    case.settle(&mut run);
    assert_eq!(case.index(), format!("{}contact-000001", case.prefix));
    run.stop();
    rewind.ends_well();
    assert_eq!(case.index(), format!("{}contact-000002", case.prefix));
    case.produce(5);
    let mut run = changed.start();
    case.settle(&mut run);
    case.check();
    run.stop();
}

#[test]
fn a_topic_that_was_made_anew_or_has_grown_is_gone_on_with() {
    let server = service("elasticsearch");
    let prefix = format!("{}-", unique("index"));
    let config = format!(
        "[sinks.search.elasticsearch]\nurl = \"{server}\"\nindex_prefix = \"{prefix}\"\n\
         ledger_index = \"{prefix}ledger\"\n[[pipelines]]\nname = \"{{pipeline}}\"\ntopics = [\"{{topic}}\"]\n\
         sinks = {{ documents = \"search\" }}\n{SEARCH}"
    );
    let mut stream = support::Stream::new(&Broker::shared(), "contact", documents(), &config);
    stream.running().stop();
    let http = Http(server);
    let count = || {
        http.send("POST", &format!("/{prefix}contact/_refresh"), "");
        http.send("GET", &format!("/{prefix}contact/_count"), "")["count"].as_u64().unwrap()
    };
    let all = count();
    let rewind = |stream: &support::Stream| stream.program.rewind(&["--pipeline", &stream.pipeline]).ends_well();

    stream.topic.delete();
    stream.topic.make(3);
    let some: Vec<_> = documents().into_iter().take(6).collect();
    stream.topic.produce(&some);
    stream.program.start().fails(&[&stream.pipeline, "was made anew", "tidegate rewind"]);
    rewind(&stream);
    // Most rows of before are not in the topic any more.
    assert!((1..all).contains(&count()), "{} of {all}", count());

    stream.topic.grow(4);
    stream.program.start().fails(&[&stream.pipeline, "has 4 partitions, and had 3", "tidegate rewind"]);
    rewind(&stream);
    stream.produce(&documents());
    let troubles = stream.running().stop();
    assert_eq!(troubles, [""; 0]);
    assert_eq!(count(), all);
    http.send("DELETE", &format!("/{prefix}*"), "");
}
