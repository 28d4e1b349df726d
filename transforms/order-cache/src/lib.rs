//! Keeps `order:{id}` in the cache in step with the table `orders`.

use tidegate_sdk::prelude::*;

/// An order, as it is cached.
#[row]
pub struct Order {
    id: String,
    service_id: i32,
    service_type: String,
    customer_id: String,
    driver_id: Option<String>,
    status: String,
    points: Json,
    fee: Option<Decimal<2>>,
    note: Option<String>,
    /// Large: an update that leaves it alone does not send it.
    receipt: Column<Option<String>>,
    created_at: ZonedTimestamp,
    updated_at: ZonedTimestamp,
}

/// The settings.
#[settings]
pub struct OrderCache {
    /// How long an order stays in the cache after its last change.
    ttl_seconds: u32,
}

impl Transform for OrderCache {
    fn inputs(&self) -> Inputs {
        Inputs::rows().columns_of::<Order>("orders")
    }

    fn outputs(&self) -> Outputs {
        Outputs::new().cache("order:*")
    }

    fn apply(&self, change: &Change, out: &mut Commands) -> Result<(), Reject> {
        let key = format!("order:{}", change.key::<String>()?);
        match change.row::<Order>()? {
            Some(order) => out.cache_set(key, &order, self.ttl_seconds),
            None => out.cache_delete(key),
        }
    }
}

export!(OrderCache);
