//! The unit: what it says of the program is so, and systemd's own checker takes it.

use std::fs;
use std::process::Command;

use tempfile::tempdir;
use tidegate_tests::{program, text};

use super::{MODULES, is_taken, listen, modules, parsed, read, references, shutdown_seconds};

const UNIT: &str = "deploy/systemd/tidegate.service";

/// All values of a key of the unit.
fn values(name: &str) -> Vec<String> {
    let unit = read(UNIT);
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).collect()
}

fn value(name: &str) -> String {
    let mut values = values(name);
    assert_eq!(values.len(), 1, "{name}: {values:?}");
    values.remove(0)
}

fn configuration() -> String {
    read("deploy/systemd/tidegate.toml")
}

/// It wants no running systemd, but the program in its place.
#[test]
fn systemd_takes_the_unit_where_it_is_installed() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let folder = tempdir().unwrap();
    let unit = folder.path().join("tidegate.service");
    let begin = "ExecStart=/usr/local/bin/tidegate ";
    assert!(read(UNIT).contains(begin));
    fs::write(&unit, read(UNIT).replace(begin, &format!("ExecStart={} ", program().display()))).unwrap();
    let read = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    assert!(read.status.success() && read.stderr.is_empty(), "{}", text(&read));
}

#[test]
fn the_configuration_is_taken_and_lies_where_the_unit_makes_room() {
    let configuration = configuration();
    is_taken(&configuration);
    assert!(value("ExecStart").ends_with(" run /etc/tidegate/tidegate.toml"));
    for module in modules(&configuration) {
        assert!(module.starts_with(MODULES), "{module}");
    }
    let cache = parsed(&configuration)["engine"]["cache"].as_str().unwrap().to_owned();
    assert!(cache.starts_with(&format!("/var/cache/{}/", value("CacheDirectory"))), "{cache}");
    let listen = listen(&configuration);
    assert!(listen.starts_with(&format!("unix:/run/{}/", value("RuntimeDirectory"))), "{listen}");
}

#[test]
fn every_secret_is_a_credential() {
    let credentials: Vec<_> = values("LoadCredential");
    let named: Vec<_> = credentials.iter().map(|one| one.split(':').next().unwrap()).collect();
    let secrets = references(&configuration(), "file");
    let read: Vec<_> = secrets
        .iter()
        .map(|secret| secret.strip_prefix("/run/credentials/tidegate.service/").unwrap_or_else(|| panic!("{secret}")))
        .collect();
    assert_eq!(read, named);
}

#[test]
fn the_end_is_waited_for() {
    let patience: i64 = value("TimeoutStopSec").parse().unwrap();
    assert!(patience >= shutdown_seconds(&configuration()) + 10);
}

/// What nobody can mend by starting again is not started again.
#[test]
fn a_wrong_configuration_is_not_tried_over_and_over() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("tidegate.toml");
    fs::write(&file, "[sink]\n").unwrap();
    let run = Command::new(program()).arg("run").arg(&file).output().unwrap();
    assert_eq!(run.status.code().unwrap().to_string(), value("RestartPreventExitStatus"), "{}", text(&run));
    assert_eq!(value("Restart"), "on-failure");
    let [starts, seconds, pause] =
        ["StartLimitBurst", "StartLimitIntervalSec", "RestartSec"].map(|name| value(name).parse::<u32>().unwrap());
    assert!(starts * pause < seconds, "the limit of starts is never reached");
}

/// Compiled modules are memory that is written and then executed.
#[test]
fn memory_may_become_executable() {
    assert_eq!(values("MemoryDenyWriteExecute"), [""; 0]);
    assert_eq!(values("LimitAS"), [""; 0]);
}
