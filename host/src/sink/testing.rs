//! For tests: where the real servers are that the stores are tried on, and a proxy before one.

#![allow(clippy::expect_used, clippy::panic)]

pub(crate) mod proxy;

use std::path::PathBuf;

/// The address of a server: `redis`, `postgres`, `elasticsearch`, `opensearch` or `kafka`. `cargo xtask test` starts
/// them, and `cargo xtask services` does for a developer; the file of addresses is named by `TIDEGATE_SERVICES`.
pub(crate) fn service(name: &str) -> String {
    let file = std::env::var_os("TIDEGATE_SERVICES").map_or_else(default_file, PathBuf::from);
    let text = std::fs::read_to_string(&file)
        .unwrap_or_else(|e| panic!("{}: {e}: start the servers by `cargo xtask services`", file.display()));
    let addresses: serde_json::Value = serde_json::from_str(&text).expect("the file of addresses is JSON");
    addresses[name].as_str().unwrap_or_else(|| panic!("{} names no {name}", file.display())).to_owned()
}

/// In the folder of cargo's results: the test itself lies in its `debug/deps`.
fn default_file() -> PathBuf {
    let program = std::env::current_exe().expect("a test knows where it is");
    program.ancestors().nth(3).expect("three folders up").join("services/addresses.json")
}
