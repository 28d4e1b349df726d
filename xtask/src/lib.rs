//! The build tool of the workspace, `cargo xtask`: the only one there is.
//!
//! It is a library so that tests can make the demo's folder ([`demo::prepare`]) and hold a store against the source
//! ([`verify::verify`]) as the demo does.

pub mod bench;
pub mod console;
pub mod demo;
pub mod faults;
pub mod fuzz;
pub mod guests;
mod seeds;
pub mod services;
pub mod test;
pub mod verify;
pub mod workspace;
