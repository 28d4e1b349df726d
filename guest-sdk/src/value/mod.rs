//! Typed values for what the connectors encode oddly.
//!
//! Each type decodes every wire form that Debezium has for it, and serialises to what stores take. Where the records
//! come with their schema, the schema says which form it is; without it the type says so, and what fits two readings
//! is an error that names both.
//!
//! | column | type | serialised |
//! |---|---|---|
//! | `numeric(p, s)`, `money` | [`Decimal<S>`](Decimal) | a JSON number, digit by digit |
//! | `numeric` without a scale, or `decimal.handling.mode` string or double | [`VariableDecimal`] | the same |
//! | `real`, `double precision` | [`Float`], or `f64` where none is NaN or infinite | a JSON number, `"NaN"`, `"Infinity"` |
//! | `bigint unsigned` | [`UnsignedBigint`] | a JSON number |
//! | `date` | [`Date`] | `2024-02-29` |
//! | `time` | [`TimeMillis`], [`TimeMicros`], [`TimeNanos`] | `12:34:56.789` |
//! | `timetz` | [`ZonedTime`] | `10:34:56.789Z` |
//! | `timestamp` | [`TimestampMillis`], [`TimestampMicros`], [`TimestampNanos`] | `2024-06-01T12:34:56.789Z` |
//! | `timestamptz` | [`ZonedTimestamp`] | the same |
//! | `interval` | [`Interval`] | `P1Y2M3DT4H5M6.78S` |
//! | `bit(n)`, `bit varying(n)` | [`Bits<N>`](Bits) | its `N` digits |
//! | `bytea` | [`Bytes`], [`Bytes<Hex>`](Bytes), [`Bytes<Base64UrlSafe>`](Bytes) | base64 text |
//! | `json`, `jsonb` | [`Json`] | the JSON itself, nested |
//! | `hstore` | [`Hstore`] | an object |
//! | `point`, PostGIS | [`Point`], [`Geometry`] | an object |
//!
//! An array is a `Vec<Option<T>>` of these. `uuid`, `xml`, `ltree`, `inet`, enums and ranges are a `String`, a `year`
//! is an `i32`.

mod bits;
mod bytes;
mod calendar;
#[cfg(test)]
mod corpus;
mod date;
mod decimal;
#[cfg(test)]
mod expect;
mod float;
mod geometry;
mod interval;
mod json;
mod precision;
mod time;
mod timestamp;
mod unsigned_bigint;
mod variable_decimal;
mod wire;

pub use bits::Bits;
pub use bytes::{Base64, Base64UrlSafe, Bytes, Hex};
pub use date::Date;
pub use decimal::{Decimal, Detected, Precise};
pub use float::Float;
pub use geometry::{Geometry, Point};
pub use interval::Interval;
pub use json::{Hstore, Json};
pub use precision::{Micros, Millis, Nanos, ParseTimeError, Zoned};
pub use time::{Time, TimeMicros, TimeMillis, TimeNanos, ZonedTime};
pub use timestamp::{Timestamp, TimestampMicros, TimestampMillis, TimestampNanos, ZonedTimestamp};
pub use unsigned_bigint::UnsignedBigint;
pub use variable_decimal::{DecimalError, VariableDecimal};
