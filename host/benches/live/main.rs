//! From Kafka into each store, beside a bare client of that store: events a second, and how long one event takes.
//!
//! Captured records, multiplied under keys of their own, lie in topics before anything is measured. Then two take
//! turns, several times, and the best of each counts:
//! - tidegate's pipeline with the transform that the system uses, from its first claim to the last event durable in the
//!   store;
//! - a client of the store that is handed the very same commands from memory, in batches of the same size: no ledger,
//!   no fence, no Kafka, no WebAssembly. Each of its connections has two batches on the way.
//!
//! The store is empty before each turn. Topics of one partition are served by one lane and compared with one
//! connection; those of three by all lanes, with as many connections.
//!
//! For the latency one record at a time is produced, and the store is asked over and over until it has it.
//!
//! `cargo xtask bench -- live`, or `-- live/redis` for one store. `TIDEGATE_SERVICES` names the file with the servers'
//! addresses; database 3 of Redis is emptied.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod broker;
mod commands;
mod events;
mod figures;
mod host;
mod latency;
mod stores;
mod throughput;

use std::fs;

use self::broker::Broker;
use self::figures::Figures;
use self::stores::Case;

/// Where the servers are.
struct Addresses(serde_json::Value);

impl Addresses {
    fn get(&self, server: &str) -> &str {
        self.0[server].as_str().unwrap_or_else(|| panic!("the file of TIDEGATE_SERVICES has no address of {server}"))
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` builds and starts it without this, to see that it starts.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    let wanted = |case: &&Case| format!("live/{}", case.id).starts_with(filter);
    if !stores::CASES.iter().any(|case| wanted(&case)) {
        return;
    }
    let Some(file) = std::env::var_os("TIDEGATE_SERVICES") else {
        println!(
            "live: skipped, since TIDEGATE_SERVICES names no file with the servers' addresses: `cargo xtask bench`"
        );
        return;
    };
    let addresses = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let addresses = Addresses(serde_json::from_slice(&addresses).expect("TIDEGATE_SERVICES names a file of JSON"));

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut figures = Figures::default();
    for case in stores::CASES.iter().filter(wanted) {
        runtime.block_on(async {
            let mut broker = Broker::new(addresses.get("kafka"));
            let store = (case.open)(&addresses).await;
            figures.throughput.extend(throughput::measure(case, store.as_ref(), &mut broker).await);
            figures.latency.push(latency::measure(case, store.as_ref(), &mut broker).await);
            store.remove().await;
            broker.remove().await;
        });
    }
    figures.write();
}
