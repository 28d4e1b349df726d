//! Runs the program in a folder of its own, on the guests' modules and the captured events.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

/// Stands for a secret that no command may print.
pub(crate) const SECRET: &str = "hunter2";

/// A folder with a configuration and what it names.
pub(crate) struct Folder(tempfile::TempDir);

/// How the program ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Runs the program here, with `SECRET` and a name for its cache of compiled code in the environment. Whatever it
    /// prints is held against the secret.
    pub(crate) fn tidegate(&self, arguments: &[&str]) -> Ended {
        let ended = Ended::of(self.command(arguments).output().unwrap());
        assert!(!ended.output.contains(SECRET) && !ended.errors.contains(SECRET), "{}{}", ended.output, ended.errors);
        ended
    }

    /// Starts the program here, for one that does not end by itself. What it says goes nowhere.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments).current_dir(self.0.path());
        command.env("SECRET", SECRET).env("XDG_CACHE_HOME", self.path("caches")).env_remove("TIDEGATE_LOG");
        command
    }
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it was not killed"),
            output: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The output of a program that has done its work.
    pub(crate) fn done(&self) -> &str {
        assert_eq!(self.code, 0, "{}{}", self.output, self.errors);
        &self.output
    }

    pub(crate) fn lines(&self) -> Vec<&str> {
        self.output.lines().collect()
    }
}

/// A guest's module: in the folder `TIDEGATE_GUESTS` where the build tool names one, else built here.
pub(crate) fn guest(file: &str) -> String {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| std::env::var_os("TIDEGATE_GUESTS").map_or_else(build, PathBuf::from));
    let path = folder.join(file);
    assert!(path.is_file(), "there is no guest `{}`", path.display());
    path.display().to_string()
}

fn build() -> PathBuf {
    for package in ["hostile", "order-cache"] {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--package", package, "--target", "wasm32-unknown-unknown", "--profile", "wasm"]);
        let ended = Ended::of(cargo.arg("--target-dir").arg(target()).output().unwrap());
        assert_eq!(ended.code, 0, "the guest {package} does not build:\n{}", ended.errors);
    }
    target().join("wasm32-unknown-unknown/wasm")
}

/// The target folder that this test was built in.
pub(crate) fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder in the target folder")
}

/// The captured events of order-cache.
pub(crate) fn orders() -> String {
    corpus("order-cache/dbserver1.public.orders.jsonl")
}

pub(crate) fn corpus(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus").join(file).display().to_string()
}

/// A configuration with this module in its only pipeline; `rest` is the rest of its block.
pub(crate) fn configuration(module: &str, rest: &str) -> String {
    format!(
        r#"
[source.file]
paths = ["{}"]
[sinks.store.sqlite]
path = "store.db"
[[pipelines]]
name = "orders"
topics = ["dbserver1.public.orders"]
format = "debezium-flattened"
sinks = {{ cache = "store", tables = "store" }}
[[pipelines.transforms]]
name = "order-cache"
module = "{module}"
{rest}
"#,
        orders()
    )
}
