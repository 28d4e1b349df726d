//! `tidegate new`: what it makes builds, passes its tests, and runs, by its own README.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Ended, Folder, target};

fn sdk() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-sdk").display().to_string()
}

/// Follows the README: each of its lines that stand in four columns is a command.
#[test]
fn a_newcomer_who_follows_the_readme_alone_gets_a_run() {
    let folder = Folder::new();
    folder.tidegate(&["new", "my-orders", "--sdk", &sdk()]).done();
    let home = folder.path("my-orders");
    // The lock file of this workspace, so that nothing has to be fetched.
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock"), home.join("Cargo.lock")).unwrap();
    // A shared folder of built crates, which stands where the README expects it.
    std::os::unix::fs::symlink(target(), home.join("target")).unwrap();

    let readme = fs::read_to_string(home.join("README.md")).unwrap().replace("\\\n", " ");
    let mut replayed = String::new();
    let mut commands = 0;
    for line in readme.lines().filter_map(|line| line.strip_prefix("    ")) {
        if line.starts_with("rustup ") {
            continue;
        }
        commands += 1;
        let line = line.replacen("tidegate ", concat!(env!("CARGO_BIN_EXE_tidegate"), " "), 1);
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).current_dir(&home);
        shell
            .env("CARGO_NET_OFFLINE", "true")
            .env("XDG_CACHE_HOME", folder.path("caches"))
            .env_remove("CARGO_TARGET_DIR");
        let ended = Ended::of(shell.output().unwrap());
        let output = ended.done();
        if line.contains(" replay ") {
            output.clone_into(&mut replayed);
        }
    }
    assert_eq!(commands, 5, "{readme}");
    let kinds: Vec<bool> = replayed.lines().map(|line| line.contains("cache-set")).collect();
    assert_eq!(kinds, [true, true, false], "{replayed}");
    assert!(home.join("store.db").is_file());
}

#[test]
fn the_scaffold_depends_on_the_sdk_of_this_version_unless_a_folder_is_named() {
    let folder = Folder::new();
    folder.tidegate(&["new", "a1", "--path", "crates"]).done();
    let manifest = fs::read_to_string(folder.path("crates/a1/Cargo.toml")).unwrap();
    assert!(manifest.contains(&format!("tidegate-sdk = \"{}\"", env!("CARGO_PKG_VERSION"))), "{manifest}");
}

#[test]
fn the_recorded_events_are_captured_ones() {
    let folder = Folder::new();
    folder.tidegate(&["new", "a1"]).done();
    let captured =
        fs::read_to_string(crate::harness::corpus("bookstore-analytics/ecom-connector.public.orders.jsonl")).unwrap();
    let events = fs::read_to_string(folder.path("a1/tests/events.jsonl")).unwrap();
    assert!(events.lines().count() > 0);
    assert!(events.lines().all(|event| captured.lines().any(|line| line == event)), "{events}");
}

#[test]
fn what_cannot_be_made_is_2_and_nothing_is_touched() {
    let folder = Folder::new();
    fs::create_dir(folder.path("there")).unwrap();
    for (arguments, message) in [
        (&["new", "Orders"][..], "`Orders` is no name for a crate; "),
        (&["new", "a_b"], "`a_b` is no name for a crate; "),
        (&["new", "1a"], "`1a` is no name for a crate; "),
        (&["new", "there"], "there` is there already; "),
        (&["new", "a", "--sdk", "there"], "there is no crate in `there`"),
    ] {
        let ended = folder.tidegate(arguments);
        assert_eq!((ended.code, ended.errors.lines().count()), (2, 1), "{}", ended.errors);
        assert!(ended.errors.contains(message), "{}", ended.errors);
    }
    assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 1);
}
