//! Writes a row under names that are not known before the settings are.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Serialize;
use serde::ser::{Error, Impossible, SerializeMap, SerializeStruct, Serializer};

/// A row that is written under other names, where the names come from the settings: `name` as `company_name`, say.
/// Names that do not change while the transform is not rebuilt are said by `#[serde(rename(serialize = "…"))]`.
///
/// Fields without another name keep theirs. That no two fields end under one name is for
/// [`Transform::check`](crate::Transform::check) to see. Unsent columns are left out as ever.
///
/// ```
/// # use std::collections::BTreeMap;
/// # use tidegate_sdk::prelude::*;
/// # #[row] struct Company { id: i64, name: String }
/// # #[settings] struct Search { renames: BTreeMap<String, String> }
/// # impl Search {
/// # fn apply(&self, change: &Change, out: &mut Commands) -> Result<(), Reject> {
/// # let Some(company) = change.row::<Company>()? else { return Ok(()) };
/// out.document_index("company", company.id.to_string(), &Renamed::new(&company, &self.renames))
/// # }}
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Renamed<'a, T> {
    row: &'a T,
    names: &'a BTreeMap<String, String>,
}

impl<'a, T> Renamed<'a, T> {
    /// A row (a struct) and the other names of its fields, by their own.
    pub fn new(row: &'a T, names: &'a BTreeMap<String, String>) -> Self {
        Self { row, names }
    }
}

impl<T: Serialize> Serialize for Renamed<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.row.serialize(Renaming { inner: serializer, names: self.names })
    }
}

/// Passes a struct on as a map, since a struct's names are fixed. Anything else has no names to change.
struct Renaming<'a, S> {
    inner: S,
    names: &'a BTreeMap<String, String>,
}

impl<'a, M: SerializeMap> SerializeStruct for Renaming<'a, M> {
    type Ok = M::Ok;
    type Error = M::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), M::Error> {
        let names: &'a BTreeMap<String, String> = self.names;
        self.inner.serialize_entry(names.get(name).map_or(name, String::as_str), value)
    }

    fn end(self) -> Result<M::Ok, M::Error> {
        self.inner.end()
    }
}

fn no_struct<E: Error>() -> E {
    E::custom("only the fields of a struct can be renamed")
}

macro_rules! refuse {
    ($($method:ident($($argument:ty),*) $answer:ty;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$answer, S::Error> {
            Err(no_struct())
        }
    )*};
}

impl<'a, S: Serializer> Serializer for Renaming<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Impossible<S::Ok, S::Error>;
    type SerializeTuple = Impossible<S::Ok, S::Error>;
    type SerializeTupleStruct = Impossible<S::Ok, S::Error>;
    type SerializeTupleVariant = Impossible<S::Ok, S::Error>;
    type SerializeMap = Impossible<S::Ok, S::Error>;
    type SerializeStruct = Renaming<'a, S::SerializeMap>;
    type SerializeStructVariant = Impossible<S::Ok, S::Error>;

    fn serialize_struct(self, _name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        Ok(Renaming { inner: self.inner.serialize_map(Some(len))?, names: self.names })
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<S::Ok, S::Error> {
        Err(no_struct())
    }

    fn collect_str<T: Display + ?Sized>(self, _value: &T) -> Result<S::Ok, S::Error> {
        Err(no_struct())
    }

    refuse! {
        serialize_bool(bool) S::Ok;
        serialize_i8(i8) S::Ok;
        serialize_i16(i16) S::Ok;
        serialize_i32(i32) S::Ok;
        serialize_i64(i64) S::Ok;
        serialize_u8(u8) S::Ok;
        serialize_u16(u16) S::Ok;
        serialize_u32(u32) S::Ok;
        serialize_u64(u64) S::Ok;
        serialize_f32(f32) S::Ok;
        serialize_f64(f64) S::Ok;
        serialize_char(char) S::Ok;
        serialize_str(&str) S::Ok;
        serialize_bytes(&[u8]) S::Ok;
        serialize_none() S::Ok;
        serialize_unit() S::Ok;
        serialize_unit_struct(&'static str) S::Ok;
        serialize_unit_variant(&'static str, u32, &'static str) S::Ok;
        serialize_seq(Option<usize>) Self::SerializeSeq;
        serialize_tuple(usize) Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) Self::SerializeTupleVariant;
        serialize_map(Option<usize>) Self::SerializeMap;
        serialize_struct_variant(&'static str, u32, &'static str, usize) Self::SerializeStructVariant;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Column;
    use crate::encode::to_json;

    #[derive(Serialize)]
    struct Company {
        id: i64,
        name: &'static str,
        description: Column<&'static str>,
    }

    fn written(value: &impl Serialize) -> (String, bool) {
        let names = [("name", "company_name"), ("description", "about")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let mut out = Vec::new();
        let left_out = to_json(&Renamed::new(value, &names.into()), &mut out).unwrap();
        (String::from_utf8(out).unwrap(), left_out)
    }

    #[test]
    fn fields_are_written_under_their_other_names_in_their_order() {
        let company = Company { id: 9_007_199_254_740_993, name: "a", description: Column::Sent("b") };
        let text = r#"{"id":9007199254740993,"company_name":"a","about":"b"}"#;
        assert_eq!(written(&company), (text.to_owned(), false));
        assert_eq!(written(&Some(company)).0, text);
    }

    #[test]
    fn an_unsent_column_is_left_out_under_its_other_name_too() {
        let company = Company { id: 1, name: "a", description: Column::Unsent };
        assert_eq!(written(&company), (r#"{"id":1,"company_name":"a"}"#.to_owned(), true));
    }

    #[test]
    fn what_is_no_struct_is_refused() {
        let names = BTreeMap::new();
        let error = to_json(&Renamed::new(&[1], &names), &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "only the fields of a struct can be renamed");
    }
}
