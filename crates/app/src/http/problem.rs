use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::ports::PortError;
use serde::Serialize;

/// Seconds after which it is worth trying again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// An error as users see it (RFC 9457): a stable `type` and `code`, and nothing of what is behind it.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    errors: Vec<FieldError>,
    challenge: Option<&'static str>,
    retry: bool,
}

/// What is wrong with one field of a request.
#[derive(Debug, Serialize)]
pub(crate) struct FieldError {
    pub(crate) field: String,
    pub(crate) message: String,
}

#[derive(Serialize)]
struct Body {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    code: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self { status, code, title, errors: Vec::new(), challenge: None, retry: false }
    }

    fn with_field(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.errors.push(FieldError { field: field.into(), message: message.into() });
        self
    }

    /// 400: the request is malformed.
    pub(crate) fn invalid_request(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", "The request is malformed").with_field(field, message)
    }

    /// 401: no credentials, or bad ones.
    pub(crate) fn unauthenticated() -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "No valid credentials");
        Self { challenge: Some("Bearer"), ..problem }
    }

    /// 401: the caller's own session is over.
    pub(crate) fn session_ended() -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "session_ended", "The session has ended");
        Self { challenge: Some("Bearer error=\"invalid_token\""), ..problem }
    }

    /// 403: the service key is unknown.
    pub(crate) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "The service key is not accepted")
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

    /// 405: the path does not know this method.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed")
    }

    /// 408: the body did not arrive in time.
    pub(crate) fn request_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "The request did not arrive in time")
    }

    /// 409: the user has all the live sessions that are allowed.
    pub(crate) fn session_limit_reached() -> Self {
        Self::new(StatusCode::CONFLICT, "session_limit_reached", "The user has all the sessions that are allowed")
    }

    /// 413: the body is too large.
    pub(crate) fn payload_too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "The request body is too large")
    }

    /// 415: the body is no JSON.
    pub(crate) fn unsupported_media_type() -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Content-Type must be application/json")
    }

    /// 422: well formed, but not to be accepted.
    pub(crate) fn unprocessable(field: impl Into<String>, message: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable_content", "A value is not acceptable");
        problem.with_field(field, message)
    }

    /// 429: no more of these at once.
    pub(crate) fn too_many_requests() -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "Too many of these at once");
        Self { retry: true, ..problem }
    }

    /// 409: the session that was to be used is over.
    pub(crate) fn already_ended() -> Self {
        Self::new(StatusCode::CONFLICT, "session_ended", "The session has ended")
    }

    /// 503: a dependency is down. Never "logged out", never "not found".
    pub(crate) fn dependency_unavailable() -> Self {
        let problem =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "dependency_unavailable", "A dependency is unavailable");
        Self { retry: true, ..problem }
    }

    /// 503: a dependency was told, and did not say whether it did it. Trying again is safe, and tells.
    pub(crate) fn outcome_unknown() -> Self {
        let problem =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown", "It may have been done; please try again");
        Self { retry: true, ..problem }
    }

    /// 500: a record is corrupt, or the code is wrong.
    pub(crate) fn internal_error() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "Something is wrong on our side")
    }
}

impl From<PortError> for Problem {
    /// The one place where a port's failure is logged, with its source, and turned into what a caller may know.
    fn from(error: PortError) -> Self {
        match &error {
            PortError::Unavailable(source) => {
                tracing::warn!(error = %source, "a dependency is unavailable");
                Self::dependency_unavailable()
            }
            PortError::OutcomeUnknown(source) => {
                tracing::warn!(error = %source, "a dependency did not say whether it did what it was told");
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
        let body = Body {
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
        if self.retry {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}
