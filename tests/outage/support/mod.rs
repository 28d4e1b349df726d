//! What the tests of outages share.

mod broker;
mod certificates;
mod cutter;
mod events;
mod gate;
mod orders;
mod program;
mod servers;
mod stream;

use std::time::{Duration, Instant};

pub(super) use self::broker::{Broker, Topic};
pub(super) use self::certificates::{Authority, Identity};
pub(super) use self::cutter::{Cut, Cutter};
pub(super) use self::events::{BOOKSTORE, Event, books, documents, numbered, orders, repeated};
pub(super) use self::gate::{Gate, Request, Verdict};
pub(super) use self::orders::{ORDER_CACHE, Orders};
pub(super) use self::program::{Program, Run, cache_of, rows_of, settled};
pub(super) use self::servers::{Database, Folder, Http, jars, service};
pub(super) use self::stream::Stream;

/// How long anything may take that is waited for, on a machine that is busy with other things.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Looks until there is an answer.
///
/// # Panics
/// When there is none in time; `what` says what was waited for.
pub(super) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A name that no other test and no other run has, of letters and digits.
pub(super) fn unique(what: &str) -> String {
    format!("outage_{what}_{:016x}", getrandom::u64().unwrap())
}
