//! What the README and the guides tell the reader to do works: each document is followed from top to bottom.
//!
//! The blocks of a document are followed in their order, in one folder that stands for the root of the repository:
//! `sh` is run by a shell, with the built program on its path; `toml FILE` is written into that file, and checked at the
//! end; `sql FILE` is run on that file at the end; `json` must be JSON. Rust is compiled by the SDK's documentation
//! tests. What the machine may lack, or what is built elsewhere in this run of the tests, is played by stand-ins that
//! know the commands that they are given in the guides, and no others.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use tempfile::TempDir;
use tidegate_tests::{guest, program, root, text};

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

/// A fenced block: the language, the file that it names, its text.
struct Block {
    language: String,
    file: String,
    text: String,
}

#[test]
fn the_readme_can_be_followed() {
    follow("README.md");
}

#[test]
fn the_guide_for_authors_can_be_followed() {
    let place = follow("docs/writing-transforms.md");
    assert!(place.folder.path().join("my-orders/store.db").is_file());
}

#[test]
fn the_guide_for_operators_can_be_followed() {
    let place = follow("docs/running.md");
    assert_eq!(fs::read_to_string(place.end.join("dead-letters.jsonl")).unwrap(), "");
    // Without jq on this machine nothing was recorded.
    if Command::new("jq").arg("--version").output().is_ok() {
        let commands = fs::read_to_string(place.end.join("commands.jsonl")).unwrap();
        assert_eq!(commands.matches("cache-delete").count(), 2, "{commands}");
    }
}

#[test]
fn no_other_document_has_commands_that_nobody_runs() {
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_file() && !["writing-transforms.md", "running.md"].contains(&name.as_str()) {
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
    for document in ["README.md", "ARCHITECTURE.md", "docs/writing-transforms.md", "docs/running.md"] {
        let path = root().join(document);
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

fn follow(document: &str) -> Place {
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

    let blocks = blocks(&root().join(document));
    let has_jq = Command::new("jq").arg("--version").output().is_ok();
    let mut script = "set -euxo pipefail\n".to_owned();
    for block in &blocks {
        match (block.language.as_str(), block.file.as_str()) {
            ("sh", _) if block.text.contains("jq ") && !has_jq => {}
            ("sh", _) => script.push_str(&block.text),
            ("toml", file) => {
                assert!(!file.is_empty(), "{document}: say which file this is: ```toml FILE\n{}", block.text);
                writeln!(script, "cat > {file} <<'TOML'\n{}TOML", block.text).unwrap();
            }
            ("json", _) => drop(serde_json::from_str::<serde_json::Value>(&block.text).expect(&block.text)),
            // Rust is compiled by the SDK; SQL without a file is for another database.
            ("rust" | "text" | "sql", _) => {}
            (other, _) => panic!("{document}: a block of `{other}`, which nothing tries"),
        }
    }
    for file in blocks.iter().filter(|block| block.language == "toml").map(|block| &block.file) {
        writeln!(script, "tidegate check {file}").unwrap();
    }
    script.push_str("pwd > \"$FOLDER/end\"\n");
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir(home).env("FOLDER", home).env("GUESTS", &guests);
    shell.env("PATH", format!("{}:{}", home.join("bin").display(), std::env::var("PATH").unwrap()));
    shell.env("XDG_CACHE_HOME", home.join("caches")).env_remove("TIDEGATE_LOG");
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{document}: {}", text(&output));

    let end = PathBuf::from(fs::read_to_string(home.join("end")).unwrap().trim_end());
    for block in blocks.iter().filter(|block| block.language == "sql" && !block.file.is_empty()) {
        let store = Connection::open(end.join(&block.file)).unwrap();
        let found = store.prepare(&block.text).unwrap().exists([]).unwrap();
        assert!(found, "{document}: no row comes from\n{}", block.text);
    }
    Place { folder, end }
}

fn blocks(document: &Path) -> Vec<Block> {
    let content = fs::read_to_string(document).unwrap();
    let mut blocks = Vec::new();
    let mut lines = content.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let (language, file) = kind.split_once(' ').unwrap_or((kind, ""));
        let text = lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
        blocks.push(Block { language: language.to_owned(), file: file.to_owned(), text });
    }
    blocks
}

/// The name by which a heading is linked to.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}
