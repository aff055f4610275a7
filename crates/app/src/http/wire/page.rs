//! Pages and their files, which are part of the binary.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

/// A page loads nothing from elsewhere, runs no inline script, and cannot be framed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Browsers ask again after five minutes, so that an upgrade of the node reaches them.
const CACHE_CONTROL: &str = "public, max-age=300";

/// Returns an HTML page.
pub(crate) fn page(text: impl IntoResponse) -> Response {
    let policy = [(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))];
    (policy, file("text/html; charset=utf-8", text)).into_response()
}

/// Returns a file of a page.
pub(crate) fn file(content_type: &'static str, text: impl IntoResponse) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static(CACHE_CONTROL)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, text).into_response()
}

/// Returns a stylesheet.
pub(crate) fn stylesheet(text: &'static str) -> Response {
    file("text/css; charset=utf-8", text)
}

/// Returns a module of JavaScript.
pub(crate) fn module(text: &'static str) -> Response {
    file("text/javascript; charset=utf-8", text)
}
