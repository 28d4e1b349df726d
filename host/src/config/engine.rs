//! The block `[engine]`: how transforms are run, and within which bounds.

use std::env::VarError;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::block::Block;
use super::text::FilePath;
use crate::engine::Limits;

/// `[engine]`.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// The folder of compiled code; none keeps none.
    pub cache: Option<FilePath>,
    /// The bounds of each instance.
    pub limits: Limits,
    /// How long the end of a run may take that was asked to end.
    pub shutdown: Duration,
}

pub(super) fn read(root: &mut Block<'_>) -> EngineSettings {
    let default_cache = default_cache(root.document().lookup.environment);
    let mut limits = Limits::default();
    let mut shutdown = Duration::from_secs(30);
    let Some(mut block) = root.block("engine") else {
        return EngineSettings { cache: default_cache, limits, shutdown };
    };

    let cache = match block.raw("cache") {
        None => default_cache,
        Some((_, DeValue::Boolean(false))) => None,
        Some((place, DeValue::Boolean(true))) => {
            let cause = "true is neither a folder nor false";
            block.document().problem(&place, cause, "leave the key out for the default folder, or name one");
            None
        }
        Some(_) => block.path("cache").map(|path| path.value),
    };
    if let Some(milliseconds) = block.number("deadline_ms", &(1..=600_000)) {
        limits.call_deadline = Duration::from_millis(milliseconds);
    }
    if let Some(mebibytes) = block.number("memory_mb", &(1..=4096)) {
        limits.memory_bytes = to_usize(mebibytes << 20);
    }
    if let Some(mebibytes) = block.number("max_module_mb", &(1..=1024)) {
        limits.module_bytes = to_usize(mebibytes << 20);
    }
    if let Some(seconds) = block.number("compile_seconds", &(1..=3600)) {
        limits.compile_time = Duration::from_secs(seconds);
    }
    if let Some(mebibytes) = block.number("compile_memory_mb", &(64..=65_536)) {
        limits.compile_memory_bytes = to_usize(mebibytes << 20);
    }
    if let Some(calls) = block.number("calls_per_instance", &(1..=1_000_000_000)) {
        limits.calls_per_instance = calls;
    }
    if let Some(commands) = block.number("max_commands_per_change", &(1..=1_000_000)) {
        limits.commands_per_change = to_usize(commands);
    }
    if let Some(mebibytes) = block.number("max_answer_mb", &(1..=4096)) {
        limits.answer_bytes = to_usize(mebibytes << 20);
    }
    if let Some(seconds) = block.number("shutdown_seconds", &(1..=3600)) {
        shutdown = Duration::from_secs(seconds);
    }
    block.finish("key");
    EngineSettings { cache, limits, shutdown }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// `$XDG_CACHE_HOME/tidegate`, else `~/.cache/tidegate`; none where neither variable is set.
fn default_cache(environment: &dyn Fn(&str) -> Result<String, VarError>) -> Option<FilePath> {
    let set = |name| environment(name).ok().filter(|value| Path::new(value).is_absolute()).map(PathBuf::from);
    let caches = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(FilePath::plain(caches.join("tidegate")))
}
