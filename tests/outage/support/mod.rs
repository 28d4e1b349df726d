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

pub(crate) use self::broker::{Broker, Topic};
pub(crate) use self::certificates::{Authority, Identity};
pub(crate) use self::cutter::{Cut, Cutter};
pub(crate) use self::events::{BOOKSTORE, Event, MIRROR, books, documents, numbered, orders, repeated};
pub(crate) use self::gate::{Gate, Request, Verdict};
pub(crate) use self::orders::{ORDER_CACHE, Orders};
pub(crate) use self::program::{Program, Run, cache_of, rows_of, settled};
pub(crate) use self::servers::{Database, Folder, Http, connect, jars, service};
pub(crate) use self::stream::Stream;

/// How long anything may take that is waited for, on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// How long to pause between two looks: who looks all the time takes the processor from what it waits for.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until there is an answer.
///
/// # Panics
/// When there is none in time; `what` says what was waited for.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::park_timeout(PAUSE);
    }
}

/// A name that no other test and no other run has, of letters and digits.
pub(crate) fn unique(what: &str) -> String {
    format!("outage_{what}_{:016x}", getrandom::u64().unwrap())
}
