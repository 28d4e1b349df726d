//! Points and shapes.

use serde::{Deserialize, Deserializer, Serialize};

use super::{Bytes, Float};
use crate::schema::with_type;

/// A point: `point`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Its first coordinate.
    pub x: Float,
    /// Its second coordinate.
    pub y: Float,
    /// The same as well-known binary.
    pub wkb: Option<Bytes>,
    /// The reference system of the coordinates.
    pub srid: Option<i32>,
}

/// A shape: `geometry` and `geography` of PostGIS, `box`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Geometry {
    /// Well-known binary.
    pub wkb: Bytes,
    /// The reference system of the coordinates.
    pub srid: Option<i32>,
}

// The fields have no types of their own in the batch's schema, and that of the column is not theirs.

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Point, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "Point")]
        struct Fields {
            x: Float,
            y: Float,
            wkb: Option<Bytes>,
            srid: Option<i32>,
        }
        let Fields { x, y, wkb, srid } = with_type(None, || Fields::deserialize(deserializer))?;
        Ok(Point { x, y, wkb, srid })
    }
}

impl<'de> Deserialize<'de> for Geometry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Geometry, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "Geometry")]
        struct Fields {
            wkb: Bytes,
            srid: Option<i32>,
        }
        let Fields { wkb, srid } = with_type(None, || Fields::deserialize(deserializer))?;
        Ok(Geometry { wkb, srid })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_point_keeps_the_digits_of_its_coordinates() {
        let json = r#"{"x":1.5,"y":-2.25,"wkb":"AQEAAAAAAAAAAAD4PwAAAAAAAALA","srid":null}"#;
        let point: Point = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&point).unwrap(), json);
    }
}
