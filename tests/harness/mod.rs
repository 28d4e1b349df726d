//! What the integration tests share: a folder with a configuration and events, the program run in it, and the store
//! read back. The program is the real binary; nothing of the host is linked here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

/// A row of a table as text, by column.
pub type Row = BTreeMap<String, String>;

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A captured file of events.
pub fn corpus(file: &str) -> PathBuf {
    root().join("tests/corpus").join(file)
}

/// The folder of cargo's results: the test itself lies in its `debug/deps`.
fn target() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_path_buf()
}

/// The program, as built beside the tests, or the one that `TIDEGATE_PROGRAM` names.
pub fn program() -> PathBuf {
    if let Some(other) = std::env::var_os("TIDEGATE_PROGRAM") {
        return other.into();
    }
    let built = target().join("debug/tidegate");
    assert!(built.exists(), "{} is not built: run `cargo xtask test`", built.display());
    built
}

/// A compiled guest, by the name of its crate.
pub fn guest(name: &str) -> PathBuf {
    let folder = std::env::var_os("TIDEGATE_GUESTS").map_or_else(|| target().join("guests"), PathBuf::from);
    let module = folder.join(format!("{}.wasm", name.replace('-', "_")));
    assert!(module.exists(), "{} is not built: run `cargo xtask guests`", module.display());
    module
}

/// The address of a server that the tests share: `postgres`, `kafka`, `connect`, `redis`, `elasticsearch`, `opensearch`.
pub fn service(name: &str) -> String {
    let file =
        std::env::var_os("TIDEGATE_SERVICES").map_or_else(|| target().join("services/addresses.json"), PathBuf::from);
    let addresses = fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; `cargo xtask test` starts the servers", file.display()));
    let addresses: serde_json::Value = serde_json::from_str(&addresses).unwrap();
    addresses[name].as_str().unwrap_or_else(|| panic!("{} has no `{name}`", file.display())).to_owned()
}

/// A folder in which the program runs.
pub struct Site {
    folder: TempDir,
}

impl Site {
    /// An empty folder with this configuration, in which `{guests}` stands for the folder of the guests.
    pub fn new(config: &str) -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        site.configure(config);
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the configuration.
    pub fn configure(&self, config: &str) {
        let guests = guest("order-cache").parent().unwrap().display().to_string();
        self.write("tidegate.toml", config.replace("{guests}", &guests).as_bytes());
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Starts the program with its output kept.
    pub fn start(&self, arguments: &[&str]) -> Child {
        Command::new(program())
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs the configuration to the end of its events.
    pub fn run(&self) -> Output {
        self.start(&["run", "tidegate.toml"]).wait_with_output().unwrap()
    }

    /// Runs it and expects success.
    pub fn run_well(&self) {
        let output = self.run();
        assert!(output.status.success(), "the run failed: {}", text(&output));
    }

    /// The rows of a query on a SQLite file of the site.
    pub fn query(&self, file: &str, sql: &str) -> Vec<Row> {
        rows(&self.path(file), sql)
    }

    /// The same of a file that is just being made: none while it has no such table.
    pub fn try_query(&self, file: &str, sql: &str) -> Option<Vec<Row>> {
        self.path(file).exists().then(|| try_rows(&self.path(file), sql).ok()).flatten()
    }

    /// The dead letters filed so far.
    pub fn dead_letters(&self) -> Vec<serde_json::Value> {
        let Ok(text) = fs::read_to_string(self.path("dead-letters.jsonl")) else { return Vec::new() };
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// What a program said, for messages of tests.
pub fn text(output: &Output) -> String {
    format!("{}\n{}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The rows of a query on a SQLite file.
pub fn rows(file: &Path, sql: &str) -> Vec<Row> {
    try_rows(file, sql).unwrap()
}

fn try_rows(file: &Path, sql: &str) -> rusqlite::Result<Vec<Row>> {
    let store = Connection::open(file)?;
    let mut statement = store.prepare(sql)?;
    let names: Vec<String> = statement.column_names().map(ToOwned::to_owned).collect();
    let mut found = statement.query([])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let value = |place: usize| match row.get::<_, Value>(place).unwrap() {
            Value::Null => "null".to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Real(number) => number.to_string(),
            Value::Text(text) => text,
            Value::Blob(bytes) => format!("{bytes:?}"),
        };
        rows.push(names.iter().cloned().enumerate().map(|(place, name)| (name, value(place))).collect());
    }
    Ok(rows)
}
