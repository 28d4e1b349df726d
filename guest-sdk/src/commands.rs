//! What a transform wants done, and how its values become the commands' texts.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::bindings::exports::tidegate::transform::transformer as wire;
use crate::encode;
use crate::outputs::Outputs;
use crate::reject::{Fault, Reject};

/// The commands of a change, in order.
///
/// Commands of one change are executed in order for each target; between targets there is no order. They are executed
/// at least once, and exactly once by stores that keep a ledger (PostgreSQL, Redis, SQLite); a message may be
/// published again after a crash, unless its sink is configured with `delivery = "exactly-once"`. Nothing is executed
/// for a change that [`apply`](crate::Transform::apply) refuses.
///
/// **One writer:** a target (a cache key, a row, a document) must be a function of the record's key, so that all
/// writes to it come from one partition, in order. A target that is only ever deleted may be touched from any.
///
/// **Merging:** a value with an unsent [`Column`](crate::Column) is written by the merge form of the command, which
/// changes the other fields and never creates anything: a cache entry that is missing stays missing, a row or a
/// document that is missing is a dead letter.
#[derive(Debug)]
pub struct Commands<'a> {
    outputs: &'a Outputs,
    list: Vec<wire::Command>,
    /// Where values are written before their length is known: the contract wants texts of exact size.
    scratch: Vec<u8>,
}

impl<'a> Commands<'a> {
    pub(crate) fn new(outputs: &'a Outputs, capacity: usize) -> Self {
        Self { outputs, list: Vec::with_capacity(capacity), scratch: Vec::with_capacity(1024) }
    }

    /// Sets a cache entry to a value's JSON text. It expires after so many seconds, at least 1, counted from when the
    /// host writes it; `None` = never. With an unsent column the other fields are merged into the entry, if it exists,
    /// and its expiry begins anew.
    pub fn cache_set(
        &mut self,
        key: impl Into<String>,
        value: &(impl Serialize + ?Sized),
        ttl_seconds: impl Into<Option<u32>>,
    ) -> Result<(), Reject> {
        let (key, ttl_seconds) = (key.into(), ttl_seconds.into());
        let command = if self.write(value, || format!("the cache entry `{key}`"))? {
            wire::Command::CacheMerge(wire::CachePatch { key, fields: self.text()?, ttl_seconds })
        } else {
            wire::Command::CacheSet(wire::CacheEntry { key, value: self.scratch.clone(), ttl_seconds })
        };
        self.push(command)
    }

    /// Sets a cache entry to bytes as they are: text without quotes, for instance.
    pub fn cache_set_bytes(
        &mut self,
        key: impl Into<String>,
        value: impl Into<Vec<u8>>,
        ttl_seconds: impl Into<Option<u32>>,
    ) -> Result<(), Reject> {
        let (value, ttl_seconds) = (value.into(), ttl_seconds.into());
        self.push(wire::Command::CacheSet(wire::CacheEntry { key: key.into(), value, ttl_seconds }))
    }

    /// Replaces fields, each whole, of a cache entry that holds a JSON object, if it exists. `None` for the expiry
    /// leaves it as it is.
    pub fn cache_merge(
        &mut self,
        key: impl Into<String>,
        fields: &(impl Serialize + ?Sized),
        ttl_seconds: impl Into<Option<u32>>,
    ) -> Result<(), Reject> {
        let (key, ttl_seconds) = (key.into(), ttl_seconds.into());
        self.write_object(fields, || format!("the fields of the cache entry `{key}`"))?;
        let fields = self.text()?;
        self.push(wire::Command::CacheMerge(wire::CachePatch { key, fields, ttl_seconds }))
    }

    /// Deletes a cache entry. Deleting what is not there is success.
    pub fn cache_delete(&mut self, key: impl Into<String>) -> Result<(), Reject> {
        self.push(wire::Command::CacheDelete(key.into()))
    }

    /// Inserts a row, or sets its columns where one with that key is there. Columns left out stay as they are, or take
    /// the table's default when the row is new. With an unsent column the row must exist.
    pub fn row_upsert(&mut self, table: impl Into<String>, values: &(impl Serialize + ?Sized)) -> Result<(), Reject> {
        let table = table.into();
        let merge = self.write_object(values, || format!("the row of `{table}`"))?;
        let row = wire::Row { table, values: self.text()? };
        self.push(if merge { wire::Command::RowMerge(row) } else { wire::Command::RowUpsert(row) })
    }

    /// Sets the columns of the row with that key, which must exist.
    pub fn row_merge(&mut self, table: impl Into<String>, values: &(impl Serialize + ?Sized)) -> Result<(), Reject> {
        let table = table.into();
        self.write_object(values, || format!("the row of `{table}`"))?;
        self.push(wire::Command::RowMerge(wire::Row { table, values: self.text()? }))
    }

    /// Deletes the row with a key: the value of the key column, or a tuple or an array of them in the order of
    /// [`Outputs::table`], or an object of them.
    pub fn row_delete(&mut self, table: impl Into<String>, key: &(impl Serialize + ?Sized)) -> Result<(), Reject> {
        let table = table.into();
        if self.write(key, || format!("the key of `{table}`"))? {
            return Err(Reject::new(Fault::Unsent, format!("the key of `{table}` holds a column that was not sent")));
        }
        let values = if self.scratch.starts_with(b"{") {
            self.text()?
        } else {
            key_object(&table, self.outputs.key_of(&table), &self.text()?)?
        };
        self.push(wire::Command::RowDelete(wire::Row { table, values }))
    }

    /// Sets a document, whole. The id has 1 to 512 bytes. With an unsent column the document must exist, and its other
    /// top-level fields are replaced.
    pub fn document_index(
        &mut self,
        index: impl Into<String>,
        id: impl Into<String>,
        body: &(impl Serialize + ?Sized),
    ) -> Result<(), Reject> {
        let (index, id) = (index.into(), id.into());
        let merge = self.write_object(body, || format!("the document `{id}` of `{index}`"))?;
        let document = wire::Document { index, id, body: self.text()? };
        self.push(if merge { wire::Command::DocumentMerge(document) } else { wire::Command::DocumentIndex(document) })
    }

    /// Replaces top-level fields of a document, which must exist.
    pub fn document_merge(
        &mut self,
        index: impl Into<String>,
        id: impl Into<String>,
        fields: &(impl Serialize + ?Sized),
    ) -> Result<(), Reject> {
        let (index, id) = (index.into(), id.into());
        self.write_object(fields, || format!("the document `{id}` of `{index}`"))?;
        let body = self.text()?;
        self.push(wire::Command::DocumentMerge(wire::Document { index, id, body }))
    }

    /// Deletes a document. Deleting what is not there is success.
    pub fn document_delete(&mut self, index: impl Into<String>, id: impl Into<String>) -> Result<(), Reject> {
        self.push(wire::Command::DocumentDelete(wire::DocumentId { index: index.into(), id: id.into() }))
    }

    /// Publishes a value's JSON text under a key, written as text. Messages of one key stay in order.
    ///
    /// A message has no merge form: an unsent column in it is a rejection.
    pub fn publish(
        &mut self,
        topic: impl Into<String>,
        key: impl AsRef<str>,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), Reject> {
        let topic = topic.into();
        if self.write(value, || format!("the message to `{topic}`"))? {
            return Err(Reject::new(
                Fault::Unsent,
                format!(
                    "the message to `{topic}` holds a column that was not sent, and a message cannot be merged: leave \
                     the column out of its type, or give the table REPLICA IDENTITY FULL"
                ),
            ));
        }
        let (key, value) = (key.as_ref().as_bytes().to_vec(), self.scratch.clone());
        self.publish_message(Message { key: Some(key), value: Some(value), ..Message::to(topic) })
    }

    /// Publishes a message of any bytes, with or without key, value (none is a tombstone) and headers.
    pub fn publish_message(&mut self, message: Message) -> Result<(), Reject> {
        let headers = message.headers.into_iter().map(|(name, value)| wire::Header { name, value }).collect::<Vec<_>>();
        self.push(wire::Command::Publish(wire::Message {
            topic: message.topic,
            key: message.key,
            value: message.value,
            headers: (!headers.is_empty()).then_some(headers),
        }))
    }

    fn push(&mut self, command: wire::Command) -> Result<(), Reject> {
        self.list.push(command);
        Ok(())
    }

    /// Writes a value into `scratch`. Answers whether unsent columns were left out.
    fn write(&mut self, value: &(impl Serialize + ?Sized), what: impl FnOnce() -> String) -> Result<bool, Reject> {
        self.scratch.clear();
        encode::to_json(value, &mut self.scratch)
            .map_err(|error| Reject::new(Fault::Undecodable, format!("{} cannot be written: {error}", what())))
    }

    fn write_object(&mut self, value: &(impl Serialize + ?Sized), what: impl Fn() -> String) -> Result<bool, Reject> {
        let left_out = self.write(value, &what)?;
        if !self.scratch.starts_with(b"{") {
            return Err(Reject::new(Fault::Refused, format!("{} must be an object of named fields", what())));
        }
        Ok(left_out)
    }

    /// What was written last.
    fn text(&self) -> Result<String, Reject> {
        encode::text(self.scratch.clone()).map_err(|error| Reject::new(Fault::Undecodable, error.to_string()))
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Takes back the commands of a change that was refused in the end.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.list.truncate(len);
    }

    pub(crate) fn into_wire(self) -> Vec<wire::Command> {
        self.list
    }
}

/// A message to publish, of any bytes: [`Commands::publish_message`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The topic, as declared by [`Outputs::topic`].
    pub topic: String,
    /// The key; messages of one key stay in order. None = no key.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers, by name.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Message {
    /// A message without key, value and headers.
    pub fn to(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), ..Self::default() }
    }
}

/// Puts the values of a key under the names of the key's columns.
fn key_object(table: &str, columns: Option<&[String]>, text: &str) -> Result<String, Reject> {
    let refused = |reason: String| Reject::new(Fault::Refused, reason);
    let columns = columns.ok_or_else(|| refused(format!("the table `{table}` is not declared in `outputs()`")))?;
    let values: Vec<&RawValue> = if text.starts_with('[') {
        serde_json::from_str(text)
    } else {
        serde_json::from_str(text).map(|value| vec![value])
    }
    .map_err(|error| refused(format!("the key of `{table}`: {error}")))?;
    if values.len() != columns.len() {
        return Err(refused(format!(
            "the key of `{table}` has {} values, but its columns are `{}`",
            values.len(),
            columns.join("`, `")
        )));
    }
    let entries: std::collections::BTreeMap<&str, &RawValue> = columns.iter().map(String::as_str).zip(values).collect();
    encode::to_text(&entries).map_err(|error| refused(format!("the key of `{table}`: {error}")))
}

#[cfg(test)]
mod tests;
