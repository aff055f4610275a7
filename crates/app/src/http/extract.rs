use std::convert::Infallible;
use std::str::FromStr;
use std::time::Duration;

use application::coherence::Acknowledge;
use axum::body::{HttpBody, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header;
use axum::http::request::Parts;
use domain::{METADATA_MAX_BYTES, Metadata, NAME_MAX_CHARS, REASON_MAX_CHARS, SessionId, UserId, metadata_text};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::problem::Problem;

/// The largest request body.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// How long a request body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The `{id}` of a path.
pub(crate) struct SessionIdInPath(pub(crate) SessionId);

impl<S: Send + Sync> FromRequestParts<S> for SessionIdInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_in_path(parts, state, "id").await.map(Self)
    }
}

/// The `{user_id}` of a path.
pub(crate) struct UserIdInPath(pub(crate) UserId);

impl<S: Send + Sync> FromRequestParts<S> for UserIdInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_in_path(parts, state, "user_id").await.map(Self)
    }
}

async fn id_in_path<T: FromStr, S: Send + Sync>(parts: &mut Parts, state: &S, field: &str) -> Result<T, Problem> {
    let invalid = || Problem::invalid_request(field, "must be a UUID");
    let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| invalid())?;
    text.parse().map_err(|_| invalid())
}

/// Whether the caller waits for the end of a session to be final, or says `Prefer: respond-async` (RFC 7240 section 4.1).
pub(crate) struct Preference(pub(crate) Acknowledge);

impl<S: Send + Sync> FromRequestParts<S> for Preference {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values = parts.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        let mut preferences = values.flat_map(|value| value.split(','));
        let respond_async = |preference: &str| {
            let name = preference.split(';').next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case("respond-async")
        };
        let at_once = preferences.any(respond_async);
        Ok(Self(if at_once { Acknowledge::Committed } else { Acknowledge::Effective }))
    }
}

/// The parameters of a query string; unknown ones are refused by `T`.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(parameters) = Query::try_from_uri(&parts.uri).map_err(|rejection| {
            // axum says "Failed to deserialize query string: user_id: UUID parsing failed: ...".
            let text = rejection.body_text();
            let cause = text.split_once(": ").map_or(text.as_str(), |(_, cause)| cause);
            match cause.split_once(": ") {
                Some((field, message)) => Problem::invalid_request(field, message),
                None => Problem::invalid_request(quoted(cause).unwrap_or("query"), cause),
            }
        })?;
        Ok(Self(parameters))
    }
}

/// A JSON body; unknown fields are refused by `T`.
pub(crate) struct JsonBody<T>(pub(crate) T);

/// A JSON body that may be left out altogether.
pub(crate) struct OptionalJsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if request.body().size_hint().exact() == Some(0) {
            return Ok(Self(T::default()));
        }
        let JsonBody(value) = JsonBody::from_request(request, state).await?;
        Ok(Self(value))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(Problem::unsupported_media_type());
        }
        let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), MAX_BODY_BYTES))
            .await
            .map_err(|_| Problem::request_timeout())?
            .map_err(|error| too_large_or_broken(&error))?;
        let mut json = serde_json::Deserializer::from_slice(&body);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| invalid_body(&error))?;
        json.end().map_err(|error| Problem::invalid_request("body", error.to_string()))?;
        Ok(Self(value))
    }
}

fn too_large_or_broken(error: &axum::Error) -> Problem {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return Problem::payload_too_large();
        }
        source = error.source();
    }
    Problem::invalid_request("body", "did not arrive whole")
}

/// Names the field: by its path, or, where it is missing, unknown or there twice, by what serde quotes.
fn invalid_body(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let message = error.inner().to_string();
    let (message, _position) = message.rsplit_once(" at line ").unwrap_or((&message, ""));
    let about_a_name =
        ["missing field", "unknown field", "duplicate field"].iter().any(|kind| message.starts_with(kind));
    let path = error.path().to_string();
    let field = match quoted(message) {
        Some(name) if about_a_name => name,
        _ if path == "." => "body",
        _ => &path,
    };
    Problem::invalid_request(field, message)
}

fn quoted(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

/// The body of a request that ends sessions.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReasonBody {
    reason: Option<String>,
}

impl ReasonBody {
    /// The reason, if it is acceptable.
    pub(crate) fn into_reason(self) -> Result<Option<String>, Problem> {
        acceptable_reason(self.reason)
    }
}

/// The reason, if it is short enough and every store can keep it.
pub(crate) fn acceptable_reason(reason: Option<String>) -> Result<Option<String>, Problem> {
    match &reason {
        Some(text) if text.chars().count() > REASON_MAX_CHARS => {
            Err(Problem::unprocessable("reason", format!("must have at most {REASON_MAX_CHARS} characters")))
        }
        Some(text) if text.contains('\0') => {
            Err(Problem::unprocessable("reason", "must not contain the character U+0000"))
        }
        _ => Ok(reason),
    }
}

/// A field that may be absent (`None`) or null (`Some(None)`).
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// The name without the blanks around it, if people can read it.
pub(crate) fn acceptable_name(name: Option<String>) -> Result<Option<String>, Problem> {
    let Some(name) = name.map(|name| name.trim().to_owned()) else { return Ok(None) };
    let problem = if name.is_empty() {
        "must not be empty; null takes it away".to_owned()
    } else if name.chars().count() > NAME_MAX_CHARS {
        format!("must have at most {NAME_MAX_CHARS} characters")
    } else if name.chars().any(char::is_control) {
        "must not contain control characters".to_owned()
    } else {
        return Ok(Some(name));
    };
    Err(Problem::unprocessable("name", problem))
}

/// The metadata, if it is small enough and every store can keep it.
pub(crate) fn acceptable_metadata(metadata: Option<Metadata>) -> Result<Option<Metadata>, Problem> {
    let Some(metadata) = metadata else { return Ok(None) };
    if metadata_text(&metadata).len() > METADATA_MAX_BYTES {
        let problem = format!("must be at most {METADATA_MAX_BYTES} bytes of JSON");
        return Err(Problem::unprocessable("metadata", problem));
    }
    if metadata.iter().any(|(key, value)| key.contains('\0') || has_nul(value)) {
        return Err(Problem::unprocessable("metadata", "must not contain the character U+0000"));
    }
    Ok(Some(metadata))
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        _ => false,
    }
}

/// What answers a path that is none.
pub(crate) async fn not_found() -> Problem {
    Problem::not_found()
}

/// What answers a method that the path does not know.
pub(crate) async fn method_not_allowed() -> Problem {
    Problem::method_not_allowed()
}
