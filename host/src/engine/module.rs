//! From a module's bytes to something that can be started.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use wasmtime::component::{Component, HasSelf, Linker};

use super::bindings::{self, TransformPre};
use super::cache::Cache;
use super::error::LoadError;
use super::instance::{Instance, Mold, State};
use super::log::GuestLog;
use super::transform::Transform;
use super::{Limits, verify};
use crate::contract::Description;

/// A verified and compiled module. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    digest: String,
    limits: Limits,
    mold: Mold,
}

/// Gives back what compiling took. glibc keeps freed memory for the threads that had it: some 15 MiB that nobody needs
/// until another module comes, in a process that has 50.
fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes a number of bytes and no pointer, may be called from any thread (malloc_trim(3): MT-Safe),
    // and touches nothing that is not free.
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
}

impl Module {
    pub(super) fn load(
        engine: &wasmtime::Engine,
        cache: Option<&Cache>,
        name: &str,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Self, LoadError> {
        if bytes.len() > limits.module_bytes {
            let (module, limit) = (name.to_owned(), limits.module_bytes);
            return Err(LoadError::TooLarge { module, bytes: bytes.len(), limit });
        }
        let digest = super::digest(bytes);
        let component = match cache.and_then(|cache| cache.get(engine, &digest)) {
            Some(component) => component,
            None => {
                let component = contained(name, || {
                    Component::from_binary(engine, &verify::component(name, bytes)?)
                        .map_err(|error| LoadError::Compile { module: name.into(), cause: format!("{error:#}") })
                })?;
                if let Some(cache) = cache {
                    cache.put(&digest, &component);
                }
                give_back_memory();
                component
            }
        };
        let pre = link(engine, &component)
            .map_err(|error| LoadError::Mismatch { module: name.into(), cause: format!("{error:#}") })?;
        let mold = Mold {
            pre,
            log: Arc::new(GuestLog::new(name, &digest)),
            memory_bytes: limits.memory_bytes,
            answer_bytes: limits.answer_bytes,
            start_deadline: limits.patience(),
        };
        Ok(Self { inner: Arc::new(Inner { name: name.into(), digest, limits: limits.clone(), mold }) })
    }

    /// The name that it was loaded under.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The SHA-256 of the module's bytes, lower-case hexadecimal.
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    /// Starts a transform with its settings (a JSON object) in a first instance, and gets its description.
    ///
    /// # Errors
    /// When it refuses the settings, traps, does not answer in time, or declares what cannot be.
    pub fn start(&self, settings: &str) -> Result<Transform, LoadError> {
        let (instance, description) = self.instance(settings)?;
        Ok(Transform::new(self.clone(), settings.into(), Arc::new(description), instance))
    }

    pub(super) fn instance(&self, settings: &str) -> Result<(Instance, Description), LoadError> {
        Instance::start(&self.inner.mold, &self.inner.name, settings)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.inner.limits
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("name", &self.name()).field("digest", &self.digest()).finish_non_exhaustive()
    }
}

/// What reads a module's types trusts what stands in them, and panics where they refer to what is not there. Nothing
/// outlives such a failure but the bytes.
fn contained<T>(name: &str, work: impl FnOnce() -> Result<T, LoadError>) -> Result<T, LoadError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let cause = "its types cannot be made sense of".into();
        Err(LoadError::Damaged { module: name.into(), cause })
    })
}

fn link(engine: &wasmtime::Engine, component: &Component) -> wasmtime::Result<TransformPre<State>> {
    let mut linker = Linker::new(engine);
    bindings::Transform::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    TransformPre::new(linker.instantiate_pre(component)?)
}
