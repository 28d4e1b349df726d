//! The headers of a dead letter: the record's own, then those of Kafka Connect's dead letter queue, then ours.

use super::DeadLetter;
use super::filed::shown;
use crate::source::Header;

/// The first header that is not the record's own.
pub(super) const TOPIC: &str = "__connect.errors.topic";
pub(super) const PARTITION: &str = "__connect.errors.partition";
pub(super) const OFFSET: &str = "__connect.errors.offset";
pub(super) const PIPELINE: &str = "__connect.errors.connector.name";
pub(super) const STAGE: &str = "__connect.errors.stage";
pub(super) const EXCEPTION: &str = "__connect.errors.exception.class.name";
pub(super) const REASON: &str = "__connect.errors.exception.message";
pub(super) const TRANSFORM: &str = "tidegate.transform";
pub(super) const DIGEST: &str = "tidegate.digest";
pub(super) const FAULT: &str = "tidegate.fault";
pub(super) const SINK: &str = "tidegate.sink";
pub(super) const TIMESTAMP: &str = "tidegate.timestamp";
/// The checksum of the record, in hexadecimal digits, as it was whole.
pub(super) const CHECKSUM: &str = "tidegate.checksum";
pub(super) const VALUE_OMITTED: &str = "tidegate.value-omitted";
pub(super) const KEY_OMITTED: &str = "tidegate.key-omitted";
pub(super) const HEADERS_OMITTED: &str = "tidegate.headers-omitted";

/// What is left of a reason that is cut.
const CUT_REASON_BYTES: usize = 1024;

/// How much of a letter is filed. Each is less than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extent {
    /// All of it.
    Whole,
    /// Without the record's value.
    NoValue,
    /// And with the beginning of the reason alone.
    ShortReason,
    /// And without the record's key.
    NoKey,
    /// And without the record's own headers.
    NoHeaders,
}

impl Extent {
    pub(super) const ALL: [Self; 5] = [Self::Whole, Self::NoValue, Self::ShortReason, Self::NoKey, Self::NoHeaders];
}

/// What is filed of a letter, value and key as they are on the wire.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Vec<Header>,
}

impl<'a> DeadLetter<'a> {
    /// The letter's parts. A value of more than `value_bytes` is left out in any case. What is left out is marked by a
    /// header with its size. `filed_anew` is whether the letter gets a timestamp of its own, so that the record's is a
    /// header.
    pub(super) fn parts(&self, extent: Extent, value_bytes: usize, filed_anew: bool) -> Parts<'a> {
        let record = self.record;
        let mut headers = Vec::with_capacity(record.headers.len() + 19);
        if extent < Extent::NoHeaders {
            headers.extend_from_slice(&record.headers);
        }
        let partition = &record.partition;
        let class = format!("tidegate.{}", self.fault.label());
        let transform = self.transform;
        let mut add = |name: &str, value: String| {
            headers.push(Header { name: name.to_owned(), value: Some(value.into_bytes()) });
        };
        add(TOPIC, partition.topic.to_string());
        add(PARTITION, partition.partition.to_string());
        add(OFFSET, record.offset.to_string());
        add(PIPELINE, self.pipeline.to_owned());
        // A pipeline is one task.
        add("__connect.errors.task.id", "0".to_owned());
        add(STAGE, self.stage.name().to_owned());
        add("__connect.errors.class.name", transform.to_owned());
        let trace = format!("{class}\n\tat {}.{transform}({})\n", self.pipeline, self.stage.name());
        add(EXCEPTION, class);
        let cut = extent >= Extent::ShortReason && self.reason.len() > CUT_REASON_BYTES;
        let end = if cut { self.reason.floor_char_boundary(CUT_REASON_BYTES) } else { self.reason.len() };
        add(REASON, format!("{}{}", &self.reason[..end], if cut { "…" } else { "" }));
        add("__connect.errors.exception.stacktrace", trace);
        let checksum = shown(record.checksum());
        add(crate::sink::kafka::ID, format!("{}/{}:{checksum}/{transform}", self.pipeline, record.position()));
        add(TRANSFORM, transform.to_owned());
        add(DIGEST, self.digest.to_owned());
        add(FAULT, self.fault.label().to_owned());
        if !self.sink.is_empty() {
            add(SINK, self.sink.to_owned());
        }
        add(CHECKSUM, checksum);
        if let Some(timestamp) = record.timestamp.filter(|_| filed_anew) {
            add(TIMESTAMP, timestamp.to_string());
        }
        let value = record.value.as_deref();
        let (value, omitted) = keep(value, |value| extent < Extent::NoValue && value.len() <= value_bytes);
        if let Some(bytes) = omitted {
            add(VALUE_OMITTED, bytes.to_string());
        }
        let (key, omitted) = keep(record.key.as_deref(), |_| extent < Extent::NoKey);
        if let Some(bytes) = omitted {
            add(KEY_OMITTED, bytes.to_string());
        }
        if extent >= Extent::NoHeaders && !record.headers.is_empty() {
            add(HEADERS_OMITTED, record.headers.len().to_string());
        }
        Parts { key, value, headers }
    }
}

/// The bytes, or else their number.
fn keep(bytes: Option<&[u8]>, fits: impl FnOnce(&[u8]) -> bool) -> (Option<&[u8]>, Option<usize>) {
    match bytes {
        Some(bytes) if !fits(bytes) => (None, Some(bytes.len())),
        kept => (kept, None),
    }
}
