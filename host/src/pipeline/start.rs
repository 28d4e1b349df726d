//! Transforms from their modules: loaded, started with their settings, and held against what they are granted.

use std::sync::Arc;

use anyhow::{Context, anyhow};

use super::prepare::LaneTransform;
use crate::command::Port;
use crate::command::check::Checker;
use crate::config::{self, Config};
use crate::contract::Description;
use crate::engine::{Engine, Limits, Transform};
use crate::event::Projection;
use crate::sink::Declared;

/// A transform that has been started and held against its grants.
pub(super) struct Started {
    name: String,
    /// From which lanes get theirs.
    transform: Transform,
    checker: Arc<Checker>,
}

impl Started {
    /// Its name in the configuration.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What it declares.
    pub(super) fn description(&self) -> &Description {
        self.transform.description()
    }

    /// The SHA-256 of its module.
    pub(super) fn digest(&self) -> &str {
        self.transform.module().digest()
    }

    /// Its name, and the digest of its module.
    pub(super) fn identity(&self) -> (String, String) {
        (self.name.clone(), self.digest().to_owned())
    }

    /// An instance for a lane.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn fork(&self) -> anyhow::Result<LaneTransform> {
        Ok(LaneTransform {
            name: self.name.clone(),
            transform: self.transform.fork()?,
            projection: Projection::new(&self.description().inputs),
            checker: self.checker.clone(),
        })
    }
}

/// Loads a transform's module from its file, and starts it.
///
/// # Errors
/// As [`start_from`]; when the file cannot be read.
pub(super) fn start(engine: &Engine, config: &Config, transform: &config::Transform) -> anyhow::Result<Started> {
    let path = transform.module.as_path();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the module {}", transform.module.shown()))?;
    start_from(engine, &config.engine.limits, transform, &bytes)
}

/// Loads a module, if it is the pinned one, starts it with its settings, and holds what it declares against what it is
/// granted.
///
/// # Errors
/// When it cannot serve; the text names the cause and the remedy.
pub(super) fn start_from(
    engine: &Engine,
    limits: &Limits,
    transform: &config::Transform,
    bytes: &[u8],
) -> anyhow::Result<Started> {
    let name = transform.name.clone();
    let module = engine.load_pinned(&name, bytes, transform.digest.as_deref(), limits)?;
    // A transform may quote its settings, and those may hold secrets.
    let started = module
        .start(&transform.settings)
        .map_err(|refused| anyhow!("{}", transform.settings.redact(&format!("{refused:#}"))))?;
    let checker = Checker::new(started.description(), &transform.grants.to_command())
        .map_err(|problems| anyhow!("transform `{name}`: {}", problems.join("; ")))?;
    Ok(Started { name, transform: started, checker: Arc::new(checker) })
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
