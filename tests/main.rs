//! The program as its users run it: the real binary over files of events, its stores read back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // what a failing test has to tell

mod admin;
mod bad_events;
mod bad_modules;
mod compose;
mod crash;
mod deploy;
mod docs;
mod live;
mod outage;
mod page;
mod private_files;
mod rewind;
mod schedules;
mod stop;
mod store_away;
mod two_writers;
