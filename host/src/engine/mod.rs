//! Runs transforms: verifies and compiles a module, keeps a warm instance, hands it batches, and contains what goes
//! wrong in it. The only module that names wasmtime; its one file is the cache of compiled code.
//!
//! [`Engine::load`] makes a [`Module`] of bytes, [`Module::start`] a [`Transform`] of a module and settings, and
//! [`Transform::apply`] handles a batch. A module is given nothing but its input: no clock, no randomness, no network
//! and no files. What goes wrong in it is an error or a rejection with a reason, never a panic.

mod bindings;
mod cache;
mod code;
mod compile;
mod convert;
mod describe;
mod error;
#[cfg(test)]
pub(crate) mod fuzz;
mod instance;
mod limits;
mod log;
mod module;
mod transform;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use sha2::{Digest as _, Sha256};
use wasmtime::{Config, OptLevel, Strategy};

use crate::contract::{Column, RawCommand, Rejection};
use cache::Cache;
use compile::Compiling;

pub use compile::{Compiler, compile_for_parent};
pub use error::{ApplyError, LoadError};
pub use module::Module;
pub use transform::Transform;

/// The contract's package.
const PACKAGE: &str = "tidegate:transform";
/// The version of it that the host was built with.
const CONTRACT: &str = "0.1.0";
/// How finely deadlines are kept.
const TICK: Duration = Duration::from_millis(5);
/// The native stack of a call. Beyond it the guest traps.
const STACK_BYTES: usize = 512 << 10;
/// Address space, not memory: with all that a 32-bit guest can address reserved, no access needs a bounds check.
const RESERVED_BYTES: u64 = 4 << 30;

/// The bounds of a transform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long one call may take. A change that takes longer is tried alone with ten times as long, and so long may
    /// a start take.
    pub call_deadline: Duration,
    /// The linear memory of an instance, bytes.
    pub memory_bytes: usize,
    /// The module file, bytes.
    pub module_bytes: usize,
    /// How long a module may take to be verified and compiled.
    pub compile_time: Duration,
    /// The memory that this may take, bytes.
    pub compile_memory_bytes: usize,
    /// Calls that an instance serves before it is replaced.
    pub calls_per_instance: u64,
    /// Commands that one change may make.
    pub commands_per_change: usize,
    /// Bytes that one call may return, as the host holds them: some hundred a command beside its texts.
    pub answer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_deadline: Duration::from_secs(1),
            memory_bytes: 256 << 20,
            module_bytes: 32 << 20,
            compile_time: Duration::from_secs(60),
            compile_memory_bytes: 512 << 20,
            calls_per_instance: 100_000,
            commands_per_change: 1_000,
            answer_bytes: 64 << 20,
        }
    }
}

impl Limits {
    /// How long a start, and a change that is tried alone, may take.
    fn patience(&self) -> Duration {
        self.call_deadline.saturating_mul(10)
    }
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

/// The SHA-256 of a module's bytes, lower-case hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compiles modules. One a process; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    wasmtime: wasmtime::Engine,
    compiling: Compiling,
    cache: Option<Arc<Cache>>,
}

impl Engine {
    /// An engine that has modules compiled there, and keeps compiled code in this folder, which is made where it is missing.
    /// The folder must belong to the user alone (mode 0700).
    ///
    /// # Errors
    /// When the machine cannot run WebAssembly, or the folder cannot be used.
    pub fn new(cache: Option<PathBuf>, compiler: Compiler) -> anyhow::Result<Self> {
        let wasmtime = wasmtime::Engine::new(&config()).map_err(|error| anyhow!("{error:#}"))?;
        let open = |folder: PathBuf| {
            let shown = folder.display().to_string();
            let cache = Cache::open(&folder, &wasmtime);
            cache.with_context(|| format!("the folder {shown} cannot hold compiled code"))
        };
        let cache = cache.map(open).transpose()?.map(Arc::new);
        tick(&wasmtime)?;
        Ok(Self { wasmtime, compiling: Compiling::new(compiler), cache })
    }

    /// Verifies and compiles a module, which takes some 100 ms unless its code is cached. `name` is for messages.
    ///
    /// # Errors
    /// As [`LoadError`] says.
    pub fn load(&self, name: &str, bytes: &[u8], limits: &Limits) -> Result<Module, LoadError> {
        self.load_pinned(name, bytes, None, limits)
    }

    /// The same with a digest, where one is pinned: other bytes are refused before anything in them is read.
    ///
    /// # Errors
    /// As [`LoadError`] says.
    pub fn load_pinned(
        &self,
        name: &str,
        bytes: &[u8],
        pinned: Option<&str>,
        limits: &Limits,
    ) -> Result<Module, LoadError> {
        Module::load(self, name, bytes, pinned, limits)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("compiling", &self.compiling).field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// Speed where batches run, and nothing that transforms do not need. Proposals whose crate features are not compiled
/// in (threads, garbage collection, exceptions, async components) are off already.
fn config() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .memory_reservation(RESERVED_BYTES)
        .memory_init_cow(true)
        .wasm_component_model(true)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false)
        .wasm_stack_switching(false)
        // Transforms are built without names: a backtrace would cost and say nothing.
        .wasm_backtrace_max_frames(None);
    config
}

/// Moves the engine's clock, by which deadlines are kept, for as long as there is an engine.
fn tick(engine: &wasmtime::Engine) -> anyhow::Result<()> {
    let engine = engine.weak();
    let run = move || {
        loop {
            thread::sleep(TICK);
            let Some(engine) = engine.upgrade() else { break };
            engine.increment_epoch();
        }
    };
    thread::Builder::new().name("deadlines".into()).spawn(run).context("the thread for deadlines cannot be started")?;
    Ok(())
}
