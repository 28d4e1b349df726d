//! A run that is killed at any moment and started again ends in the same store as one that was left alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tidegate_tests::{Row, guest, program, root, rows, text};
use xtask::demo::{self, Folder};
use xtask::verify::verify;

/// How many moments are tried. Each is a run that is killed, twice, and a third that ends.
const MOMENTS: u64 = 20;

#[test]
fn a_run_killed_at_any_moment_and_started_again_ends_in_the_same_store() {
    let reference = tempfile::tempdir().unwrap();
    let folder = prepare(reference.path());
    finish(&folder);
    let whole = bytes(&folder);
    let expected = content(&folder.store);

    let mut killed = 0_u64;
    for moment in 0..MOMENTS {
        let site = tempfile::tempdir().unwrap();
        let folder = prepare(site.path());
        // The second kill comes after the first run's share and half of what is left.
        for share in [moment, (moment + MOMENTS) / 2] {
            killed += u64::from(kill_at(&folder, whole * share / MOMENTS));
        }
        finish(&folder);
        for verdict in verify(&folder.store, &root().join("tests/corpus")).unwrap() {
            assert!(verdict.differences.is_empty(), "killed at moment {moment}: {:?}", verdict.differences);
        }
        for (table, rows) in content(&folder.store) {
            assert_eq!(rows, expected[&table], "killed at moment {moment}: table {table}");
        }
    }
    assert!(killed > MOMENTS / 2, "only {killed} runs were killed before they had ended by themselves");
}

/// The demo with small batches, so that there are many moments, and with its compiled modules kept.
fn prepare(out: &Path) -> Folder {
    let modules = guest("order-cache");
    let folder = demo::prepare(&root(), &root().join("tests/corpus"), modules.parent().unwrap(), out, false).unwrap();
    let cache = std::env::temp_dir().join("tidegate-tests-compiled").display().to_string();
    let config = fs::read_to_string(&folder.config).unwrap();
    let config = config.replace("[[pipelines]]", "[[pipelines]]\nbatch = { max_events = 2 }");
    let config = config.replace(&format!("{}/compiled", out.display()), &cache);
    assert!(config.contains("max_events") && config.contains(&cache), "the demo's configuration has changed its shape");
    fs::write(&folder.config, config).unwrap();
    folder
}

fn start(folder: &Folder) -> Child {
    Command::new(program())
        .arg("run")
        .arg(&folder.config)
        .args(["--log", "warn"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs to the end.
fn finish(folder: &Folder) {
    let output = start(folder).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// Starts a run and kills it once the store has grown to so many bytes. False when it ended before.
fn kill_at(folder: &Folder, size: u64) -> bool {
    let mut child = start(folder);
    while bytes(folder) < size {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::yield_now();
    }
    // SIGKILL: nothing of the program runs after it.
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

/// The bytes of the store, with what is still in its log.
fn bytes(folder: &Folder) -> u64 {
    let size = |name: &str| fs::metadata(folder.store.with_file_name(name)).map_or(0, |found| found.len());
    size("demo.db") + size("demo.db-wal")
}

/// Everything in the store that does not depend on when and how often it was written.
fn content(store: &Path) -> BTreeMap<String, Vec<Row>> {
    let tables = rows(store, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'");
    let columns_aside = ["token", "updated_at", "changed_at", "expires_at", "sequence", "created_at"];
    tables
        .iter()
        .map(|table| {
            let name = &table["name"];
            let aside: &[&str] = if name.starts_with("tidegate_") { &columns_aside } else { &[] };
            let mut found = rows(store, &format!("SELECT * FROM \"{name}\""));
            for row in &mut found {
                row.retain(|column, _| !aside.contains(&column.as_str()));
            }
            found.sort();
            (name.clone(), found)
        })
        .collect()
}
