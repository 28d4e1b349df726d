//! Deletes what an API has cached of a sinner, whenever the sinner changes.

use std::collections::BTreeSet;

use tidegate_sdk::prelude::*;

/// What is read of a sinner.
#[row]
struct Sinner {
    code: i64,
}

/// The settings.
#[settings]
pub struct CacheInvalidation {
    /// What stands before the code in the keys of the cache.
    #[serde(default)]
    key_prefix: String,
}

impl Transform for CacheInvalidation {
    fn inputs(&self) -> Inputs {
        Inputs::rows().with_before().columns_of::<Sinner>("sinners")
    }

    fn outputs(&self) -> Outputs {
        Outputs::new().cache(format!("{}*", self.key_prefix))
    }

    fn apply(&self, change: &Change, out: &mut Commands) -> Result<(), Reject> {
        // A change of the code comes as a delete and a create, each under its own key. Should one come as an update, its
        // rows have both codes.
        let mut codes = BTreeSet::from([change.key::<i64>()?]);
        codes.extend(change.row::<Sinner>()?.map(|after| after.code));
        if change.before_text().is_some() {
            codes.extend(change.before::<Sinner>()?.map(|before| before.code));
        }
        codes.into_iter().try_for_each(|code| out.cache_delete(format!("{}{code}", self.key_prefix)))
    }
}

export!(CacheInvalidation);
