//! The type that the schema gives to the column being decoded: how typed values learn their wire form.

use std::cell::Cell;
use std::fmt;

thread_local! {
    static CURRENT: Cell<Option<ColumnType>> = const { Cell::new(None) };
}

/// The type of a column as the batch's schema has it, reduced to what decoding depends on. It is recognised once a
/// batch; after that it is a small value to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColumnType {
    kind: Kind,
    /// The column is an array, and `kind` is that of its elements.
    array: bool,
}

/// How a value is encoded on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Base64 of the unscaled value. The scale is missing where a schema is broken.
    Decimal { scale: Option<i32> },
    /// An object of scale and base64.
    VariableScaleDecimal,
    /// A number of days, or ISO-8601 text.
    Date,
    /// A number of these units since midnight.
    Time(Unit),
    /// Text of a time of day with an offset.
    ZonedTime,
    /// A number of these units since 1970.
    Timestamp(Unit),
    /// Text of an instant with an offset.
    ZonedTimestamp,
    /// A number of these units.
    Duration(Unit),
    /// ISO-8601 text of a duration.
    Interval,
    /// Base64 of little-endian bits.
    Bits,
    /// Text that holds JSON.
    Json,
    /// `bytes` without a meaning of its own: base64.
    Bytes,
    /// Everything else: the JSON value says what it is, and the author's type what it means.
    Plain,
}

/// The unit of a number of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl ColumnType {
    /// Recognises a type by its Kafka Connect type and its logical type. `element` is the type of an array's elements.
    pub(crate) fn new(
        connect_type: &str,
        logical_type: Option<&str>,
        scale: Option<i32>,
        element: Option<ColumnType>,
    ) -> ColumnType {
        if connect_type == "array" {
            return ColumnType { kind: element.map_or(Kind::Plain, |element| element.kind), array: true };
        }
        let kind = match logical_type {
            Some("org.apache.kafka.connect.data.Decimal") => Kind::Decimal { scale },
            Some("io.debezium.data.VariableScaleDecimal") => Kind::VariableScaleDecimal,
            Some("org.apache.kafka.connect.data.Date" | "io.debezium.time.Date" | "io.debezium.time.IsoDate") => {
                Kind::Date
            }
            Some("org.apache.kafka.connect.data.Time" | "io.debezium.time.Time") => Kind::Time(Unit::Millis),
            Some("io.debezium.time.MicroTime") => Kind::Time(Unit::Micros),
            Some("io.debezium.time.NanoTime") => Kind::Time(Unit::Nanos),
            Some("io.debezium.time.ZonedTime" | "io.debezium.time.IsoTime") => Kind::ZonedTime,
            Some("org.apache.kafka.connect.data.Timestamp" | "io.debezium.time.Timestamp") => {
                Kind::Timestamp(Unit::Millis)
            }
            Some("io.debezium.time.MicroTimestamp") => Kind::Timestamp(Unit::Micros),
            Some("io.debezium.time.NanoTimestamp") => Kind::Timestamp(Unit::Nanos),
            Some("io.debezium.time.ZonedTimestamp" | "io.debezium.time.IsoTimestamp") => Kind::ZonedTimestamp,
            Some("io.debezium.time.MicroDuration") => Kind::Duration(Unit::Micros),
            Some("io.debezium.time.NanoDuration") => Kind::Duration(Unit::Nanos),
            Some("io.debezium.time.Interval") => Kind::Interval,
            Some("io.debezium.data.Bits") => Kind::Bits,
            Some("io.debezium.data.Json") => Kind::Json,
            _ if connect_type == "bytes" => Kind::Bytes,
            _ => Kind::Plain,
        };
        ColumnType { kind, array: false }
    }
}

/// Decodes a column under its type; what was current before is current again afterwards, also after a panic.
pub(crate) fn with_type<R>(of: Option<ColumnType>, decode: impl FnOnce() -> R) -> R {
    struct Restore(Option<ColumnType>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(of));
    decode()
}

/// How the value that is being decoded is encoded: none where there is no schema. In an array, its elements.
///
/// Inside a struct or a map it is that of the struct: its fields have no types of their own here, which is why a type
/// whose wire form is a struct decodes its fields under `with_type(None, …)`.
pub(crate) fn current() -> Option<Kind> {
    CURRENT.get().map(|of| of.kind)
}

impl fmt::Display for Kind {
    /// As an author knows it from the schema.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Decimal { scale: Some(scale) } => write!(f, "a Decimal of scale {scale}"),
            Kind::Decimal { scale: None } => f.write_str("a Decimal without a scale"),
            Kind::VariableScaleDecimal => f.write_str("a VariableScaleDecimal"),
            Kind::Date => f.write_str("a Date"),
            Kind::Time(unit) => write!(f, "a time of day in {unit}"),
            Kind::ZonedTime => f.write_str("a ZonedTime"),
            Kind::Timestamp(unit) => write!(f, "a timestamp in {unit}"),
            Kind::ZonedTimestamp => f.write_str("a ZonedTimestamp"),
            Kind::Duration(unit) => write!(f, "a duration in {unit}"),
            Kind::Interval => f.write_str("an Interval"),
            Kind::Bits => f.write_str("Bits"),
            Kind::Json => f.write_str("Json"),
            Kind::Bytes => f.write_str("bytes"),
            Kind::Plain => f.write_str("a plain value"),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Millis => "milliseconds",
            Unit::Micros => "microseconds",
            Unit::Nanos => "nanoseconds",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp() -> ColumnType {
        ColumnType::new("int64", Some("io.debezium.time.MicroTimestamp"), None, None)
    }

    #[test]
    fn a_type_is_current_while_its_column_is_decoded_and_no_longer() {
        assert_eq!(current(), None);
        with_type(Some(timestamp()), || {
            assert_eq!(current(), Some(Kind::Timestamp(Unit::Micros)));
            with_type(None, || assert_eq!(current(), None));
            assert_eq!(current(), Some(Kind::Timestamp(Unit::Micros)));
        });
        assert_eq!(current(), None);
    }

    #[test]
    fn a_panic_leaves_no_type_behind() {
        let caught = std::panic::catch_unwind(|| with_type(Some(timestamp()), || assert_eq!(1, 2)));
        assert!(caught.is_err());
        assert_eq!(current(), None);
    }

    #[test]
    fn elements_of_an_array_are_decoded_by_the_type_of_the_element() {
        let array = ColumnType::new("array", None, None, Some(timestamp()));
        with_type(Some(array), || assert_eq!(current(), Some(Kind::Timestamp(Unit::Micros))));
    }

    #[test]
    fn bytes_with_an_unknown_meaning_are_bytes_and_the_rest_is_plain() {
        assert_eq!(ColumnType::new("bytes", Some("com.example.Blob"), None, None).kind, Kind::Bytes);
        assert_eq!(ColumnType::new("string", Some("io.debezium.data.Uuid"), None, None).kind, Kind::Plain);
    }
}
