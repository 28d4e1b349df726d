//! What the caches hold before the first event: entries as an application would have cached them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;

use crate::verify::json::{self, Json, Members};
use crate::verify::recorded::Change;

/// A cache entry that is there at the start, and never expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seed {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// How the key of a customer's list begins.
pub(crate) const CUSTOMER_PREFIX: &str = "orders:customer:";

/// A customer whom no event names.
const STRANGER: &str = "00000000-0000-4000-8000-000000000000";

/// Every value of a column that an event names: in its key, in the row after it, and in the row before it.
pub(crate) fn named(changes: &[Change], column: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for change in changes {
        let rows = [Some(&change.key), change.before.as_ref(), change.after.as_ref()];
        let values = rows.into_iter().flatten().filter_map(|row| json::get(row, column));
        named.extend(values.map(Json::bare));
    }
    named
}

/// An entry under each code that the events name, under some that they skip (their inserts were rolled back), and under
/// some beyond them all.
pub(crate) fn cache_invalidation(changes: &[Change]) -> anyhow::Result<Vec<Seed>> {
    let mut rows = BTreeMap::<i64, Members>::new();
    for row in changes.iter().flat_map(|change| [&change.after, &change.before]).flatten() {
        let code = json::get(row, "code").context("a row of sinners has no code")?.bare();
        let code = code.parse().with_context(|| format!("the code {code} is no integer"))?;
        rows.entry(code).or_insert_with(|| row.clone());
    }
    let greatest = rows.keys().next_back().copied().unwrap_or(0);
    let skipped = (1..greatest).filter(|code| !rows.contains_key(code)).take(8);
    let strangers: Vec<i64> = skipped.chain(greatest + 1..=greatest + 3).collect();
    for code in strangers {
        let name = Json::Text(format!("Nobody {code}"));
        rows.insert(code, vec![("code".to_owned(), Json::Number(code.to_string())), ("name".to_owned(), name)]);
    }
    let seed = |(code, row)| Seed { key: i64::to_string(&code), value: Json::Object(row).to_string() };
    Ok(rows.into_iter().map(seed).collect())
}

/// The list of orders of each customer that the events name, and the empty list of one whom they do not.
pub(crate) fn trackops_cache(changes: &[Change]) -> anyhow::Result<Vec<Seed>> {
    let mut orders = BTreeMap::<String, BTreeSet<String>>::new();
    for change in changes {
        for row in [&change.before, &change.after].into_iter().flatten() {
            let customer = json::get(row, "customer_id").context("a row of orders has no customer_id")?.bare();
            orders.entry(customer).or_default().insert(change.identity());
        }
    }
    orders.entry(STRANGER.to_owned()).or_default();
    let seed = |(customer, orders): (String, BTreeSet<String>)| Seed {
        key: format!("{CUSTOMER_PREFIX}{customer}"),
        value: Json::Array(orders.into_iter().map(Json::Text).collect()).to_string(),
    };
    Ok(orders.into_iter().map(seed).collect())
}
