//! Transforms from their modules: loaded, started with their settings, and held against what they are granted.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};

use super::prepare::LaneTransform;
use crate::command::Port;
use crate::command::check::Checker;
use crate::config::{self, Config};
use crate::contract::Description;
use crate::engine::{Engine, Module, Transform};
use crate::event::Projection;
use crate::sink::Declared;

/// A transform that has been started and held against its grants.
pub(super) struct Started {
    /// Its name in the configuration.
    pub(super) name: String,
    /// The transform, from which lanes get theirs.
    pub(super) transform: Transform,
    checker: Arc<Checker>,
}

impl Started {
    /// Its name, and the digest of its module.
    pub(super) fn identity(&self) -> (String, String) {
        (self.name.clone(), self.transform.module().digest().to_owned())
    }

    /// An instance for a lane.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn fork(&self) -> anyhow::Result<LaneTransform> {
        Ok(LaneTransform {
            name: self.name.clone(),
            transform: self.transform.fork()?,
            projection: Projection::new(&self.transform.description().inputs),
            checker: self.checker.clone(),
        })
    }
}

/// Loads a module, starts it with its settings, and holds what it declares against what it is granted.
pub(super) fn start(engine: &Engine, config: &Config, transform: &config::Transform) -> anyhow::Result<Started> {
    let name = transform.name.clone();
    let module = load(engine, config, transform)?;
    // A transform may quote its settings, and those may hold secrets.
    let started = module
        .start(&transform.settings)
        .map_err(|refused| anyhow!("{}", transform.settings.redact(&format!("{refused:#}"))))?;
    let checker = Checker::new(started.description(), &transform.grants.to_command())
        .map_err(|problems| anyhow!("transform `{name}`: {}", problems.join("; ")))?;
    Ok(Started { name, transform: started, checker: Arc::new(checker) })
}

/// Reads and compiles a transform's module, and holds it against the pinned digest.
fn load(engine: &Engine, config: &Config, transform: &config::Transform) -> anyhow::Result<Module> {
    let path = transform.module.as_path();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the module {}", transform.module.shown()))?;
    let module = engine.load(transform.name.as_str(), &bytes, &config.engine.limits)?;
    if let Some(pinned) = &transform.digest
        && pinned != module.digest()
    {
        bail!(
            "transform `{}`: the module {} has the digest {}, but {pinned} is pinned: bring the pinned module, or change \
             `digest`",
            transform.name,
            transform.module.shown(),
            module.digest()
        );
    }
    Ok(module)
}

/// What transforms will write through the ports of one sink.
pub(super) fn declared<'a>(ports: &[Port], descriptions: impl Iterator<Item = &'a Description>) -> Declared {
    let mut declared = Declared { ports: ports.to_vec(), ..Declared::default() };
    for description in descriptions {
        for port in ports {
            match port {
                Port::Tables => declared.tables.extend_from_slice(&description.tables),
                Port::Documents => declared.indexes.extend_from_slice(&description.indexes),
                Port::Messages => declared.topics.extend_from_slice(&description.topics),
                Port::Cache => declared.cache_keys.extend_from_slice(&description.cache_keys),
            }
        }
    }
    declared
}
