//! How each store is read: the state of every row of a stream, as often as one likes.

use std::collections::BTreeMap;

use ::redis::Commands as _;
use serde_json::{Value, json};

use super::stream::round_of;
use crate::outage::support::{Http, connect};

/// What a store holds of each row: the round, or that it is not there. None while it does not answer.
pub(crate) type Look = Box<dyn FnMut() -> Option<BTreeMap<String, Option<u32>>> + Send>;

/// Reads a cache.
pub(crate) fn cached(url: &str, prefix: &str, ids: Vec<String>) -> Look {
    let client = ::redis::Client::open(url).unwrap();
    let keys: Vec<String> = ids.iter().map(|id| format!("{prefix}{id}")).collect();
    let mut connection = None;
    Box::new(move || {
        if connection.is_none() {
            connection = client.get_connection().ok();
        }
        let values: Result<Vec<Option<String>>, _> = connection.as_mut()?.mget(&keys);
        let Ok(values) = values else {
            connection = None;
            return None;
        };
        Some(ids.iter().cloned().zip(values.iter().map(|value| value.as_deref().map(round_of))).collect())
    })
}

/// Reads a table.
pub(crate) fn kept(url: &str, table: &str, ids: Vec<String>) -> Look {
    let (url, query) = (url.to_owned(), format!("SELECT id, status FROM {table}"));
    let mut session = None;
    Box::new(move || {
        let (runtime, client) = session.get_or_insert_with(|| connect(&url));
        let Ok(rows) = runtime.block_on(client.query(&query, &[])) else {
            session = None;
            return None;
        };
        let rows: BTreeMap<String, u32> = rows.iter().map(|row| (row.get(0), round_of(row.get(1)))).collect();
        Some(ids.iter().map(|id| (id.clone(), rows.get(id).copied())).collect())
    })
}

/// Reads documents, each by its identity, which shows what is written at once.
pub(crate) fn found(server: String, index: String, ids: &[String]) -> Look {
    let server = Http(server);
    let body = json!({ "ids": ids }).to_string();
    Box::new(move || {
        let (status, answer) = server.try_send("POST", &format!("/{index}/_mget"), &body)?;
        if status != 200 {
            return None;
        }
        let documents = answer["docs"].as_array()?;
        let state = |document: &Value| {
            let id = document["_id"].as_str()?.to_owned();
            let round = (document["found"] == true).then(|| round_of(&document["_source"].to_string()));
            Some((id, round))
        };
        documents.iter().map(state).collect()
    })
}
