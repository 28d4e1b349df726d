//! What it costs that modules are compiled in a process of their own: the same modules, without a cache of compiled code,
//! by a child of the program and in this process, by turns; the
//! quickest of each counts. Cold is the module alone; the program's file is in the system's
//! page cache, as it is while it runs.
//!
//! `TIDEGATE_GUESTS=target/guests cargo bench --workspace --bench compile`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tidegate::engine::{Compiler, Engine, Limits};

const TIMES: usize = 15;

fn main() {
    // `cargo test --benches` builds and starts it without this, to see that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder =
        PathBuf::from(std::env::var_os("TIDEGATE_GUESTS").expect("TIDEGATE_GUESTS names the folder of the modules"));
    let program = Compiler::Child(env!("CARGO_BIN_EXE_tidegate").into());
    let [here, child] = [Compiler::Here, program].map(|compiler| Engine::new(None, compiler).unwrap());
    for name in ["cache_invalidation", "order_cache", "company_search"] {
        let bytes = fs::read(folder.join(format!("{name}.wasm"))).unwrap();
        let load = |engine: &Engine| {
            let begun = Instant::now();
            engine.load(name, &bytes, &Limits::default()).unwrap();
            begun.elapsed()
        };
        let both: Vec<[Duration; 2]> = (0..TIMES).map(|_| [load(&here), load(&child)]).collect();
        let [here, child] = [0, 1].map(|place| quickest(both.iter().map(|one| one[place])));
        println!("{name}: in this process {here:.0} ms, in a child {child:.0} ms: {:+.0} ms", child - here);
    }
}

/// Milliseconds of the one that other work disturbed least.
fn quickest(times: impl Iterator<Item = Duration>) -> f64 {
    times.min().unwrap().as_secs_f64() * 1e3
}
