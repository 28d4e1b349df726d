//! What the README and the guides tell the reader to do works: each document is followed from top to bottom.
//!
//! The blocks of a document are followed in their order, in one folder that stands for the root of the repository:
//! `sh` is run by a shell, with the built program on its path, and `sh until TEXT` is run again until it prints TEXT;
//! `toml FILE` is written into that file, and checked at the end; `sql FILE` is run on that file until a row comes;
//! `json` must be JSON. Rust is compiled by the SDK's documentation tests. `console` is for another machine or moment
//! and is not run. What the machine may lack, or what is built elsewhere in this run of the tests, is played by
//! stand-ins that know the commands that they are given in the guides, and no others. The servers are real.

mod named;
mod servers;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;
use tidegate_tests::{guest, program, root};

use self::servers::Servers;

/// How long a thing may take that the reader waits for.
const PATIENCE: Duration = Duration::from_secs(300);

/// What cargo is told to do in the documents. All but the build of a module is nothing here: `.ci/run` is `xtask test`
/// and `xtask demo`, which build the program and the modules, and the test of `tidegate new` runs the scaffold's own
/// commands. A module of the repository stands in for the one that the reader builds.
const CARGO: &str = r#"case "$*" in
"xtask demo" | "xtask test" | "xtask guests" | "test") ;;
"build --release --package tidegate" | "doc --package tidegate-sdk --no-deps --open") ;;
"build --release --target wasm32-unknown-unknown")
    mkdir -p target/wasm32-unknown-unknown/release
    cp "$GUESTS/order_cache.wasm" target/wasm32-unknown-unknown/release/my_orders.wasm ;;
*) echo "nobody has tried: cargo $*" >&2; exit 1 ;;
esac"#;

const RUSTUP: &str = r#"test "$*" = "target add wasm32-unknown-unknown""#;

/// A topic as kcat prints it: one record with a header, and one without key, headers and value.
const KCAT: &str = r#"case "$*" in *" -J"*) ;; *) exit 1 ;; esac
cat <<'LINES'
{"topic":"dbserver1.public.orders","partition":0,"offset":7,"tstype":"create","ts":1795247469337,"broker":1,"headers":["a","b","c",null],"key":"{\"id\":\"o1\"}","payload":"{\"id\":\"o1\",\"__op\":\"d\",\"__deleted\":\"true\"}"}
{"topic":"dbserver1.public.orders","partition":0,"offset":8,"tstype":"create","ts":1795247469338,"broker":1,"key":"{\"id\":\"o1\"}","payload":null}
LINES"#;

/// Runs the steps that it is told to, and answers after each. What is left running ends with it.
const SHELL: &str = r#"exec 8<&0 9>&1 </dev/null >"$FOLDER/output" 2>&1
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
set -euxo pipefail
while read -r step <&8; do . "$step"; echo done >&9; done"#;

/// A fenced block: the language, what stands behind it, its text.
struct Block {
    language: String,
    argument: String,
    text: String,
}

#[test]
fn the_readme_can_be_followed() {
    follow("README.md", None);
}

#[test]
fn the_guide_for_authors_can_be_followed() {
    let place = follow("docs/writing-transforms.md", None);
    assert!(place.folder.path().join("my-orders/store.db").is_file());
}

#[test]
fn the_guide_for_operators_can_be_followed() {
    // Of its own, also where the servers outlive the test.
    let name = format!("docs{}", std::process::id());
    let servers = Servers::new(&name);
    let place = follow("docs/running.md", Some((&name, &servers)));
    assert!(servers.messages("order-events") > 0);
    assert_eq!(servers.messages("dead-letters"), 0);
    assert_eq!(fs::read_to_string(place.end.join("recorded-dead-letters.jsonl")).unwrap(), "");
    // Without jq on this machine nothing was recorded.
    if Command::new("jq").arg("--version").output().is_ok() {
        let commands = fs::read_to_string(place.end.join("commands.jsonl")).unwrap();
        assert_eq!(commands.matches("cache-delete").count(), 2, "{commands}");
    }
}

#[test]
fn the_page_about_watching_can_be_followed() {
    let place = follow("docs/admin.md", None);
    assert!(place.end.join("store.db").is_file());
    assert!(!place.end.join("tidegate.sock").exists(), "the socket is left behind");
}

#[test]
fn the_page_about_deploying_can_be_followed() {
    let place = follow("docs/deploying.md", None);
    assert!(!place.end.join("tidegate.sock").exists(), "the socket is left behind");
}

#[test]
fn no_other_document_has_commands_that_nobody_runs() {
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let followed = ["writing-transforms.md", "running.md", "admin.md", "deploying.md"];
        if name.ends_with(".md") && !followed.contains(&name.as_str()) {
            let commands: Vec<_> =
                blocks(&path).into_iter().filter(|block| block.language == "sh").map(|block| block.text).collect();
            // The benchmarks are run by hand.
            assert!(
                commands.iter().flat_map(|text| text.lines()).all(|line| line.contains("cargo xtask bench")),
                "{name}"
            );
        }
    }
}

/// Every link between the documents leads to a file, and to a heading of it where one is named.
#[test]
fn links_lead_somewhere() {
    let pages = ["docs", "docs/reference"].into_iter().flat_map(|folder| fs::read_dir(root().join(folder)).unwrap());
    let pages = pages.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "md"));
    for path in ["README.md", "ARCHITECTURE.md"].map(|name| root().join(name)).into_iter().chain(pages) {
        let document = path.display();
        let content = fs::read_to_string(&path).unwrap();
        for link in content.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            // Its page comes with the benchmarks themselves.
            if file.contains("://") || file == "docs/benchmarks.md" {
                continue;
            }
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{document}: {link}");
            if !heading.is_empty() {
                let headings = fs::read_to_string(&target).unwrap();
                let found = headings.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(found, "{document}: {link}");
            }
        }
    }
}

/// A folder after a document was followed, and where the reader stands then.
struct Place {
    folder: TempDir,
    end: PathBuf,
}

/// Follows a document. With servers, what the document names after a shop is named after this run.
fn follow(document: &str, servers: Option<(&str, &Servers)>) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let guests = guest("order-cache").parent().unwrap().to_path_buf();
    fs::create_dir_all(home.join("target")).unwrap();
    fs::create_dir_all(home.join("bin")).unwrap();
    symlink(&guests, home.join("target/guests")).unwrap();
    for part in ["guest-sdk", "tests"] {
        symlink(root().join(part), home.join(part)).unwrap();
    }
    symlink(program(), home.join("bin/tidegate")).unwrap();
    for (name, script) in [("cargo", CARGO), ("rustup", RUSTUP), ("kcat", KCAT)] {
        let path = home.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    let has_jq = Command::new("jq").arg("--version").output().is_ok();
    let mut reader = Reader::new(home, &guests, servers.map(|(_, servers)| servers));
    let mut configurations = Vec::new();
    for Block { language, argument, text } in blocks(&root().join(document)) {
        let [argument, text] =
            [argument, text].map(|written| servers.map_or(written.clone(), |(name, _)| written.replace("shop", name)));
        match (language.as_str(), argument.as_str()) {
            ("sh", _) if text.contains("jq ") && !has_jq => {}
            ("sh", "") => reader.run(&text),
            ("sh", until) => {
                let awaited = until.strip_prefix("until ").unwrap_or_else(|| panic!("{document}: sh {until}"));
                let tries =
                    format!("set +x; for try in $(seq 600); do {{\n{text}}} > \"$FOLDER/tried\" 2>&1 || true\n");
                let found = format!("grep --quiet --fixed-strings -- '{awaited}' \"$FOLDER/tried\"");
                let end =
                    format!("if {found}; then break; fi; sleep 0.2; done\ncat \"$FOLDER/tried\"; set -x; {found}\n");
                reader.run(&(tries + &end));
            }
            ("toml", file) => {
                assert!(!file.is_empty(), "{document}: say which file this is: ```toml FILE\n{text}");
                reader.run(&format!("cat > {file} <<'TOML'\n{text}TOML\n"));
                configurations.push(argument);
            }
            ("sql", file) if !file.is_empty() => {
                let file = reader.place().join(file);
                wait_for_a_row(&file, &text);
            }
            ("json", _) => drop(serde_json::from_str::<serde_json::Value>(&text).expect(&text)),
            // Rust is compiled by the SDK; SQL without a file is for another database.
            ("rust" | "text" | "sql" | "console", _) => {}
            (other, _) => panic!("{document}: a block of `{other}`, which nothing tries"),
        }
    }
    for file in configurations {
        reader.run(&format!("tidegate check {file}\n"));
    }
    let end = reader.place();
    drop(reader);
    Place { folder, end }
}

/// A shell that is told one step after the other.
struct Reader {
    home: PathBuf,
    shell: Child,
    steps: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Reader {
    fn new(home: &Path, guests: &Path, servers: Option<&Servers>) -> Self {
        let mut shell = Command::new("bash");
        shell.args(["-c", SHELL]).current_dir(home).env("FOLDER", home).env("GUESTS", guests);
        shell.env("PATH", format!("{}:{}", home.join("bin").display(), std::env::var("PATH").unwrap()));
        shell.env("XDG_CACHE_HOME", home.join("caches")).env_remove("TIDEGATE_LOG");
        shell.envs(servers.into_iter().flat_map(Servers::variables));
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (steps, answers) = (shell.stdin.take(), BufReader::new(shell.stdout.take().unwrap()));
        Self { home: home.to_path_buf(), shell, steps, answers }
    }

    /// Runs this to its end.
    fn run(&mut self, script: &str) {
        let step = self.home.join("step");
        fs::write(&step, script).unwrap();
        writeln!(self.steps.as_mut().unwrap(), "{}", step.display()).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "{script}\n{}", fs::read_to_string(self.home.join("output")).unwrap());
    }

    /// Where the reader stands.
    fn place(&mut self) -> PathBuf {
        self.run("pwd > \"$FOLDER/place\"\n");
        PathBuf::from(fs::read_to_string(self.home.join("place")).unwrap().trim_end())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.steps = None;
        let _ = self.shell.wait();
    }
}

/// Runs a query until it has a row: the file may be being written.
fn wait_for_a_row(file: &Path, query: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = Connection::open(file).and_then(|store| store.prepare(query)?.exists([]));
        match found {
            Ok(true) => return,
            _ if Instant::now() < end => sleep(Duration::from_millis(100)),
            other => panic!("no row of {} comes from\n{query}\n{other:?}", file.display()),
        }
    }
}

fn blocks(document: &Path) -> Vec<Block> {
    let content = fs::read_to_string(document).unwrap();
    let mut blocks = Vec::new();
    let mut lines = content.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let (language, argument) = kind.split_once(' ').unwrap_or((kind, ""));
        let text = lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
        blocks.push(Block { language: language.to_owned(), argument: argument.to_owned(), text });
    }
    blocks
}

/// The name by which a heading is linked to.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}
