//! Errors as users see them (RFC 9457).

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::ports::PortError;
use serde::Serialize;
use utoipa::ToSchema;

use super::schemas;

/// When it is worth trying again after an outage.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An error as users see it (RFC 9457): a stable `type` and `code`, and nothing of what is behind
/// it.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    errors: Vec<FieldError>,
    challenge: Option<&'static str>,
    retry_after: Option<Duration>,
    /// The connection is of no use any more: what it carries was not read.
    closes: bool,
}

/// What is wrong with one field of a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FieldError {
    pub(crate) field: String,
    pub(crate) message: String,
}

/// An error (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "type": "urn:sessiond:problem:invalid_request",
    "title": "The request is malformed",
    "status": 400,
    "code": "invalid_request",
    "errors": [{ "field": "user_id", "message": "must be a UUID, hyphenated" }]
}))]
pub(crate) struct ProblemBody {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    #[schema(schema_with = schemas::problem_code)]
    code: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self {
            status,
            code,
            title,
            errors: Vec::new(),
            challenge: None,
            retry_after: None,
            closes: false,
        }
    }

    fn with_field(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.errors.push(FieldError { field: field.into(), message: message.into() });
        self
    }

    /// 400: the request is malformed.
    pub(crate) fn invalid_request(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", "The request is malformed")
            .with_field(field, message)
    }

    /// 400: the head of a request breaks RFC 9112, and its connection may be out of step.
    pub(crate) fn malformed_head(field: &str, message: &str) -> Self {
        Self { closes: true, ..Self::invalid_request(field, message) }
    }

    /// 401: a token that is no good (RFC 6750 section 3.1: clients refresh it).
    pub(crate) fn invalid_token() -> Self {
        Self { challenge: Some("Bearer error=\"invalid_token\""), ..Self::unauthenticated() }
    }

    /// 401: no credentials.
    pub(crate) fn unauthenticated() -> Self {
        let problem =
            Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "No valid credentials");
        Self { challenge: Some("Bearer"), ..problem }
    }

    /// 401: the caller's own session is terminated.
    pub(crate) fn session_ended() -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "session_ended", "The session has ended");
        Self { challenge: Some("Bearer error=\"invalid_token\""), ..problem }
    }

    /// 403: the service key is unknown.
    pub(crate) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "The service key is not accepted")
    }

    /// 403: the service key lacks a scope.
    pub(crate) fn missing_scope(scope: &str) -> Self {
        let problem =
            Self::new(StatusCode::FORBIDDEN, "forbidden", "The service key may not do this");
        problem.with_field("scope", format!("the key does not have the scope {scope}"))
    }

    /// 403: the session is another user's. On the service listener only.
    pub(crate) fn not_session_owner() -> Self {
        Self::new(StatusCode::FORBIDDEN, "not_session_owner", "The session belongs to another user")
    }

    /// 404: there is no such session; on the public listener also: it is not the caller's.
    pub(crate) fn session_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "session_not_found", "No such session")
    }

    /// 404: there is no such path.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "No such resource")
    }

    /// 404: there is no such path here, but there is on the other listener.
    pub(crate) fn on_other_listener(setting: &str) -> Self {
        Self::not_found().with_field("path", format!("is served by the other listener ({setting})"))
    }

    /// 405: the path does not know this method.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed")
    }

    /// 408: the body did not arrive in time.
    pub(crate) fn request_timeout() -> Self {
        let problem = Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "The request did not arrive in time",
        );
        Self { closes: true, ..problem }
    }

    /// 409: the user has all the live sessions that are allowed.
    pub(crate) fn session_limit_reached() -> Self {
        Self::new(StatusCode::CONFLICT, "session_limit_reached", "Session limit reached")
    }

    /// 412: the session is no longer what `If-Match` says.
    pub(crate) fn precondition_failed() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "precondition_failed",
            "The session has been changed since",
        )
    }

    /// 413: the body is too large.
    pub(crate) fn payload_too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "payload_too_large",
            "The request body is too large",
        )
    }

    /// 415: the body is no JSON.
    pub(crate) fn unsupported_media_type(title: &'static str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", title)
    }

    /// 422: the idempotency key was given for another request.
    pub(crate) fn idempotency_key_reused() -> Self {
        Self::unprocessable(
            "Idempotency-Key",
            "was used for another request; a new request needs a new key",
        )
    }

    /// 422: well formed, but not to be accepted.
    pub(crate) fn unprocessable(field: impl Into<String>, message: impl Into<String>) -> Self {
        let problem = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "unprocessable_content",
            "A value is not acceptable",
        );
        problem.with_field(field, message)
    }

    /// 429: too many from this caller; `wait` says when the next one is served.
    pub(crate) fn too_many_requests(wait: Duration) -> Self {
        let problem =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "Too many requests");
        Self { retry_after: Some(wait), ..problem }
    }

    /// 429: as many streams of events as there may be are open.
    pub(crate) fn too_many_streams() -> Self {
        let problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            "Too many concurrent event streams",
        );
        Self { retry_after: Some(RETRY_AFTER), ..problem }
    }

    /// 503: this node has all the work that it can do. Nothing was done.
    pub(crate) fn overloaded() -> Self {
        let problem =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The node has too much to do");
        Self { retry_after: Some(RETRY_AFTER), ..problem }
    }

    /// 409: another request has replaced the token that this one presents.
    pub(crate) fn token_replaced() -> Self {
        Self::new(StatusCode::CONFLICT, "token_replaced", "The token has been replaced")
    }

    /// 403: a page of another site made the browser send the session cookie.
    pub(crate) fn cross_site_request() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "cross_site_request",
            "A cookie from another site changes nothing",
        )
    }

    /// 409: the session is terminated.
    pub(crate) fn already_ended() -> Self {
        Self::new(StatusCode::CONFLICT, "session_ended", "The session has ended")
    }

    /// 503: a dependency is down. Never "logged out", never "not found".
    pub(crate) fn dependency_unavailable() -> Self {
        let problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "dependency_unavailable",
            "A dependency is unavailable",
        );
        Self { retry_after: Some(RETRY_AFTER), ..problem }
    }

    /// 503: a dependency did not report whether it carried out a change. Trying again is safe, and
    /// shows it.
    pub(crate) fn outcome_unknown() -> Self {
        let problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "outcome_unknown",
            "The outcome is unknown; retrying is safe",
        );
        Self { retry_after: Some(RETRY_AFTER), ..problem }
    }

    /// 500: a record is corrupt, or the code is wrong.
    pub(crate) fn internal_error() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "Internal server error")
    }
}

#[cfg(test)]
impl Problem {
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<PortError> for Problem {
    /// The one place where a port's failure is logged, with its source, and turned into what a
    /// caller may know.
    fn from(error: PortError) -> Self {
        match &error {
            PortError::Unavailable(source) => {
                tracing::warn!(error = %source, "a dependency is unavailable");
                Self::dependency_unavailable()
            }
            PortError::OutcomeUnknown(source) => {
                tracing::warn!(error = %source, "the outcome of a change is unknown");
                Self::outcome_unknown()
            }
            PortError::Corrupt(source) | PortError::Conflict(source) => {
                tracing::error!(error = %source, "{error}");
                Self::internal_error()
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: format!("urn:sessiond:problem:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            code: self.code,
            errors: self.errors,
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(wait) = self.retry_after {
            // Whole seconds, and never so few that the caller comes back too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
