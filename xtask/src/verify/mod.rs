//! Proves that the store equals the source, value by value.
//!
//! It shares no code with the host and the SDK: it reads the capture and the store anew, compares numbers by their
//! digits, times as instants and JSON as JSON, and derives from the recorded events what only they can tell.

pub mod bookstore_analytics;
mod cache_invalidation;
pub mod check;
pub mod company_search;
mod decimal;
mod instant;
pub mod json;
mod order_cache;
pub mod recorded;
pub mod source;
pub mod store;
pub mod trackops_cache;
pub mod value;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use check::{Difference, Verdict};
use recorded::Change;
use source::Source;
use store::Store;

/// A system: its name, which its pipeline and its sink bear too, the folder of its captured events, and its rule.
pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) folder: &'static str,
    rule: fn(&mut Verdict, &Store, &Source, &[Change]) -> anyhow::Result<()>,
}

/// The five systems.
pub(crate) const SYSTEMS: [System; 5] = [
    System { name: "order-cache", folder: "order-cache", rule: order_cache::check },
    System { name: "cache-invalidation", folder: "cdc-cascade", rule: cache_invalidation::check },
    System { name: "bookstore-analytics", folder: "bookstore-analytics", rule: bookstore_analytics::check },
    System { name: "trackops-cache", folder: "trackops-cache", rule: trackops_cache::check },
    System { name: "company-search", folder: "company-search", rule: company_search::check },
];

/// Holds the store against the capture, system by system.
///
/// # Errors
/// When the store or the capture cannot be read at all. What differs is no error: it is in the verdicts.
pub fn verify(store: &Path, corpus: &Path) -> anyhow::Result<Vec<Verdict>> {
    let store = Store::open(store)?;
    let mut verdicts = Vec::new();
    for system in &SYSTEMS {
        let folder = corpus.join(system.folder);
        let source = Source::read(&folder)?;
        let changes = recorded::read(&folder)?;
        let mut verdict = Verdict::new(system.name);
        if let Err(error) = (system.rule)(&mut verdict, &store, &source, &changes) {
            verdict.differs("the store", None, "what the system keeps", format!("{error:#}"));
        }
        verdicts.push(verdict);
    }
    Ok(verdicts)
}
