//! What transforms write to the log, and what happens when the log is slow.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tidegate::engine::{ApplyError, Limits, LoadError, Module};

use crate::harness::{engine, fails, hasty, hostile, limited, module, rejected};

/// Writes to a buffer. Where a delay is given, each message takes so long to be written: the host is slow, not the
/// guest.
#[derive(Clone)]
struct Buffer {
    text: Arc<Mutex<Vec<u8>>>,
    delay: Option<Duration>,
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(delay) = self.delay {
            thread::sleep(delay);
        }
        self.text.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs it, and gives what was logged meanwhile on this thread.
pub(crate) fn capture<T>(delay: Option<Duration>, run: impl FnOnce() -> T) -> (String, T) {
    let buffer = Buffer { text: Arc::default(), delay };
    let writer = buffer.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    let result = tracing::subscriber::with_default(subscriber, run);
    let text = buffer.text.lock().unwrap().clone();
    (String::from_utf8(text).unwrap(), result)
}

/// A module that shares its log's rate with no other test.
fn own_module() -> Module {
    engine().load("hostile", hostile(), &Limits::default()).unwrap()
}

#[test]
fn messages_bear_level_module_and_digest_and_are_cut_and_escaped() {
    let mut transform = own_module().start(&json!({ "do": "levels" }).to_string()).unwrap();
    let digest = transform.module().digest().to_owned();
    let (log, _) = capture(None, || rejected(&mut transform, 1, &[]));
    let lines: Vec<&str> = log.lines().map(str::trim_start).collect();
    let cut = format!("{}…", "x".repeat(4096));
    for (line, (level, text)) in lines.iter().zip([
        ("ERROR", "an error"),
        ("WARN", "a warning"),
        ("INFO", "two\\nlines"),
        ("DEBUG", cut.as_str()),
    ]) {
        assert!(line.starts_with(level) && line.contains(text), "{line}");
        assert!(line.contains("module=\"hostile\"") && line.contains(&format!("digest=\"{digest}\"")), "{line}");
    }
    assert_eq!(lines.len(), 4);
}

#[test]
fn a_flood_is_cut_and_told() {
    let mut transform = own_module().start(&json!({ "do": "flood" }).to_string()).unwrap();
    let (log, _) = capture(None, || rejected(&mut transform, 2, &[]));
    // A hundred at once, and twenty for each second that the machine took.
    let written = log.lines().filter(|line| line.contains(": message ")).count();
    assert!((100..1_000).contains(&written), "{written} of 10000 messages");
}

#[test]
fn a_change_that_is_slow_is_handled_at_the_second_try() {
    let limits = Limits { call_deadline: Duration::from_millis(250), ..Limits::default() };
    let mut transform = limited(&json!({ "do": "slow", "at": [1] }), &limits);
    let (log, _) = capture(Some(Duration::from_millis(600)), || rejected(&mut transform, 2, &[]));
    assert_eq!(log.lines().count(), 3, "in the batch, alone, and alone with more time");
}

#[test]
fn a_fresh_instance_that_cannot_be_had_is_an_error_not_a_rejection() {
    let started = module(&hasty()).start(&json!({ "start": "tell", "do": "trap", "at": [1] }).to_string());
    let mut transform = started.unwrap();
    let (_, error) = capture(Some(Duration::from_millis(800)), || fails(&mut transform, 3));
    assert!(matches!(error, ApplyError::Start(LoadError::Start { .. })), "{error}");
    // What was in the way is gone: the same batch is handled.
    rejected(&mut transform, 3, &[1]);
}
