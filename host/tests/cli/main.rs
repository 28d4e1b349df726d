//! The program as a user runs it: what it prints, and with which exit code it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod check;
mod dead_letters;
mod harness;
mod help;
mod new;
mod replay;
mod run;
