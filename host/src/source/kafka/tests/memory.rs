//! How much memory a source takes while its lanes take nothing: in a process of its own, so that no other test counts.

use std::process::Command;
use std::time::{Duration, Instant};

use super::cluster::{PATIENCE, Topic};
use super::host::Host;
use super::source;
use crate::source::{Bounds, Item};

const PARTITIONS: i32 = 96;
const RECORD: usize = 50_000;
/// Of each partition, so that its records are more than its share, and all together much more than the bound.
const RECORDS: usize = 52;

/// The topic that the process reads.
const NAME: &str = "TIDEGATE_TEST_MEMORY_OF";

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn partitions_that_nobody_takes_share_the_memory_of_a_source() {
    let topic = Topic::new(PARTITIONS, &[]);
    for partition in 0..PARTITIONS {
        topic.produce(partition, (0..RECORDS).map(|_| "x".repeat(RECORD)));
    }
    let this = std::env::current_exe().unwrap();
    let test = format!("{}::source_whose_lanes_are_full", module_path!().split_once("::").unwrap().1);
    let output = Command::new(this)
        .args(["--exact", &test, "--ignored", "--nocapture"])
        .env(NAME, &topic.name)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let grown = said
        .lines()
        .find_map(|line| line.split_once("grown by "))
        .unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    let grown: usize = grown.1.trim().parse().unwrap();
    assert!(grown < 150 << 20, "{grown} bytes");
}

/// Run by the test above. Says how much the process has grown when it grows no more.
#[test]
#[allow(clippy::print_stdout)]
#[ignore = "a part of another test, which runs it in a process of its own"]
fn source_whose_lanes_are_full() {
    let topic = std::env::var(NAME).unwrap();
    let before = resident();
    let host = Host::bounded(source(&[&topic]), 1, Bounds { records: 1, bytes: 1 });
    let begun = Instant::now();
    let mut claims = 0;
    while claims < PARTITIONS {
        assert!(begun.elapsed() < PATIENCE, "{claims} are assigned");
        if let Item::Assigned(assigned) = host.next(0) {
            claims += 1;
            host.begin(&assigned.partition, 0, u64::try_from(claims).unwrap());
        }
    }
    let (mut most, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(4) {
        assert!(begun.elapsed() < PATIENCE * 2, "it grows without end");
        let now = resident();
        if now > most + (1 << 20) {
            (most, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("grown by {}", most.max(resident()) - before);
    host.end().unwrap();
}
