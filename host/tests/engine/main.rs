//! The engine against good and bad modules, and a pipeline whose modules are exchanged. The guest `hostile` (in `tests/hostile`) misbehaves as its settings say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

mod apply;
mod cache;
mod compile;
mod harness;
mod load;
mod log;
#[path = "../../src/engine/fuzz/made.rs"]
mod made;
mod narrow;
mod start;
mod swap;
