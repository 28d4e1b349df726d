//! The program, with one pipeline from a topic into a store.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Instant;

use tempfile::TempDir;
use tidegate::command::Port;
use tidegate::event::Format;

use super::commands::module;
use super::stores::Case;

/// The running program. It is killed when the value is dropped.
pub(crate) struct Host {
    program: Child,
    claimed: Arc<OnceLock<Instant>>,
    folder: TempDir,
}

impl Host {
    /// Starts one pipeline of this name. `sink` is the block of the sink named `store`.
    pub(crate) fn start(case: &Case, brokers: &str, pipeline: &str, topic: &str, sink: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = from_kafka(brokers);
        fs::write(folder.path().join("tidegate.toml"), configuration(case, &source, pipeline, topic, sink)).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["run", "tidegate.toml", "--summary", "summary.json"])
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let claimed = Arc::new(OnceLock::new());
        let said = program.stderr.take().unwrap();
        thread::spawn({
            let claimed = claimed.clone();
            move || listen(said, &claimed)
        });
        Self { program, claimed, folder }
    }

    /// When it claimed its first partition, if it has.
    pub(crate) fn claimed(&mut self) -> Option<Instant> {
        let ended = self.program.try_wait().unwrap();
        assert!(ended.is_none(), "tidegate has ended: {ended:?}");
        self.claimed.get().copied()
    }

    /// Ends it; nothing may have been rejected.
    pub(crate) fn stop(mut self) {
        let asked = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &self.program.id().to_string()]).status();
        assert!(asked.unwrap().success(), "tidegate cannot be asked to end");
        assert!(self.program.wait().unwrap().success(), "tidegate fails");
        let summary = fs::read(self.folder.path().join("summary.json")).unwrap();
        let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
        assert_eq!(summary["pipelines"][0]["rejected"], serde_json::json!({}), "{summary}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Once it has ended there is nothing to kill.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// Notes the first claim of a partition; what the program warns of is shown.
fn listen(said: ChildStderr, claimed: &OnceLock<Instant>) {
    for line in BufReader::new(said).lines().map_while(Result::ok) {
        if line.contains(": claimed ") {
            claimed.get_or_init(Instant::now);
        } else if !line.contains(" INFO ") {
            println!("{line}");
        }
    }
}

/// The block of a source.
pub(crate) fn from_kafka(brokers: &str) -> String {
    format!("[source.kafka]\nbrokers = \"{brokers}\"")
}

/// One pipeline with the transform of the case, from the source of this block into the sink `store` of that one.
pub(crate) fn configuration(case: &Case, source: &str, pipeline: &str, topic: &str, sink: &str) -> String {
    let format = match case.format {
        Format::Flattened => "debezium-flattened",
        _ => "debezium-envelope",
    };
    // Ports that the case does not measure go nowhere.
    let ports: Vec<String> = Port::ALL
        .iter()
        .map(|port| format!("{} = \"{}\"", port.name(), if *port == case.port { "store" } else { "nowhere" }))
        .collect();
    let grants: Vec<String> = Port::ALL.iter().map(|port| format!("{} = [\"*\"]", port.name())).collect();
    format!(
        r#"
        {source}
        {sink}
        [sinks.nowhere.null]
        [dead_letters.file]
        path = "dead-letters.jsonl"
        [engine]
        cache = "compiled"
        [[pipelines]]
        name = "{pipeline}"
        topics = ["{topic}"]
        format = "{format}"
        sinks = {{ {ports} }}
        [[pipelines.transforms]]
        name = "{transform}"
        module = {module:?}
        settings = {{ {settings} }}
        grants = {{ {grants} }}
        "#,
        ports = ports.join(", "),
        transform = case.transform,
        module = module(case.transform),
        settings = case.settings,
        grants = grants.join(", "),
    )
}
