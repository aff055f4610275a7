//! Parts of the API description that no type of Rust says: words of which one is meant, and
//! parameters outside of a query string.

use domain::{SessionEventKind, SessionStatus};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{Object, Required};

use super::parameters::{Preference, SessionIdInPath, UserIdInPath};

fn words(words: impl IntoIterator<Item = &'static str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

/// Returns the schema of a session's status.
pub(crate) fn status() -> Object {
    words(SessionStatus::ALL.map(SessionStatus::as_str))
}

/// Returns the schema of what is said of a token that was presented.
pub(crate) fn verified_status() -> Object {
    words(SessionStatus::ALL.map(SessionStatus::as_str).into_iter().chain(["invalid"]))
}

/// Returns the schema of a device's type.
pub(crate) fn device_type() -> Object {
    words(["desktop", "mobile", "tablet", "tv", "bot", "other"])
}

/// Returns the schema of an event's type.
pub(crate) fn event_type() -> Object {
    words(SessionEventKind::ALL.map(SessionEventKind::as_str))
}

/// Returns the schema of a problem's code. A test compares it with the table of `docs/http.md`.
pub(crate) fn problem_code() -> Object {
    words([
        "cross_site_request",
        "dependency_unavailable",
        "forbidden",
        "internal_error",
        "invalid_request",
        "method_not_allowed",
        "not_found",
        "not_session_owner",
        "outcome_unknown",
        "overloaded",
        "payload_too_large",
        "precondition_failed",
        "request_timeout",
        "session_ended",
        "session_limit_reached",
        "session_not_found",
        "token_replaced",
        "too_many_requests",
        "unauthenticated",
        "unprocessable_content",
        "unsupported_media_type",
    ])
}

fn uuid() -> Object {
    let format = SchemaFormat::KnownFormat(KnownFormat::Uuid);
    ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build()
}

fn in_path(name: &str, description: &str) -> Vec<Parameter> {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(uuid()));
    vec![parameter.build()]
}

impl IntoParams for SessionIdInPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        in_path("id", "The session's id")
    }
}

impl IntoParams for UserIdInPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        in_path("user_id", "The user's id")
    }
}

impl IntoParams for Preference {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let parameter = ParameterBuilder::new()
            .name("Prefer")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some("`respond-async`: respond as soon as the revocation is stored"))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        vec![parameter.build()]
    }
}
