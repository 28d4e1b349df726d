//! Captured records, multiplied: each copy under a key of its own, so that nothing folds.

use std::path::Path;

use tidegate::source::{Claim, Record, TopicPartition, recorded};

/// As many records as are asked for.
pub(crate) struct Events {
    captured: Vec<(Record, String)>,
}

impl Events {
    /// The records of a file of the corpus that have a row, all columns of which were sent, in values of up to 4 kB, and
    /// for which `fits`: the captures have some much larger ones for what they test.
    pub(crate) fn captured(path: &str, mut fits: impl FnMut(&Record) -> bool) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus").join(path);
        let usual = recorded::read(&path).unwrap().map(Result::unwrap).filter(|record| {
            let Some(value) = &record.value else { return false };
            let value = std::str::from_utf8(value).unwrap();
            let deleted = value.contains("\"op\":\"d\"") || value.contains("\"__deleted\":\"true\"");
            value.len() <= 4096 && !deleted && !value.contains("__debezium_unavailable_value")
        });
        let captured: Vec<_> = usual.filter(|record| fits(record)).map(|record| (id(&record), record)).collect();
        let captured: Vec<_> = captured.into_iter().map(|(id, record)| (record, id)).collect();
        assert!(!captured.is_empty(), "the capture has no such records");
        Self { captured }
    }

    /// The record of this number, in a topic.
    pub(crate) fn record(&self, topic: &str, number: usize) -> Record {
        let (captured, id) = &self.captured[number % self.captured.len()];
        let own = own(id, number);
        let renamed = |bytes: &Option<Vec<u8>>| {
            let text = std::str::from_utf8(bytes.as_deref()?).unwrap();
            Some(text.replace(&format!("\"id\":{id}"), &format!("\"id\":{own}")).into_bytes())
        };
        Record {
            partition: TopicPartition { topic: topic.into(), partition: 0 },
            offset: number as u64,
            timestamp: captured.timestamp,
            headers: captured.headers.clone(),
            key: renamed(&captured.key),
            value: renamed(&captured.value),
            claim: Claim(0),
        }
    }
}

/// The id of a record, as JSON.
fn id(record: &Record) -> String {
    let key: serde_json::Value = serde_json::from_slice(record.key.as_deref().unwrap()).unwrap();
    key["id"].to_string()
}

/// An id of the same kind that no other record has.
fn own(id: &str, number: usize) -> String {
    match id.strip_prefix('"').and_then(|id| id.strip_suffix('"')) {
        Some(uuid) if uuid.len() == 36 => format!("\"{}{number:012x}\"", &uuid[..24]),
        Some(text) => format!("\"{text}_{number}\""),
        None => (1_000_000 + number).to_string(),
    }
}
