//! cache-invalidation: of the entries that were there at the start, those whose code an event named are gone, the
//! others are untouched.

use super::check::Verdict;
use super::recorded::Change;
use super::source::Source;
use super::store::Store;
use crate::seeds;

pub(super) fn check(verdict: &mut Verdict, store: &Store, _source: &Source, changes: &[Change]) -> anyhow::Result<()> {
    let mut cache = store.cache(verdict.system)?;
    let seeds = seeds::cache_invalidation(changes)?;
    let named = seeds::named(changes, "code");
    verdict.holds.push(format!("{} of {} cache entries that were there at the start", cache.len(), seeds.len()));
    for seed in seeds.iter().filter(|seed| !named.contains(&seed.key)) {
        match cache.remove(&seed.key) {
            Some(entry) => verdict.text(&seed.key, &seed.value, &String::from_utf8_lossy(&entry.value)),
            None => verdict.differs(&seed.key, None, "the entry, which no event named", "nothing"),
        }
    }
    for seed in seeds.iter().filter(|seed| named.contains(&seed.key)) {
        verdict.compared += 1;
        if cache.remove(&seed.key).is_some() {
            verdict.differs(&seed.key, None, "nothing, since an event named it", "the entry");
        }
    }
    verdict.nothing_else(cache.iter().map(|(key, entry)| (key.clone(), entry.value.as_slice())));
    Ok(())
}
