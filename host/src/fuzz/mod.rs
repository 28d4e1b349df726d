//! Fuzzing: random bytes for everything that takes bytes from outside.
//!
//! A target is a function of bytes that panics when they are treated otherwise than promised. The tests play its
//! inputs in `tests/fuzz` and some hundred alterations of them, always the same; `cargo xtask fuzz` goes on for as long
//! as told, guided by coverage. An input that fails becomes a file in `tests/fuzz`, under a name that says what it
//! was, when its fault is mended.
//!
//! It is built by stable Rust alone: the compiler's own instrumentation counts which branches are taken
//! (`coverage.rs`), and a loop keeps what takes new ones (`play.rs`). libFuzzer would need clang, and its programs the
//! private parts of this crate.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod alter;
mod coverage;
mod play;

use std::path::{Path, PathBuf};
use std::time::Duration;

use play::play;

/// What is fuzzed.
pub(crate) struct Target {
    /// Its name: of its test, and of its folder in `tests/fuzz`.
    pub(crate) name: &'static str,
    /// Panics where the bytes are not treated as promised.
    pub(crate) run: fn(&[u8]),
    /// What to begin with, beside the files of `tests/fuzz`.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// What its inputs are made of: words that chance alone would hardly find.
    pub(crate) words: &'static [&'static str],
    /// No input is longer.
    pub(crate) most_bytes: usize,
    /// How many alterations the tests play.
    pub(crate) runs: u64,
}

/// What the command asks for.
struct Asked {
    time: Duration,
    seed: u64,
    /// Where inputs are kept from one run to the next.
    folder: PathBuf,
}

impl Asked {
    fn of_environment() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        let number = |name: &str| variable(name).map(|text| text.parse().expect("a number"));
        Some(Self {
            time: Duration::from_secs(number("TIDEGATE_FUZZ_SECONDS")?),
            seed: number("TIDEGATE_FUZZ_SEED").unwrap_or(1),
            folder: variable("TIDEGATE_FUZZ_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from),
        })
    }
}

/// A folder or file of the tests.
pub(crate) fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests").join(path)
}

#[test]
fn lines() {
    play(&crate::source::fuzz::LINES);
}

#[test]
fn events() {
    play(&crate::event::fuzz::EVENTS);
}

#[test]
fn modules() {
    play(&crate::engine::fuzz::MODULES);
}

#[test]
fn answers() {
    play(&crate::engine::fuzz::ANSWERS);
}

#[test]
fn configurations() {
    play(&crate::config::fuzz::CONFIGURATIONS);
}

#[test]
fn notes() {
    play(&crate::pipeline::fuzz::NOTES);
}

#[test]
fn requests() {
    play(&crate::admin::fuzz::REQUESTS);
}
