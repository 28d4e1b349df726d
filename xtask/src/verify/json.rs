//! Exact JSON: numbers stay the text that they were.

use std::fmt;

use anyhow::{Context as _, bail};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::decimal;

/// A JSON value.
#[derive(Debug, Clone)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(String),
    /// A string.
    Text(String),
    /// The elements in order.
    Array(Vec<Json>),
    /// The members in order; the names are unique.
    Object(Members),
}

/// The members of an object.
pub type Members = Vec<(String, Json)>;

impl Json {
    /// Parses one value.
    ///
    /// # Errors
    /// When it is no JSON, or a name occurs twice in an object.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let raw: &RawValue = serde_json::from_str(text).context("this is no JSON")?;
        Self::from_raw(raw.get())
    }

    fn from_raw(text: &str) -> anyhow::Result<Self> {
        Ok(match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'"') => Self::Text(serde_json::from_str(text)?),
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(text)?;
                Self::Array(
                    elements.into_iter().map(|element| Self::from_raw(element.get())).collect::<Result<_, _>>()?,
                )
            }
            Some(b'{') => {
                let RawMembers(raw) = serde_json::from_str(text)?;
                let mut members = Members::with_capacity(raw.len());
                for (name, value) in raw {
                    if get(&members, &name).is_some() {
                        bail!("the name {name:?} occurs twice in an object");
                    }
                    members.push((name, Self::from_raw(value.get())?));
                }
                Self::Object(members)
            }
            _ => Self::Number(text.to_owned()),
        })
    }

    /// The members, if it is an object.
    pub fn members(&self) -> Option<&Members> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }

    /// The member of that name, if it is an object that has it.
    pub fn get(&self, name: &str) -> Option<&Self> {
        get(self.members()?, name)
    }

    /// The text, if it is a string.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Equal as JSON: numbers by value, objects in any order.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(one), Self::Bool(two)) => one == two,
            (Self::Number(one), Self::Number(two)) => decimal::same(one, two),
            (Self::Text(one), Self::Text(two)) => one == two,
            (Self::Array(one), Self::Array(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.same(two))
            }
            (Self::Object(one), Self::Object(two)) => {
                one.len() == two.len()
                    && one.iter().all(|(name, value)| get(two, name).is_some_and(|other| value.same(other)))
            }
            _ => false,
        }
    }

    /// A scalar as bare text, as it stands in a key: `ord_1`, `42`. Others as JSON.
    pub fn bare(&self) -> String {
        if let Self::Text(text) = self { text.clone() } else { self.to_string() }
    }
}

/// The member of that name.
pub fn get<'a>(members: &'a [(String, Json)], name: &str) -> Option<&'a Json> {
    members.iter().find(|(other, _)| other == name).map(|(_, value)| value)
}

/// Compact JSON.
impl fmt::Display for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Number(digits) => out.write_str(digits),
            Self::Text(text) => write_text(out, text),
            Self::Array(elements) => {
                out.write_str("[")?;
                for (place, element) in elements.iter().enumerate() {
                    let comma = if place == 0 { "" } else { "," };
                    write!(out, "{comma}{element}")?;
                }
                out.write_str("]")
            }
            Self::Object(members) => {
                out.write_str("{")?;
                for (place, (name, value)) in members.iter().enumerate() {
                    out.write_str(if place == 0 { "" } else { "," })?;
                    write_text(out, name)?;
                    write!(out, ":{value}")?;
                }
                out.write_str("}")
            }
        }
    }
}

fn write_text(out: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    out.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}

/// The members of an object in order, each value still as its text.
struct RawMembers(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for RawMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = RawMembers;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawMembers, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(RawMembers(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Json;

    fn same(one: &str, two: &str) -> bool {
        Json::parse(one).unwrap().same(&Json::parse(two).unwrap())
    }

    #[test]
    fn numbers_are_compared_by_value_and_to_the_last_digit() {
        assert!(same("[1.50, 1e2]", "[1.5, 100]"));
        assert!(!same("9007199254740993", "9007199254740992"));
        assert!(!same("1", "\"1\""));
    }

    #[test]
    fn objects_are_equal_in_any_order_and_differ_by_a_member() {
        assert!(same(r#"{"a":1,"b":[null,true]}"#, r#"{"b":[null,true],"a":1}"#));
        assert!(!same(r#"{"a":1}"#, r#"{"a":1,"b":null}"#));
        assert!(!same(r#"{"a":1,"b":2}"#, r#"{"a":1,"c":2}"#));
        assert!(!same("[1,2]", "[2,1]"));
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused() {
        assert!(Json::parse(r#"{"a":1,"\u0061":2}"#).is_err());
    }

    #[test]
    fn it_is_printed_as_it_was() {
        let text = r#"{"a":[1.50,null,"\"é\n"],"b":{}}"#;
        assert_eq!(Json::parse(text).unwrap().to_string(), text);
    }
}
