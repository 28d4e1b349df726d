//! The bodies of changes, read within bounds, and the line in the log for each change.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::State;
use super::answer::Refused;
use super::guard::Who;
use super::quota::cut;

/// How large a body may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Limit {
    /// A few names and numbers.
    Small,
    /// A module: as the configuration says.
    Module,
}

const SMALL_BYTES: usize = 64 << 10;

/// Reads the body of a change, hands it on, and tells the log who did what, and what came of it. One change is read and
/// done at a time, which bounds the memory.
pub(super) async fn change(
    Shared((state, limit)): Shared<(Arc<State>, Limit)>,
    request: Request,
    next: Next,
) -> Response {
    let who = request.extensions().get::<Who>().map_or_else(String::new, Who::to_string);
    let (method, path) = (cut(request.method().as_str()), cut(request.uri().path()));
    let response = match read(&state, limit, request).await {
        Ok((request, _one)) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    let status = response.status();
    let done = status.is_success();
    // What was done is told always.
    if done || state.quotas.changes.allows() {
        let outcome = if done { "done" } else { "refused" };
        tracing::info!(target: "tidegate::audit", who, method, path, outcome, status = status.as_u16(), "change");
    }
    response
}

async fn read(
    state: &State,
    limit: Limit,
    request: Request,
) -> Result<(Request, Option<tokio::sync::SemaphorePermit<'_>>), Refused> {
    let most = match (limit, &state.config.admin) {
        (Limit::Module, Some(admin)) => admin.max_body_bytes,
        _ => SMALL_BYTES,
    };
    let too_large = || {
        let error = format!("the body is larger than {most} bytes");
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, error, "send less, or raise `max_body_mb` of [admin] for a module")
    };
    let told =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|told| told > most as u64) {
        return Err(too_large());
    }
    // Small ones need no turn: a slow upload must not hold them up.
    let one = match limit {
        Limit::Small => None,
        Limit::Module => state.changing.acquire().await.ok(),
    };
    let (parts, body) = request.into_parts();
    // It fails for a client that is gone as well, to whom nothing can be answered.
    let bytes = to_bytes(body, most).await.map_err(|_| too_large())?;
    Ok((Request::from_parts(parts, Body::from(bytes)), one))
}
