//! Write transforms for tidegate: the changes of a database go in, commands for caches, tables, search indexes and
//! topics come out.
//!
//! A transform is a crate of its own, `crate-type = ["cdylib", "rlib"]`, with this crate as its only dependency. This
//! is a whole one; it keeps `order:{id}` in a cache in step with the table `orders`:
//!
//! ```
//! use tidegate_sdk::prelude::*;
//!
//! #[row]
//! pub struct Order {
//!     id: i64,
//!     customer_id: String,
//!     driver_id: Option<String>,
//!     points: Json,
//!     fee: Decimal<2>,
//!     receipt: Column<Option<String>>,
//!     updated_at: ZonedTimestamp,
//! }
//!
//! #[settings]
//! pub struct OrderCache {
//!     /// How long an order stays in the cache after its last change.
//!     #[serde(default = "ten_minutes")]
//!     ttl_seconds: u32,
//! }
//!
//! fn ten_minutes() -> u32 {
//!     600
//! }
//!
//! impl Transform for OrderCache {
//!     fn inputs(&self) -> Inputs {
//!         Inputs::rows().columns_of::<Order>("orders")
//!     }
//!
//!     fn outputs(&self) -> Outputs {
//!         Outputs::new().cache("order:*")
//!     }
//!
//!     fn apply(&self, change: &Change, out: &mut Commands) -> Result<(), Reject> {
//!         let key = format!("order:{}", change.key::<i64>()?);
//!         match change.row::<Order>()? {
//!             Some(order) => out.cache_set(key, &order, self.ttl_seconds),
//!             None => out.cache_delete(key),
//!         }
//!     }
//! }
//!
//! export!(OrderCache);
//!
//! // A test of it, in `tests/`:
//! use tidegate_sdk::testing::{Command, Event, Tester};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tester = Tester::<OrderCache>::start(json!({}))?;
//! let row = json!({
//!     "id": 7, "customer_id": "c1", "driver_id": null, "points": "[{\"lat\": 44.9}]", "fee": "C+o=",
//!     "updated_at": "2026-01-31T10:00:00.123456Z",
//! });
//! let update = Event::update("orders", json!({"id": 7}), row).with_unsent(["receipt"]);
//! let commands = tester.apply(&update)?;
//! assert_eq!(commands[0].to_json(), json!({"cache-merge": {
//!     "key": "order:7",
//!     "fields": {
//!         "id": 7, "customer_id": "c1", "driver_id": null, "points": [{"lat": 44.9}], "fee": 30.5,
//!         "updated_at": "2026-01-31T10:00:00.123456Z",
//!     },
//!     "ttl-seconds": 600,
//! }}));
//! # Ok(())
//! # }
//! ```
//!
//! `cargo build --release --target wasm32-unknown-unknown` makes the module that the operator puts into a pipeline.
//! `tidegate new NAME` makes such a crate with its tests, recorded events and a pipeline. The guide that goes through
//! it step by step is `docs/writing-transforms.md` of the repository.
//!
//! # Rows
//!
//! [`row`](macro@row) makes a struct a row: a field is a column, under the column's name or another by
//! `#[serde(rename = "…")]`. Columns without a field are passed over, and are not even copied into the module where
//! [`inputs`](Transform::inputs) names the type. To write under other names than those that are read, take two types,
//! or `#[serde(rename(serialize = "…"))]`; [`Renamed`] does it where the settings give the names. Text that is only
//! looked at may be borrowed: `#[serde(borrow)] status: Cow<'a, str>` saves a copy.
//!
//! A type that is only written, the body of a message say, is a row as well. Its fields are owned, since `row` makes
//! it readable too: `fee: order.fee.clone()`, not `fee: &order.fee`.
//!
//! [`Change::row`] is none for a deleted row, which is known by [`Change::key`] alone. [`Change::before`] is the row
//! before the change, and a claim that the table has REPLICA IDENTITY FULL.
//!
//! # Keys
//!
//! A key of one column is its bare value, `change.key::<i64>()?`; one of several is a tuple in the order of the key's
//! columns, `change.key::<(i64, String)>()?`, or a struct. When an update changes a row's primary key, it comes as the
//! delete of the old key and the create of the new one: [`Change::is_moved`] tells them from a real delete and a real
//! create, and [`Change::moved`] gives the other key.
//!
//! # Columns that are not sent
//!
//! PostgreSQL does not tell large values (TOAST) that an update leaves as they were. Such a column is
//! [`Column::Unsent`]. A value that holds one is written by the merge form of its command, without that field; nothing
//! has to be done for it. A column whose type cannot say so is refused, since an `Option` would turn "unchanged" into
//! a null.
//!
//! # Types
//!
//! Numbers, text and booleans are Rust's own; a nullable column is an `Option`, an array a `Vec<Option<…>>`. What the
//! connectors encode oddly (decimals, dates and times, intervals, bytes, bits, JSON) has a type in [`value`], which
//! decodes every form that Debezium has for it and serialises to what stores take. Where the records come with their
//! schema, the schema decides how a value is read; without it the type does, and what is ambiguous is refused.
//!
//! Values are written digit by digit: a decimal is a JSON number of any length. Only inside [`json!`] a number passes
//! through a 64-bit float when it is no 64-bit integer.
//!
//! # Settings
//!
//! The transform's type is its settings, made by [`settings`](macro@settings): what the operator writes under
//! `settings` in the pipeline. An unknown or missing setting is an error that names it; [`Transform::check`] adds
//! conditions of its own.
//!
//! # Errors
//!
//! Each method answers with a [`Reject`] that names the column, the row type and the remedy, so `?` suffices. The
//! record goes to the dead letters with that reason, and the others of its batch go on. A panic does the same for its
//! record, at the price of a fresh instance; its message is the reason.
//!
//! # Tests
//!
//! A transform is plain Rust: [`testing`] runs it natively on hand-made events and on recorded ones, in any format
//! that Debezium writes, as the host would.

// The macros name this crate by its own name, also inside it.
extern crate self as tidegate_sdk;

#[cfg(target_family = "wasm")]
mod allocator;
#[doc(hidden)]
pub mod bindings;
mod change;
mod column;
mod columns;
mod commands;
mod decode;
mod encode;
#[doc(hidden)]
pub mod guest;
mod inputs;
mod key;
pub mod log;
mod outputs;
mod read;
mod reject;
mod renamed;
mod schema;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod transform;
pub mod value;
mod words;

pub use change::{Change, Operation};
pub use column::Column;
pub use commands::{Commands, Message};
pub use inputs::Inputs;
pub use outputs::Outputs;
pub use reject::{Fault, Reject};
pub use renamed::Renamed;
pub use serde;
pub use serde_json::{self, json};
pub use tidegate_sdk_macros::{row, settings};
pub use transform::Transform;

/// The Rust of the README and of the guide for authors, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../../docs/writing-transforms.md")]
mod guides {}

/// What a transform needs, in one line: `use tidegate_sdk::prelude::*;`.
pub mod prelude {
    #[doc(no_inline)]
    pub use crate::value::{
        Bits, Bytes, Date, Decimal, Float, Geometry, Hstore, Interval, Json, Point, TimeMicros, TimeMillis, TimeNanos,
        TimestampMicros, TimestampMillis, TimestampNanos, UnsignedBigint, VariableDecimal, ZonedTime, ZonedTimestamp,
    };
    #[doc(no_inline)]
    pub use crate::{
        Change, Column, Commands, Fault, Inputs, Message, Operation, Outputs, Reject, Renamed, Transform, export, json,
        log, row, settings,
    };
}
