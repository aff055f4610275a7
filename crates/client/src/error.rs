//! Why a call has not done what it was asked to.

use serde::Deserialize;
use thiserror::Error;

/// Why a call has failed. Neither the service key nor a token is in its text.
#[derive(Debug, Error)]
pub enum Error {
    /// sessiond has understood the request, and does not do it.
    #[error("sessiond refused the request: {0}")]
    Refused(Problem),
    /// Nothing is known: it is not the same as "no session". After a call that changes something,
    /// the change may or may not have been made; repeating it is safe.
    #[error("sessiond is unavailable: {0}")]
    Unavailable(Unavailable),
}

/// What sessiond says of a request that it refuses (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Error, Deserialize)]
#[error("{status} {code}: {title}")]
pub struct Problem {
    /// The status of the response: 400 to 499.
    pub status: u16,
    /// The kind of problem, such as `session_not_found`: see the table of errors in sessiond's
    /// `docs/http.md`.
    pub code: String,
    /// A sentence for people.
    pub title: String,
    /// Which fields of the request are wrong, and why.
    #[serde(default)]
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// What the node would say of a request that cannot even be sent.
    pub(crate) fn invalid(field: &str, must_be: &str) -> Self {
        let error = FieldError { field: field.to_owned(), message: format!("must be {must_be}") };
        Self {
            status: 400,
            code: "invalid_request".to_owned(),
            title: "The request is malformed".to_owned(),
            errors: vec![error],
        }
    }
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FieldError {
    /// Its name.
    pub field: String,
    /// What it must be.
    pub message: String,
}

/// Why nothing is known.
#[derive(Debug, Error)]
#[error("{reason}")]
pub struct Unavailable {
    /// After how many seconds to try again, where the response says so.
    pub retry_after: Option<u64>,
    /// What has happened, for logs.
    pub reason: String,
}

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;
