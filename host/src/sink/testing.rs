//! For tests: where the real servers are that the stores are tried on, and a proxy before one.

#![allow(clippy::expect_used, clippy::panic)]

pub(crate) mod proxy;

use std::path::PathBuf;

/// What a stranger may write into a table: text that would be something else to a store that took it for a part of its
/// request. A `\0` is not among them, which PostgreSQL's text cannot hold.
pub(crate) const STRANGE_TEXTS: [&str; 18] = [
    "'",
    "\"",
    "\\",
    "\\\"",
    "'; DROP TABLE t; --",
    "\"; DROP TABLE t; --",
    "$1",
    "%s",
    "E'\\x27'",
    "a\nb",
    "\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "\n{\"delete\":{\"_index\":\"i\",\"_id\":\"k\"}}\n",
    "\u{2028}\u{2029}\u{85}",
    "../../_cluster/settings?x=#",
    "redis.call('FLUSHALL')",
    "*?[a-z]{tag}",
    "\u{1b}[2J\u{202e}",
    "NaN",
];

/// The address of a server: `redis`, `postgres`, `elasticsearch`, `opensearch` or `kafka`. `cargo xtask test` starts
/// them, and `cargo xtask services` does for a developer; the file of addresses is named by `TIDEGATE_SERVICES`.
pub(crate) fn service(name: &str) -> String {
    let file = std::env::var_os("TIDEGATE_SERVICES").map_or_else(default_file, PathBuf::from);
    let text = std::fs::read_to_string(&file)
        .unwrap_or_else(|e| panic!("{}: {e}: start the servers by `cargo xtask services`", file.display()));
    let addresses: serde_json::Value = serde_json::from_str(&text).expect("the file of addresses is JSON");
    addresses[name].as_str().unwrap_or_else(|| panic!("{} names no {name}", file.display())).to_owned()
}

/// Where servers of the tests' own are given ports. It lies below those that systems give to outgoing connections (from
/// 32768 on): a server that is away for a moment would lose such a port to somebody's connection.
const PORTS: std::ops::Range<u16> = 10_000..15_000;

/// A port that nobody listens on at the moment. Another process may be quicker: whoever starts a server there tries another
/// port when it does not come up.
pub(crate) fn free_port() -> u16 {
    let random = || PORTS.start + u16::try_from(getrandom::u32().unwrap_or_default() % 5_000).unwrap_or_default();
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(random).find(is_free).expect("there are ports")
}

/// In the folder of cargo's results: the test itself lies in its `debug/deps`.
fn default_file() -> PathBuf {
    let program = std::env::current_exe().expect("a test knows where it is");
    program.ancestors().nth(3).expect("three folders up").join("services/addresses.json")
}
