//! What the tests of the values ask: what a wire text is stored as, and what is said when it is refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The text that a store gets for a value that was this on the wire.
pub(super) fn stored<T: DeserializeOwned + Serialize>(json: &str) -> String {
    serde_json::to_value(serde_json::from_str::<T>(json).unwrap()).unwrap().as_str().unwrap().to_owned()
}

/// What is said of a wire text that is no such value.
pub(super) fn error<T: DeserializeOwned>(json: &str) -> String {
    serde_json::from_str::<T>(json).err().expect("it is refused").to_string()
}
