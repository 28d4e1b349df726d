//! What an instance may take of the machine: memory, tables, and how many of each.

use std::fmt;

use wasmtime::ResourceLimiter;

/// Elements of all tables of a component; a table holds the functions that are called by pointer.
const TABLE_ELEMENTS: usize = 100_000;
/// A component has one instance of its code and a few small ones that adapt it; one in Python has 40, since each part of its
/// runtime is a module.
const INSTANCES: usize = 64;
const TABLES: usize = 16;
const MEMORIES: usize = 4;

/// Counts what an instance holds, and refuses what exceeds it.
#[derive(Debug)]
pub(super) struct Quota {
    memory_limit: usize,
    memory: usize,
}

impl Quota {
    pub(super) fn new(memory_limit: usize) -> Self {
        Self { memory_limit, memory: 0 }
    }

    /// What all memories hold, bytes.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }
}

/// The memory limit was hit. It ends the call, since a guest that is told of a failed allocation only traps with less
/// to say.
#[derive(Debug)]
pub(super) struct OutOfMemory {
    limit: usize,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "it asked for more than the {} bytes of memory that it may have: raise `memory_mb` in [engine], or have it keep less",
            self.limit
        )
    }
}

impl std::error::Error for OutOfMemory {}

/// A table would have had too many elements.
#[derive(Debug)]
pub(super) struct TableTooLarge;

impl fmt::Display for TableTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it asked for a table of more than the {TABLE_ELEMENTS} elements that one may have")
    }
}

impl std::error::Error for TableTooLarge {}

/// Which of the numbers that cannot be configured wasmtime says was exceeded.
pub(super) fn exceeded(cause: &str) -> Option<String> {
    // wasmtime has no type for this error; `limits_are_named` holds its words.
    let (_, rest) = cause.split_once("resource limit exceeded: ")?;
    let (kind, _) = rest.split_once(" count too high")?;
    let (limit, what) = match kind {
        "instance" => (INSTANCES, "instances of core modules"),
        "table" => (TABLES, "tables"),
        "memory" => (MEMORIES, "memories"),
        _ => return None,
    };
    Some(format!("it has more than {limit} {what}, and that cannot be raised: link it to fewer"))
}

impl ResourceLimiter for Quota {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        // The limit holds for all memories of the instance together.
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        if total > self.memory_limit {
            return Err(wasmtime::Error::new(OutOfMemory { limit: self.memory_limit }));
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS {
            return Err(wasmtime::Error::new(TableTooLarge));
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}
