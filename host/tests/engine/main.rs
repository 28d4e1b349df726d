//! The engine against good and bad modules, and a pipeline whose modules are exchanged. The guest `hostile` (in `tests/hostile`) misbehaves as its settings say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod apply;
mod cache;
mod harness;
mod load;
mod log;
mod narrow;
mod start;
mod swap;
