//! placeholder
mod schema;
pub mod value;
