//! Messages to the operator, in the host's log.
//!
//! The host cuts a message to 4 KiB and drops what exceeds its rate limit. A message is no result: what must not be
//! lost is a command or a rejection. Natively, in tests, messages go to the standard error.

/// Something failed.
pub fn error(message: &str) {
    write(Level::Error, message);
}

/// Something is not as it should be, and the transform goes on.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Something that the operator may want to know.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Something that only the author wants to know.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

use crate::bindings::tidegate::transform::log::Level;

#[cfg(target_family = "wasm")]
fn write(level: Level, message: &str) {
    crate::bindings::tidegate::transform::log::write(level, message);
}

#[cfg(not(target_family = "wasm"))]
#[allow(clippy::print_stderr)]
fn write(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}
