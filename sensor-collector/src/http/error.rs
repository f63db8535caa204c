//! Errors of the HTTP API: a status and a JSON body `{"error": "..."}`, for a baseline that does not parse also line,
//! column and message. It decides nothing.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::fleet::FleetError;
use crate::http::json::Damaged;
use crate::store::StoreError;

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    body: Value,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, error: &str) -> Self {
        Self { status, body: json!({ "error": error }) }
    }

    pub(super) fn bad_request(error: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(super) fn not_found(error: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "request failed");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
    }
}

impl From<Damaged> for ApiError {
    fn from(damaged: Damaged) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, &damaged.to_string())
    }
}

impl From<FleetError> for ApiError {
    fn from(error: FleetError) -> Self {
        let text = error.to_string();
        let status = match error {
            FleetError::Store(error) => return error.into(),
            FleetError::Invalid { line, column, message } => {
                let body = json!({ "error": text, "line": line, "column": column, "message": message });
                return Self { status: StatusCode::UNPROCESSABLE_ENTITY, body };
            }
            FleetError::NoFleet { .. } | FleetError::NoBaseline { .. } | FleetError::NoFinding { .. } => {
                StatusCode::NOT_FOUND
            }
            FleetError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            FleetError::Conflict { .. } | FleetError::CannotApprove { .. } => StatusCode::CONFLICT,
        };
        Self::new(status, &text)
    }
}
