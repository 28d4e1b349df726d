//! Keeps orders and their status in the cache, drops the cached lists of their customers, and publishes what happens.
//!
//! The table must have REPLICA IDENTITY FULL: a customer who loses an order, and an order that was cancelled before,
//! are known by the row before the change alone.

use tidegate_sdk::prelude::*;

/// An order, as it is cached.
#[row]
struct Order {
    id: String,
    customer_id: String,
    status: String,
    total_amount: Decimal<2>,
    delivery_address: String,
    delivery_instructions: Option<String>,
    estimated_delivery: Option<TimestampMillis>,
    priority: bool,
    version: i64,
    cancelled_at: Option<TimestampMicros>,
    created_at: TimestampMicros,
    updated_at: TimestampMicros,
}

/// What counts of the order before the change.
#[row]
struct Before {
    customer_id: String,
    status: String,
}

/// The settings.
#[settings]
pub struct TrackopsCache {
    /// How long an order stays in the cache after its last change.
    #[serde(default = "one_hour")]
    entity_ttl_seconds: u32,
    /// How long its status does.
    #[serde(default = "half_an_hour")]
    status_ttl_seconds: u32,
    /// What stands before the order's id in the key of the order.
    #[serde(default = "entity_prefix")]
    entity_prefix: String,
    /// What stands before the order's id in the key of its status.
    #[serde(default = "status_prefix")]
    status_prefix: String,
    /// What stands before the customer's id in the key of the list of the customer's orders.
    #[serde(default = "customer_prefix")]
    customer_prefix: String,
    /// The topic to publish to.
    #[serde(default = "order_events")]
    topic: String,
}

fn one_hour() -> u32 {
    3600
}

fn half_an_hour() -> u32 {
    1800
}

fn entity_prefix() -> String {
    "order:entity:".to_owned()
}

fn status_prefix() -> String {
    "order:status:".to_owned()
}

fn customer_prefix() -> String {
    "orders:customer:".to_owned()
}

fn order_events() -> String {
    "order-events".to_owned()
}

impl Transform for TrackopsCache {
    fn inputs(&self) -> Inputs {
        Inputs::rows().with_before().columns_of::<Order>("orders")
    }

    fn outputs(&self) -> Outputs {
        Outputs::new()
            .cache(format!("{}*", self.entity_prefix))
            .cache(format!("{}*", self.status_prefix))
            .cache(format!("{}*", self.customer_prefix))
            .topic(&self.topic)
    }

    fn apply(&self, change: &Change, out: &mut Commands) -> Result<(), Reject> {
        let id = change.key::<String>()?;
        let (before, after) = (change.before::<Before>()?, change.row::<Order>()?);

        let entity = format!("{}{id}", self.entity_prefix);
        let status = format!("{}{id}", self.status_prefix);
        if let Some(order) = &after {
            out.cache_set(entity, order, self.entity_ttl_seconds)?;
            out.cache_set_bytes(status, order.status.as_str(), self.status_ttl_seconds)?;
        } else {
            out.cache_delete(entity)?;
            out.cache_delete(status)?;
        }

        let new_customer = after.as_ref().map(|order| &order.customer_id);
        let old_customer = before.as_ref().map(|before| &before.customer_id).filter(|old| Some(*old) != new_customer);
        for customer in old_customer.into_iter().chain(new_customer) {
            // A list cannot be made anew from one of its orders: the next who asks for it does that.
            out.cache_delete(format!("{}{customer}", self.customer_prefix))?;
        }

        let Some(order) = &after else { return Ok(()) };
        match event(change, before.as_ref(), order) {
            Some(event) => {
                let body = json!({
                    "type": event, "order_id": order.id, "customer_id": order.customer_id, "status": order.status,
                });
                out.publish(&self.topic, id, &body)
            }
            None => Ok(()),
        }
    }
}

/// What happened to the order, in the words of the services that listen. A snapshot tells nothing new, and an order
/// under another id is no new order.
fn event(change: &Change, before: Option<&Before>, order: &Order) -> Option<&'static str> {
    const CANCELLED: &str = "CANCELLED";
    match change.operation() {
        Operation::Create if !change.is_moved() => Some("ORDER_CREATED"),
        Operation::Update if order.status == CANCELLED && before.is_some_and(|before| before.status != CANCELLED) => {
            Some("ORDER_CANCELLED")
        }
        _ => None,
    }
}

export!(TrackopsCache);
