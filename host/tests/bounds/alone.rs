//! Runs a test's work in a process of its own, and tells by how much its memory grew at most.

use std::fs;
use std::hint::black_box;
use std::process::Command;

const ALONE: &str = "TIDEGATE_TEST_ALONE";

/// Expects that `work` makes the memory of its process grow by less than so many MiB, at any moment. `name` is the path
/// of the test that calls this.
pub(crate) fn grows_by_less_than<T, U>(
    mebibytes: u64,
    name: &str,
    prepare: impl FnOnce() -> T,
    work: impl FnOnce(T) -> U,
) {
    if std::env::var_os(ALONE).is_none() {
        let mut again = Command::new(std::env::current_exe().unwrap());
        let output = again.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("1 passed") || said.contains("1 failed"), "there is no test {name}: {said}");
        assert!(output.status.success(), "{said}");
        return;
    }
    let prepared = prepare();
    // Writing 5 there sets the peak to what is held now (proc_pid_clear_refs(5)).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    let kept = work(prepared);
    let grown = (peak() - before) >> 10;
    drop(black_box(kept));
    assert!(grown < mebibytes, "it grew by {grown} MiB, and {mebibytes} are allowed");
}

/// The most memory that this process has held, KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
