//! Bodies of requests: read once, before the work begins, and always a JSON object.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use utoipa::ToSchema;

/// The largest request body, in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 16 * 1024;
/// The same where ids are listed: room for many more than are allowed, so that the response can say
/// so.
pub(crate) const MAX_IDS_BYTES: usize = 64 * 1024;
/// The media type of most bodies.
const JSON: &str = "application/json";
/// How long a request body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a request that revokes sessions which its path names.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReasonBody {
    /// Why; for lists and the audit log.
    #[schema(max_length = 255)]
    pub(crate) reason: Option<String>,
}

/// The body of a request that needs none: absent, or an object without fields.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmptyBody {}

/// Returns the request with its body in memory.
///
/// What the request asks for has not begun then: a body that is late, too large or cut off changes
/// nothing, and the time that it takes is not the work's.
///
/// # Errors
/// 408 if the body did not arrive in [`BODY_TIMEOUT`], 413 beyond `max_bytes`, 400 if it broke off.
pub(crate) async fn with_body_read(request: Request, max_bytes: usize) -> Result<Request, Problem> {
    if request.body().is_end_stream() {
        return Ok(request);
    }
    if request.body().size_hint().lower() > max_bytes as u64 {
        return Err(Problem::payload_too_large());
    }
    let (parts, body) = request.into_parts();
    let bytes = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, max_bytes))
        .await
        .map_err(|_| Problem::request_timeout())?
        .map_err(|error| too_large_or_broken(&error))?;
    Ok(Request::from_parts(parts, Body::from(bytes)))
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

/// A JSON object; unknown fields are refused by `T`.
pub(crate) struct JsonBody<T> {
    /// The object.
    pub(crate) value: T,
    /// Its text, as it was sent.
    pub(crate) text: Bytes,
}

/// A JSON object that may be left out. A body without a byte is no body, however it is framed.
pub(crate) struct OptionalJsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (is_json, text) = read(request, JSON).await?;
        if text.is_empty() { Ok(Self(T::default())) } else { parse(is_json, &text).map(Self) }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (is_json, text) = read(request, JSON).await?;
        if text.is_empty() {
            return Err(Problem::invalid_request("body", "is missing; must be a JSON object"));
        }
        Ok(Self { value: parse(is_json, &text)?, text })
    }
}

/// The parameters of a form (`application/x-www-form-urlencoded`). Unknown ones are ignored, as
/// OAuth has it (RFC 6749 section 3.1).
pub(crate) struct FormBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for FormBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (is_form, text) = read(request, "application/x-www-form-urlencoded").await?;
        if !is_form {
            const TITLE: &str = "Content-Type must be application/x-www-form-urlencoded";
            return Err(Problem::unsupported_media_type(TITLE));
        }
        let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(&text));
        T::deserialize(pairs).map(Self).map_err(|error| {
            let message = error.to_string();
            Problem::invalid_request(quoted_name(&message).unwrap_or("body"), message.clone())
        })
    }
}

/// Returns whether the body is said to be of this media type, and its text, which is in memory
/// already.
async fn read(request: Request, expected: &str) -> Result<(bool, Bytes), Problem> {
    let content_type =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type =
        content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    let is_plain = !request.headers().contains_key(header::CONTENT_ENCODING);
    let is_expected = media_type.eq_ignore_ascii_case(expected) && is_plain;
    let text = to_bytes(request.into_body(), MAX_IDS_BYTES)
        .await
        .map_err(|error| too_large_or_broken(&error))?;
    Ok((is_expected, text))
}

/// serde reads a struct from an array too, whose items have no names: order would become part of
/// the interface, and `deny_unknown_fields` would refuse nothing. So only an object is read at all.
fn parse<T: DeserializeOwned>(is_json: bool, text: &[u8]) -> Result<T, Problem> {
    if !is_json {
        return Err(Problem::unsupported_media_type("Content-Type must be application/json"));
    }
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_some_and(|byte| b"[\"-0123456789tfn".contains(byte)) {
        return Err(Problem::invalid_request("body", "must be a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let value =
        serde_path_to_error::deserialize(&mut json).map_err(|error| invalid_body(&error))?;
    json.end()
        .map_err(|error| Problem::invalid_request("body", format!("is not JSON: {error}")))?;
    Ok(value)
}

/// Names the field: by its path, or, where it is missing, unknown or there twice, by what serde
/// quotes.
fn invalid_body(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let source = error.inner();
    if !source.is_data() {
        // The place helps here: there is no field to name.
        return Problem::invalid_request("body", format!("is not JSON: {source}"));
    }
    let message = source.to_string();
    let (message, _place) = message.rsplit_once(" at line ").unwrap_or((&message, ""));
    let path = error.path().to_string();
    match quoted_name(message) {
        // The path ends in the name, or in what the name is missing from.
        Some(name) if path == "." || path == name => Problem::invalid_request(name, message),
        Some(name) if path.ends_with(&format!(".{name}")) => {
            Problem::invalid_request(path, message)
        }
        Some(name) => Problem::invalid_request(format!("{path}.{name}"), message),
        None if path == "." => Problem::invalid_request("body", message),
        None => Problem::invalid_request(path, message),
    }
}

/// Returns the name that serde quotes where a field is missing, unknown or there twice.
pub(crate) fn quoted_name(message: &str) -> Option<&str> {
    let is_about_a_name = ["missing field", "unknown field", "duplicate field"]
        .iter()
        .any(|kind| message.starts_with(kind));
    message.split('`').nth(1).filter(|_| is_about_a_name)
}
