//! order-cache: the cache holds each living row under `order:{id}` for 600 seconds, and nothing else.

use super::check::{self, Verdict};
use super::recorded::{Change, Images};
use super::source::Source;
use super::store::Store;

pub(super) fn check(verdict: &mut Verdict, store: &Store, source: &Source, changes: &[Change]) -> anyhow::Result<()> {
    let mut cache = store.cache(verdict.system)?;
    verdict.holds.push(format!("{} cache entries", cache.len()));
    let images = Images::follow(changes, "orders", false);
    let expiry = check::expiry(&store.written(verdict.system)?, 600);
    verdict.rows_in_cache(&mut cache, "order:", (source.table("orders")?, &images), &expiry);
    verdict.nothing_else(cache.iter().map(|(key, entry)| (key.clone(), entry.value.as_slice())));
    Ok(())
}
