//! What a rewind refuses, or waits for, before anything is put in place: truncates, other modules, tables and sinks that
//! cannot be filled beside those in use.

use serde_json::{Value, json};

use super::postgres::Case;
use crate::outage::support::{Broker, Database, Event, Folder, MIRROR, Program, books, service, unique};

/// The mirror as another module: the same with an empty custom section.
struct OtherModule {
    folder: Folder,
}

impl OtherModule {
    fn new() -> Self {
        let folder = Folder::new();
        let mut bytes = std::fs::read(tidegate_tests::guest("hostile")).unwrap();
        bytes.extend([0, 2, 1, b'x']);
        std::fs::write(folder.path().join("other.wasm"), bytes).unwrap();
        Self { folder }
    }

    /// Has the program name it from now on.
    fn serves(&self, program: &mut Program) {
        program.change("{guests}/hostile.wasm", self.folder.path().join("other.wasm").to_str().unwrap());
    }
}

#[test]
fn topic_with_truncate_is_refused_until_that_is_confirmed() {
    let mut case = Case::new();
    case.program.change("format = \"auto\"", "format = \"auto\"\non_truncate = \"ignore\"");
    let mut run = case.program.start();
    case.produce(20);
    case.settle(&mut run);
    let mut truncate: Value = serde_json::from_str(books()[0].value.as_ref().unwrap()).unwrap();
    (truncate["op"], truncate["before"], truncate["after"]) = ("t".into(), Value::Null, Value::Null);
    case.stream.topic.produce(&[Event { partition: 1, key: None, value: Some(truncate.to_string()) }]);
    case.settle(&mut run);
    // What the operator does before the pipeline goes past a truncate.
    case.database.run("DELETE FROM mirrored");
    case.produce(1);
    case.settle(&mut run);
    let rows = "SELECT id, status FROM mirrored ORDER BY id";
    let before = case.database.rows(rows);
    case.rewind().fails(&["truncates its table", "bring back the rows", "--ignore-truncates", "nothing was replaced"]);
    assert_eq!(case.database.rows(rows), before);
    let left: Vec<String> = case.program.files().into_iter().filter(|name| name.starts_with("rewind-")).collect();
    assert_eq!(left, [""; 0], "an empty file is left");

    let said = case.program.rewind(&["--pipeline", &case.stream.pipeline, "--ignore-truncates"]).ends_well();
    assert!(said.iter().any(|line| line.starts_with("1 truncates were passed: ")), "{said:#?}");
    assert!(case.database.rows(rows).len() > before.len());
    run.stop();
}

#[test]
fn idle_partitions_of_earlier_modules_do_not_hold_up_the_switch() {
    let mut case = Case::new();
    let mut run = case.program.start();
    case.produce(20);
    case.settle(&mut run);
    run.stop();
    // The pipeline serves by another module now, of which no partition has had an event.
    let other = OtherModule::new();
    other.serves(&mut case.program);
    let run = case.program.start();
    let said = case.program.rewind(&["--pipeline", &case.stream.pipeline]).ends_well();
    assert!(!said.iter().any(|line| line.contains("by other modules")), "{said:#?}");
    run.stop();
    case.check();
}

#[test]
fn fill_by_other_modules_is_given_up_when_nobody_stops_the_pipeline() {
    let mut case = Case::new();
    let mut run = case.program.start();
    case.produce(20);
    case.settle(&mut run);
    case.database.run("INSERT INTO mirrored (id, status) VALUES ('ghost', 'round-000000')");
    let (mut changed, other) = (case.program.replica(), OtherModule::new());
    other.serves(&mut changed);
    let rewind = changed.rewind(&["--pipeline", &case.stream.pipeline, "--wait-seconds", "2"]);
    let (code, troubles) = rewind.ended();
    let [waits, given_up] = troubles.as_slice() else { panic!("{troubles:#?}") };
    assert_eq!(code, Some(1));
    assert!(waits.contains("stop the 1 processes that run it within 2 s"), "{waits}");
    for part in ["have not been stopped within 2 s", "nothing was replaced", "--wait-seconds"] {
        assert!(given_up.contains(part), "{given_up}");
    }
    assert_eq!(case.database.rows("SELECT 1 FROM mirrored WHERE id = 'ghost'").len(), 1);
    case.produce(5);
    case.settle(&mut run);
    case.database.run("DELETE FROM mirrored WHERE id = 'ghost'");
    case.check();
    run.stop();
}

#[test]
fn table_named_with_its_schema_is_refused_with_what_works() {
    let (broker, database) = (Broker::shared(), Database::new(&service("postgres")));
    database.run("CREATE SCHEMA mart; CREATE TABLE mart.sales (id text PRIMARY KEY, status text)");
    let (topic, pipeline) = (broker.topic("orders", 1, &[]), unique("warehouse"));
    let config = |sink: &str, table: &str| {
        let mirror = MIRROR.replace("\"mirrored\"", &json!(table).to_string());
        format!(
            "[sinks.warehouse.postgres]\nurl = \"{}\"\n{sink}\n[[pipelines]]\nname = \"{pipeline}\"\n\
             topics = [\"{}\"]\nformat = \"auto\"\nsinks = {{ tables = \"warehouse\" }}\n{mirror}",
            database.url, topic.name
        )
    };
    let event = books().into_iter().find(|event| event.partition == 0).unwrap();
    topic.produce(&[event]);
    let program = Program::new(&broker, &config("", "mart.sales"));
    let mut run = program.start();
    crate::outage::support::settled(&mut run, &topic, &pipeline);
    run.stop();
    let parts = ["mart.sales", "schema = \"mart\"", "name the table sales"];
    program.rewind(&["--pipeline", &pipeline]).fails(&parts);
    // What it says is what works.
    let program = Program::new(&broker, &config("schema = \"mart\"", "sales"));
    database.run("INSERT INTO mart.sales VALUES ('ghost', '')");
    program.rewind(&["--pipeline", &pipeline]).ends_well();
    assert_eq!(database.rows("SELECT 1 FROM mart.sales WHERE id = 'ghost'"), [[""; 0]; 0]);
}

#[test]
fn hint_to_name_a_sink_lists_those_that_can_be_filled() {
    let config = "[sinks.one.redis]\nurl = \"redis://127.0.0.1:1\"\n[sinks.two.postgres]\n\
                  url = \"postgres://u@127.0.0.1:1/d\"\n[sinks.bus.kafka]\nbrokers = \"127.0.0.1:1\"\n[[pipelines]]\n\
                  name = \"several\"\ntopics = [\"t\"]\n\
                  sinks = { cache = \"one\", tables = \"two\", messages = \"bus\" }\n";
    let program = Program::new(&Broker::shared(), &format!("{config}{MIRROR}"));
    let told = program.rewind(&["--pipeline", "several"]).fails(&["name one of `one`, `two` by --sink"]);
    assert!(!told.contains("`bus`"), "{told}");
}
