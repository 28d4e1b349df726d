//! From a module's bytes to something that can be started.

use std::fmt;
use std::sync::Arc;

use wasmtime::component::{Component, HasSelf, Linker};

use super::bindings::{self, TransformPre};
use super::error::LoadError;
use super::instance::{Instance, Mold, State};
use super::log::GuestLog;
use super::transform::Transform;
use super::{Engine, Limits};
use crate::contract::Description;
use crate::printable::{TEXT_BYTES, printable};

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

impl Module {
    pub(super) fn load(
        engine: &Engine,
        name: &str,
        bytes: &[u8],
        pinned: Option<&str>,
        limits: &Limits,
    ) -> Result<Self, LoadError> {
        if bytes.len() > limits.module_bytes {
            let (module, limit) = (name.to_owned(), limits.module_bytes);
            return Err(LoadError::TooLarge { module, bytes: bytes.len(), limit });
        }
        let digest = super::digest(bytes);
        if let Some(pinned) = pinned.filter(|pinned| *pinned != digest) {
            return Err(LoadError::OtherDigest { module: name.into(), found: digest, pinned: pinned.into() });
        }
        let component = Self::component(engine, name, bytes, &digest, limits)?;
        let pre = link(&engine.wasmtime, &component).map_err(|error| {
            let cause = printable(&format!("{error:#}"), TEXT_BYTES);
            LoadError::Mismatch { module: name.into(), cause }
        })?;
        let mold = Mold {
            pre,
            log: Arc::new(GuestLog::new(name, &digest)),
            memory_bytes: limits.memory_bytes,
            answer_bytes: limits.answer_bytes,
            start_deadline: limits.patience(),
        };
        Ok(Self { inner: Arc::new(Inner { name: name.into(), digest, limits: limits.clone(), mold }) })
    }

    /// The component, of cached code or compiled.
    fn component(
        engine: &Engine,
        name: &str,
        bytes: &[u8],
        digest: &str,
        limits: &Limits,
    ) -> Result<Component, LoadError> {
        let cache = engine.cache.as_deref();
        if let Some(code) = cache.and_then(|cache| cache.get(digest)) {
            match code.component(&engine.wasmtime) {
                Ok(component) => return Ok(component),
                Err(error) => tracing::warn!(digest, %error, "the cached code of this module is compiled anew"),
            }
        }
        let code = engine.compiling.compile(&engine.wasmtime, name, bytes, limits)?;
        let component = code
            .component(&engine.wasmtime)
            .map_err(|error| LoadError::CompilerFailed { module: name.into(), cause: format!("{error:#}") })?;
        if let Some(cache) = cache {
            cache.put(digest, &code);
        }
        Ok(component)
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

fn link(engine: &wasmtime::Engine, component: &Component) -> wasmtime::Result<TransformPre<State>> {
    let mut linker = Linker::new(engine);
    bindings::Transform::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    TransformPre::new(linker.instantiate_pre(component)?)
}
