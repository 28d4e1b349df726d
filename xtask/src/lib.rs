//! The build tool of the workspace, `cargo xtask`: the only one there is.

pub mod bench;
pub mod console;
pub mod guests;
pub mod test;
pub mod workspace;
