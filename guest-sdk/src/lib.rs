//! Write transforms for tidegate: the changes of a database go in, commands for caches, tables, search indexes and
//! topics come out.

// The macros name this crate by its own name, also inside it.
extern crate self as tidegate_sdk;

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
mod reject;
mod schema;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod transform;
pub mod value;

pub use change::{Change, Operation};
pub use column::Column;
pub use commands::{Commands, Message};
pub use inputs::Inputs;
pub use outputs::Outputs;
pub use reject::{Fault, Reject};
pub use serde;
pub use serde_json::{self, json};
pub use tidegate_sdk_macros::{row, settings};
pub use transform::Transform;

/// What a transform needs, in one line: `use tidegate_sdk::prelude::*;`.
pub mod prelude {
    #[doc(no_inline)]
    pub use crate::value::{
        Bits, Bytes, Date, Decimal, Float, Geometry, Hstore, Interval, Json, Point, TimeMicros, TimeMillis, TimeNanos,
        TimestampMicros, TimestampMillis, TimestampNanos, UnsignedBigint, VariableDecimal, ZonedTime, ZonedTimestamp,
    };
    #[doc(no_inline)]
    pub use crate::{
        Change, Column, Commands, Fault, Inputs, Message, Operation, Outputs, Reject, Transform, export, json, log,
        row, settings,
    };
}
