//! Fuzzing of modules, and of what they answer: bytes are a module that keeps within its bounds, or are refused in words
//! that name it; an answer becomes commands that can be executed, or a rejection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

mod answers;
mod made;
mod modules;

pub(crate) use answers::ANSWERS;
pub(crate) use modules::MODULES;
