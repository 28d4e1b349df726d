//! placeholder

pub mod dead_letter;
