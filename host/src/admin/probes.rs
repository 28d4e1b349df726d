//! `/livez` and `/readyz`. They are asked without a token; the reasons are for who may see more.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::State;
use super::answer::Json;
use super::guard::Who;

/// The program lives as long as it answers.
pub(super) async fn livez() -> Json {
    Json(json!({ "live": true }))
}

/// Ready when every pipeline is.
pub(super) async fn readyz(Shared(state): Shared<Arc<State>>, Extension(who): Extension<Who>) -> Response {
    let reasons: Vec<Value> = state
        .observed
        .pipelines()
        .iter()
        .filter_map(|pipeline| {
            let reason = state.config.redact(&pipeline.not_ready()?);
            Some(json!({ "pipeline": pipeline.name, "reason": reason }))
        })
        .collect();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let answer = if who.trusted { json!({ "ready": ready, "reasons": reasons }) } else { json!({ "ready": ready }) };
    (status, Json(answer)).into_response()
}
