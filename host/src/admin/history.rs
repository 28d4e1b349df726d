//! `/v1/pipelines/{name}/history`: which modules made what the sinks hold, read from their ledgers.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use serde_json::json;

use super::State;
use super::answer::{Answer, Json, Refused};
use super::modules::{exchange, registry, unexpected};

/// The rows of all sinks, each sink's by time and then by offset.
pub(super) async fn history(Shared(state): Shared<Arc<State>>, Path(name): Path<String>) -> Answer {
    let exchange = exchange(registry(&state)?, &name)?.clone();
    // They may be many.
    let Ok(one) = state.reading.clone().acquire_owned().await else {
        return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the program ends", "ask another one"));
    };
    let read = tokio::task::spawn_blocking(move || {
        let read = exchange.history();
        drop(one);
        read
    });
    let rows = read.await.map_err(|error| unexpected(&error))?.map_err(|error| {
        let cause = state.config.redact(&format!("{error:#}"));
        Refused::new(StatusCode::BAD_GATEWAY, cause, "mend what the text says, and ask again")
    })?;
    let shown: Vec<_> = rows
        .iter()
        .map(|(sink, row)| {
            json!({
                "sink": sink,
                "topic": &*row.partition.topic,
                "partition": row.partition.partition,
                "offset": row.offset,
                "digests": row.digests,
                "time": row.time,
            })
        })
        .collect();
    Ok(Json(json!({ "history": shown })))
}
