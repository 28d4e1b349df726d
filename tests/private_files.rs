//! What a run makes and fills with data is its user's alone, whatever the umask.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use tidegate_tests::{Site, program, text};

use super::admin::asked::until;
use super::stop::{ORDERS, orders};

const FILES: [&str; 4] = ["store.db", "store.db-wal", "store.db-shm", "dead-letters.jsonl"];
const BAD: &str =
    r#"{"topic":"dbserver1.public.orders","partition":0,"offset":999999,"key":"{\"id\":\"o1\"}","value":"{"}"#;

/// The rights of the files of a run that is not at its end, and what it has said. The umask leaves everybody every right.
fn modes(site: &Site) -> (Vec<u32>, String) {
    let _ = fs::remove_file(site.path("events.jsonl"));
    assert!(Command::new("mkfifo").arg(site.path("events.jsonl")).status().unwrap().success());
    let run = Command::new("sh")
        .args(["-c", "umask 0; exec \"$0\" run tidegate.toml"])
        .arg(program())
        .current_dir(site.path(""))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut events = File::options().write(true).open(site.path("events.jsonl")).unwrap();
    let mut lines = orders();
    lines.truncate(5);
    lines.push(BAD.to_owned());
    events.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    until("a dead letter", || (!site.dead_letters().is_empty()).then_some(()));
    let modes = FILES.map(|file| fs::metadata(site.path(file)).unwrap().permissions().mode() & 0o777);
    drop(events);
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    (modes.into(), text(&output))
}

#[test]
fn files_with_data_are_their_users_alone() {
    let site = Site::new(ORDERS);
    let (made, said) = modes(&site);
    assert_eq!(made, [0o600; 4]);
    assert!(!said.contains("which holds data"), "{said}");

    // Rights that somebody has given are left, and told.
    for file in ["store.db", "dead-letters.jsonl"] {
        fs::set_permissions(site.path(file), Permissions::from_mode(0o644)).unwrap();
    }
    let (left, said) = modes(&site);
    assert_eq!(left, [0o644; 4]);
    assert_eq!(said.matches("every user of this machine may read or write this file").count(), 2, "{said}");
}
