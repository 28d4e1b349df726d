//! The program while it runs, and what it says meanwhile.

use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tidegate_tests::{Row, Site};

use super::{Broker, Event, PATIENCE, PAUSE, Topic, until};

/// The entries of a cache in SQLite.
const ENTRIES: &str = "SELECT key, CAST(value AS TEXT) AS value FROM tidegate_cache ORDER BY key";

/// A pipeline's configuration in a folder of its own. Its dead letters go to a file there, unless the text says
/// otherwise.
pub(crate) struct Program {
    site: Site,
    config: String,
}

/// The folder of compiled code: each module is compiled once for all tests.
fn compiled() -> PathBuf {
    std::env::temp_dir().join("tidegate-tests-compiled")
}

impl Program {
    /// `config` is the whole file but for the source's block, which reads from this broker.
    pub(crate) fn new(broker: &Broker, config: &str) -> Self {
        let source = format!(
            "[source.kafka]\nbrokers = \"{}\"\n[source.kafka.properties]\n\"session.timeout.ms\" = \"6000\"\n\
             \"heartbeat.interval.ms\" = \"500\"\n\"topic.metadata.refresh.interval.ms\" = \"500\"\n\
             \"reconnect.backoff.max.ms\" = \"500\"\n",
            broker.0
        );
        let config = format!("{source}\n[engine]\ncache = \"{}\"\n\n{config}", compiled().display());
        Self { site: Site::new(&config), config }
    }

    /// Has it compile by itself, as one on a machine of its own does.
    pub(crate) fn compile_alone(&mut self) {
        let own = self.site.path("compiled").display().to_string();
        self.change(&compiled().display().to_string(), &own);
    }

    /// Another replica: the same in a folder of its own.
    pub(crate) fn replica(&self) -> Self {
        Self { site: Site::new(&self.config), config: self.config.clone() }
    }

    /// Has the next start find another text in place of this one, which must be there.
    pub(crate) fn change(&mut self, from: &str, to: &str) {
        assert!(self.config.contains(from), "{from:?} is not in {}", self.config);
        self.config = self.config.replace(from, to);
        self.site.configure(&self.config);
    }

    pub(crate) fn start(&self) -> Run {
        self.launch(&["run", "tidegate.toml"])
    }

    /// Starts it with a file in place of its stores.
    pub(crate) fn preview(&self, file: &str) -> Run {
        self.launch(&["run", "tidegate.toml", "--preview", file])
    }

    /// What `check --connect` says, and its exit code.
    pub(crate) fn check(&self) -> (i32, Vec<String>) {
        let output = self.site.start(&["check", "--connect", "tidegate.toml"]).wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), said.lines().map(ToOwned::to_owned).collect())
    }

    /// Runs another command beside it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.site.start(arguments).wait_with_output().unwrap()
    }

    /// The rows of a query on a SQLite file that the program makes; none while its tables are not there.
    pub(crate) fn rows(&self, file: &str, query: &str) -> Option<Vec<Row>> {
        self.site.try_query(file, query)
    }

    /// Fills a store of the pipeline anew.
    pub(crate) fn rewind(&self, arguments: &[&str]) -> Run {
        self.launch(&[&["rewind", "tidegate.toml"], arguments].concat())
    }

    fn launch(&self, arguments: &[&str]) -> Run {
        let mut child = self.site.start(arguments);
        let said = Arc::new(Mutex::new(Vec::new()));
        let (stderr, stdout) = (child.stderr.take().unwrap(), child.stdout.take().unwrap());
        let read = |said: Arc<Mutex<Vec<String>>>, from: Box<dyn Read + Send>| {
            let lines = BufReader::new(from).lines().map_while(Result::ok);
            thread::spawn(move || lines.for_each(|line| said.lock().unwrap().push(line)))
        };
        let printed = read(said.clone(), Box::new(stdout));
        let logged = read(said.clone(), Box::new(stderr));
        let reader = thread::spawn(move || [printed, logged].into_iter().for_each(|reader| reader.join().unwrap()));
        Run { child, said, reader: Some(reader) }
    }

    /// What a cache holds that is this SQLite file. Key and value.
    pub(crate) fn cache(&self, file: &str) -> Vec<(String, String)> {
        entries(self.site.query(file, ENTRIES))
    }

    /// The names in its folder.
    pub(crate) fn files(&self) -> Vec<String> {
        let found = std::fs::read_dir(self.site.path("")).unwrap();
        found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub(crate) fn dead_letters(&self) -> usize {
        self.letters().len()
    }

    pub(crate) fn letters(&self) -> Vec<serde_json::Value> {
        self.site.dead_letters()
    }
}

/// Waits until the group of a pipeline has committed all that the topic holds: then every store has it.
pub(crate) fn settled(run: &mut Run, topic: &Topic, pipeline: &str) {
    let ends: Vec<_> = topic.ends().into_iter().map(Some).collect();
    run.until("everything to be durable", || (topic.committed(pipeline) == ends).then_some(()));
}

/// What the cache of an untroubled run holds: the same events read from a file, by SQLite. Key and value.
pub(crate) fn cache_of(events: &[Event], transform: &str) -> Vec<(String, String)> {
    entries(rows_of(events, "orders", "cache", transform, ENTRIES))
}

fn entries(rows: Vec<Row>) -> Vec<(String, String)> {
    rows.into_iter().map(|row| (row["key"].clone(), row["value"].clone())).collect()
}

/// What a query finds after an untroubled run: the same events read from a file, into SQLite at this port.
pub(crate) fn rows_of(events: &[Event], table: &str, port: &str, transform: &str, query: &str) -> Vec<Row> {
    let topic = format!("untroubled.public.{table}");
    let mut next = [0_u64; 8];
    let mut lines = String::new();
    for event in events {
        let next = &mut next[usize::try_from(event.partition).unwrap()];
        let line = serde_json::json!({
            "topic": topic, "partition": event.partition, "offset": *next, "timestamp": 0, "headers": [],
            "key": event.key, "value": event.value,
        });
        *next += 1;
        lines += &format!("{line}\n");
    }
    let config = format!(
        "[source.file]\npaths = [\"events.jsonl\"]\n[sinks.store.sqlite]\npath = \"store.db\"\n[[pipelines]]\n\
         name = \"p\"\ntopics = [\"{topic}\"]\nformat = \"auto\"\nsinks = {{ {port} = \"store\" }}\n{transform}"
    );
    let site = Site::new(&config);
    site.write("events.jsonl", lines.as_bytes());
    site.run_well();
    site.query("store.db", query)
}

/// A running program; it is killed when the test ends.
pub(crate) struct Run {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Run {
    /// What it has said so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Its warnings and errors so far.
    pub(crate) fn troubles(&self) -> Vec<String> {
        troubles(self.said())
    }

    /// Waits for a line that has all of these parts.
    pub(crate) fn says(&mut self, parts: &[&str]) -> String {
        let has = |line: &String| parts.iter().all(|part| line.contains(part));
        self.says_of(|said| said.iter().find(|line| has(line)).cloned(), &format!("{parts:?}"))
    }

    /// Waits for its first warning or error, and holds it to these parts.
    pub(crate) fn complains(&mut self, parts: &[&str]) -> String {
        self.complains_after(0, parts)
    }

    /// The same for the warning or error that comes after so many others.
    pub(crate) fn complains_after(&mut self, others: usize, parts: &[&str]) -> String {
        let what = format!("complaint {} ({parts:?})", others + 1);
        let line = self.says_of(|said| troubles(said.to_vec()).get(others).cloned(), &what);
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?} is not what it says: {line}");
        line
    }

    fn says_of(&mut self, find: impl Fn(&[String]) -> Option<String>, what: &str) -> String {
        let said = self.said.clone();
        let mut ended = false;
        until(&format!("that the program says {what}"), || {
            if let Some(line) = find(&said.lock().unwrap()) {
                return Some(line);
            }
            assert!(!ended, "the program ended without saying {what}: {:#?}", said.lock().unwrap());
            if self.child.try_wait().unwrap().is_some() {
                // What it said last is read to the end first.
                if let Some(reader) = self.reader.take() {
                    reader.join().unwrap();
                }
                ended = true;
            }
            None
        })
    }

    /// Waits for a condition while the program runs.
    pub(crate) fn until<T>(&mut self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let said = self.said.clone();
        let begin = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the program ended: waited for {what}: {:#?}", said.lock().unwrap());
            assert!(
                begin.elapsed() < PATIENCE,
                "waited in vain for {what}; the program says {:#?}",
                said.lock().unwrap()
            );
            thread::park_timeout(PAUSE);
        }
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end, and answers its exit code (none after SIGKILL) and its warnings and errors.
    pub(crate) fn ended(mut self) -> (Option<i32>, Vec<String>) {
        let status = until("the program ends", || self.child.try_wait().unwrap());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        (status.code(), self.troubles())
    }

    /// Expects that it ends by itself, and well. Answers all that it said.
    pub(crate) fn ends_well(self) -> Vec<String> {
        let said = self.said.clone();
        let (code, _) = self.ended();
        assert_eq!(code, Some(0), "{:#?}", said.lock().unwrap());
        said.lock().unwrap().clone()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks it to end, and expects that it ends well. Answers its warnings and errors.
    pub(crate) fn stop(self) -> Vec<String> {
        self.signal("TERM");
        let said = self.said.clone();
        let (code, troubles) = self.ended();
        assert_eq!(code, Some(0), "{:#?}", said.lock().unwrap());
        troubles
    }

    /// Expects that it ends by itself, with one error and exit code 1, and holds that to these parts.
    pub(crate) fn fails(self, parts: &[&str]) -> String {
        let said = self.said.clone();
        let (code, troubles) = self.ended();
        assert_eq!((code, troubles.len()), (Some(1), 1), "{:#?}", said.lock().unwrap());
        assert!(parts.iter().all(|part| troubles[0].contains(part)), "{parts:?} is not what it says: {}", troubles[0]);
        troubles[0].clone()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn troubles(said: Vec<String>) -> Vec<String> {
    let told =
        |line: &String| [" WARN ", " ERROR "].iter().any(|mark| line.contains(mark)) || line.starts_with("error");
    said.into_iter().filter(told).collect()
}
