//! What a module makes the host hold, measured: each case runs in a process of its own, whose memory is read.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alone;
mod answers;
mod declarations;
mod store;
