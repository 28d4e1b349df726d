//! Answers over HTTP: whether the program lives and is ready, what it counts, what its pipelines do, and the few things
//! that an operator may do to them. `openapi.json` describes every route, and is served itself.
//!
//! Nothing here is on the data's path: it reads counters that the lanes raise, and sets a flag that they look at.

mod answer;
mod body;
mod dead_letters;
#[cfg(test)]
pub(crate) mod fuzz;
mod guard;
mod history;
mod metrics;
mod modules;
mod page;
mod pipelines;
mod places;
mod probes;
mod quota;
mod routes;
mod samples;
mod server;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;

use self::guard::Access;
use self::quota::Quotas;
use self::samples::Samples;
pub use self::server::Server;
use crate::config::Config;
use crate::pipeline::Observed;
use crate::registry::Registry;

/// What handlers know.
#[derive(Debug)]
struct State {
    config: Config,
    observed: Arc<Observed>,
    /// The modules, once they are loaded.
    registry: OnceLock<Registry>,
    access: Access,
    samples: Samples,
    quotas: Quotas,
    /// Held while dead letters or histories are read: they may be many.
    reading: Arc<Semaphore>,
    /// Held while the body of a change is in memory.
    changing: Semaphore,
}

/// Serves what a configuration's `[admin]` asks for until the answer is dropped; none where there is no such block.
/// Says where it listens.
///
/// # Errors
/// When the address cannot be listened on.
pub fn start(config: &Config, observed: Arc<Observed>) -> anyhow::Result<Option<Server>> {
    let Some(admin) = &config.admin else { return Ok(None) };
    let access = Access::new(&admin.listen, admin.token.as_deref());
    let state = State {
        config: config.clone(),
        samples: Samples::new(observed.pipelines().len()),
        observed,
        registry: OnceLock::new(),
        access,
        quotas: Quotas::default(),
        reading: Arc::new(Semaphore::new(1)),
        changing: Semaphore::new(1),
    };
    let server = Server::start(&admin.listen, Arc::new(state), admin.timeout)?;
    let address = server.address();
    let reached =
        if admin.is_local() { "this machine alone reaches it" } else { "other machines reach it, over plain HTTP" };
    let asked = if admin.token.is_some() { "it asks for the token" } else { "it asks for no token" };
    tracing::info!(address, "the admin API listens: {reached}, and {asked}");
    Ok(Some(server))
}
