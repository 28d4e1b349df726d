//! What is answered: JSON, and of every refusal the cause and the remedy.

use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Why a request is refused. Answered as `{"error": …, "remedy": …}`.
#[derive(Debug)]
pub(super) struct Refused {
    /// The status.
    pub(super) status: StatusCode,
    /// The cause.
    pub(super) error: String,
    /// What to do.
    pub(super) remedy: String,
}

/// What a handler answers.
pub(super) type Answer = Result<Json, Refused>;

/// A JSON answer.
#[derive(Debug)]
pub(super) struct Json(pub(super) Value);

impl Refused {
    /// A refusal with this status.
    pub(super) fn new(status: StatusCode, error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status, error: error.into(), remedy: remedy.into() }
    }

    /// Something of this name is not there.
    pub(super) fn not_found(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error, remedy)
    }

    /// It is not possible as things stand.
    pub(super) fn conflict(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error, remedy)
    }
}

/// A question of parameters that the route does not know.
pub(super) fn wrong_query(error: &QueryRejection) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, error.body_text(), "`/openapi.json` lists what may be asked")
}

impl IntoResponse for Json {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], self.0.to_string()).into_response()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error, "remedy": self.remedy }))).into_response()
    }
}
