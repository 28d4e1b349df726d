//! Runs transforms: verifies and compiles a module, keeps a warm instance, hands it batches, and contains what goes
//! wrong in it. The only module that names wasmtime; its one file is the cache of compiled code.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::contract::{Column, Description, RawCommand, Rejection};
use crate::event::Projected;

/// The bounds of a transform.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long one call may take, before it is tried alone with ten times as long.
    pub call_deadline: Duration,
    /// The linear memory of an instance, bytes.
    pub memory_bytes: usize,
    /// The module file, bytes.
    pub module_bytes: usize,
    /// Calls that an instance serves before it is replaced.
    pub calls_per_instance: u64,
    /// Commands that one change may make.
    pub commands_per_change: usize,
    /// Bytes of commands that one call may return.
    pub answer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_deadline: Duration::from_secs(1),
            memory_bytes: 64 << 20,
            module_bytes: 32 << 20,
            calls_per_instance: 100_000,
            commands_per_change: 1_000,
            answer_bytes: 64 << 20,
        }
    }
}

/// Compiles modules. One a process.
#[derive(Clone)]
pub struct Engine {
    cache: Option<PathBuf>,
}

/// A verified and compiled module.
#[derive(Clone)]
pub struct Module {
    digest: Arc<str>,
}

/// What the changes of one call have in common.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
    /// The table.
    pub table: &'a str,
    /// The columns, where the records came with their schema.
    pub columns: Option<&'a [Column]>,
}

/// The answer to one change.
pub type Outcome = Result<Vec<RawCommand>, Rejection>;

/// Why a module cannot serve. Each names the module, the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// to be completed by the implementation
    #[error("{0}")]
    Todo(String),
}

impl Engine {
    /// An engine that keeps compiled code in this folder.
    ///
    /// # Errors
    /// When the machine cannot run WebAssembly, or the folder cannot be used.
    pub fn new(cache: Option<PathBuf>) -> anyhow::Result<Self> {
        Ok(Self { cache })
    }

    /// Verifies and compiles a module. `name` is for messages.
    ///
    /// # Errors
    /// As [`LoadError`] says.
    pub fn load(&self, name: &str, bytes: &[u8], limits: &Limits) -> Result<Module, LoadError> {
        let _ = (&self.cache, name, bytes, limits);
        unimplemented!()
    }
}

impl Module {
    /// The SHA-256 of the module's bytes, lower-case hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Starts a transform with its settings (a JSON object) in a first instance, and gets its description.
    ///
    /// # Errors
    /// When it refuses the settings, traps, or describes what cannot be.
    pub fn start(&self, settings: &str) -> Result<Transform, LoadError> {
        let _ = settings;
        unimplemented!()
    }
}

/// A module with its settings, and a warm instance. One a lane.
pub struct Transform {
    description: Arc<Description>,
}

impl Transform {
    /// What it declared.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Another transform of the same module and settings, for another lane.
    ///
    /// # Errors
    /// As for [`Module::start`].
    pub fn fork(&self) -> Result<Self, LoadError> {
        unimplemented!()
    }

    /// Handles one batch: one outcome a change. A trap or a deadline is narrowed down to the change that causes it.
    pub fn apply(&mut self, batch: Batch<'_>, changes: &[Projected<'_>]) -> Vec<Outcome> {
        let _ = (batch, changes);
        unimplemented!()
    }
}
