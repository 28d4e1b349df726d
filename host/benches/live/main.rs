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
//! What the program takes of the machine while it has nothing to do, and how soon it is ready, is measured here too, since
//! it takes the same stores and the same events.
//!
//! `cargo xtask bench -- live`, or `-- live/redis` for one store; `-- sidecar` for what it takes. `TIDEGATE_SERVICES` names the file with the servers'
//! addresses; database 3 of Redis is emptied.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod broker;
mod commands;
mod events;
mod figures;
mod footprint;
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
    let wanted = |what: &str, id: &str| format!("{what}/{id}").starts_with(filter);
    let mut figures = Figures::default();
    let cases: Vec<_> =
        stores::CASES.iter().map(|case| (case, wanted("live", case.id), wanted("sidecar", case.id))).collect();
    let sqlite = wanted("sidecar", "sqlite");
    if sqlite || cases.iter().any(|(_, live, sidecar)| *live || *sidecar) {
        measure(&cases, sqlite, &mut figures);
    }
    if !figures.is_empty() {
        figures.write();
    }
}

/// Measures on real servers: of each case whether speed, and whether what the program takes, is wanted; of SQLite the
/// latter alone.
fn measure(cases: &[(&Case, bool, bool)], sqlite: bool, figures: &mut Figures) {
    let Some(file) = std::env::var_os("TIDEGATE_SERVICES") else {
        println!(
            "live: skipped, since TIDEGATE_SERVICES names no file with the servers' addresses: `cargo xtask bench`"
        );
        return;
    };
    let addresses = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let addresses = Addresses(serde_json::from_slice(&addresses).expect("TIDEGATE_SERVICES names a file of JSON"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if sqlite {
        runtime.block_on(async {
            let mut broker = Broker::new(addresses.get("kafka"));
            figures.footprint.push(footprint::measure_sqlite(&mut broker).await);
            broker.remove().await;
        });
    }
    for (case, live, sidecar) in cases.iter().filter(|(_, live, sidecar)| *live || *sidecar) {
        runtime.block_on(async {
            let mut broker = Broker::new(addresses.get("kafka"));
            let store = (case.open)(&addresses).await;
            if *live {
                figures.throughput.extend(throughput::measure(case, store.as_ref(), &mut broker).await);
                figures.latency.push(latency::measure(case, store.as_ref(), &mut broker).await);
            }
            if *sidecar {
                figures.footprint.push(footprint::measure(case, store.as_ref(), &mut broker).await);
            }
            store.remove().await;
            broker.remove().await;
        });
    }
}
