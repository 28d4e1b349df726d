//! A column that Debezium may leave out of a change, and how that survives decoding and encoding.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// The newtype name under which a [`Column`] asks for its value: a deserializer that knows it may answer "unsent".
pub(crate) const NEWTYPE: &str = "$tidegate::Column";

/// What an unsent column is written as. PostgreSQL's text cannot hold a NUL, so no value looks like it. The encoder of
/// this crate takes it out again, also when it came through `serde_json::Value`.
pub(crate) const SENTINEL: &str = "\u{0}$tidegate::unsent";

/// The value of a column that is not in every change of its row.
///
/// PostgreSQL keeps large values out of line (TOAST), and when an update leaves such a value as it was, the database
/// does not tell it: Debezium then sends a placeholder. The host takes the placeholder out, and the column reads as
/// `Unsent`: its value is what it was before, and is not known here.
///
/// A row that holds an `Unsent` column is written by its merge form: [`cache_set`](crate::Commands::cache_set) becomes
/// a merge of the other fields into the entry, [`row_upsert`](crate::Commands::row_upsert) an update of the other
/// columns, [`document_index`](crate::Commands::document_index) a partial update.
///
/// Any other type refuses an unsent column ([`Fault::Unsent`](crate::Fault::Unsent)): an `Option` would read it as a
/// null, and the null would be written over the data. A nullable column is a `Column<Option<T>>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Column<T> {
    /// The column came with the change.
    Sent(T),
    /// The column was not sent: its value is unchanged and unknown.
    Unsent,
}

impl<T> Column<T> {
    /// The value, if it was sent.
    pub fn sent(self) -> Option<T> {
        match self {
            Self::Sent(value) => Some(value),
            Self::Unsent => None,
        }
    }

    /// Whether it was sent.
    pub fn is_sent(&self) -> bool {
        matches!(self, Self::Sent(_))
    }

    /// Lends the value.
    pub fn as_ref(&self) -> Column<&T> {
        match self {
            Self::Sent(value) => Column::Sent(value),
            Self::Unsent => Column::Unsent,
        }
    }

    /// Turns the value into another; what was not sent stays so.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Column<U> {
        match self {
            Self::Sent(value) => Column::Sent(change(value)),
            Self::Unsent => Column::Unsent,
        }
    }
}

impl<T> From<T> for Column<T> {
    fn from(value: T) -> Self {
        Self::Sent(value)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Column<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ColumnVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ColumnVisitor<T> {
            type Value = Column<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the value of a column")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                T::deserialize(deserializer).map(Column::Sent)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Column::Unsent)
            }
        }

        deserializer.deserialize_newtype_struct(NEWTYPE, ColumnVisitor(PhantomData))
    }
}

impl<T: Serialize> Serialize for Column<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Sent(value) => value.serialize(serializer),
            Self::Unsent => serializer.serialize_str(SENTINEL),
        }
    }
}
