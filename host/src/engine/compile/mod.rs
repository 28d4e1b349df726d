//! Where a module's bytes are verified and compiled: in a process of its own, within limits, or in this one.
//!
//! Both read bytes of a stranger, and take as long and as much memory as the bytes ask for. A process can be ended; a
//! thread cannot. What ends the process is a refused module.

mod child;
mod here;
mod nesting;
mod parent;
mod refusal;

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::Limits;
use super::code::Code;
use super::error::LoadError;

pub use child::serve as compile_for_parent;
pub(super) use refusal::Refusal;

/// Modules that are compiled at a time. Another waits, and its time does not run yet.
const AT_A_TIME: usize = 2;

/// Where an [`Engine`](super::Engine) has modules compiled.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// In a process of its own: this program (`tidegate`), started again by `tidegate compile-module`.
    Child(PathBuf),
    /// In this process, where nothing bounds what that takes: for the child itself, and for fuzzing, tests and
    /// benchmarks whose program is not `tidegate`.
    Here,
}

impl Compiler {
    /// In a child of the program that runs. Only `tidegate` itself may ask for it.
    ///
    /// # Errors
    /// When the system does not say which file that is.
    pub fn this_program() -> std::io::Result<Self> {
        // Linux runs the very file, also when another has taken its place meanwhile.
        let file = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
        Ok(Self::Child(file))
    }
}

/// The compiler of an engine.
#[derive(Debug, Clone)]
pub(super) struct Compiling {
    compiler: Compiler,
    places: Arc<Places>,
}

impl Compiling {
    pub(super) fn new(compiler: Compiler) -> Self {
        let places = Arc::new(Places { free: Mutex::new(AT_A_TIME), freed: Condvar::new() });
        Self { compiler, places }
    }

    /// Verifies and compiles a module.
    pub(super) fn compile(
        &self,
        engine: &wasmtime::Engine,
        module: &str,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Code, LoadError> {
        match &self.compiler {
            Compiler::Here => here::compile(engine, bytes).map_err(|failure| failure.of(module)),
            Compiler::Child(program) => {
                let _place = self.places.take();
                parent::compile(program, module, bytes, limits)
            }
        }
    }
}

/// Places for those that compile.
#[derive(Debug)]
struct Places {
    free: Mutex<usize>,
    freed: Condvar,
}

struct Place<'a>(&'a Places);

impl Places {
    /// Waits for a place.
    fn take(&self) -> Place<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Place(self)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
