//! What an end user sees of the errors of use cases about one session.

use application::commands::handlers::{EditSessionError, RevokeSessionError, RotateTokenError};
use application::queries::handlers::GetSessionError;
use domain::ports::PortError;

use super::PublicState;
use super::authentication::LiveCaller;
use crate::http::middleware::limits::{AuthFailure, NOT_OWN_SESSION};
use crate::http::wire::problem::Problem;

/// Why a use case about one session failed.
pub(super) enum SessionFailure {
    /// The session is unknown, or another user's.
    NotOwn,
    PreconditionFailed,
    Port(PortError),
}

/// Returns the problem. A session that is unknown and one of another user are the same to
/// the byte: that another's session exists must not be learned here. Both are counted and logged as
/// a failed authentication.
pub(super) fn session_problem(
    state: &PublicState,
    caller: &LiveCaller,
    failure: impl Into<SessionFailure>,
) -> Problem {
    match failure.into() {
        SessionFailure::NotOwn => {
            let failure = AuthFailure {
                listener: "public",
                reason: NOT_OWN_SESSION,
                peer: caller.peer,
                route: "/api/v1/sessions/{id}",
            };
            state.limits.record_failure(&failure, Problem::session_not_found())
        }
        SessionFailure::PreconditionFailed => Problem::precondition_failed(),
        SessionFailure::Port(error) => error.into(),
    }
}

impl From<RotateTokenError> for Problem {
    fn from(error: RotateTokenError) -> Self {
        match error {
            // It was live just before.
            RotateTokenError::SessionNotFound | RotateTokenError::SessionEnded => {
                Self::session_ended()
            }
            RotateTokenError::TokenReplaced => Self::token_replaced(),
            RotateTokenError::Port(error) => error.into(),
        }
    }
}

impl From<GetSessionError> for SessionFailure {
    fn from(error: GetSessionError) -> Self {
        match error {
            GetSessionError::SessionNotFound | GetSessionError::NotOwner => Self::NotOwn,
            GetSessionError::Port(error) => Self::Port(error),
        }
    }
}

impl From<EditSessionError> for SessionFailure {
    fn from(error: EditSessionError) -> Self {
        match error {
            EditSessionError::SessionNotFound | EditSessionError::NotOwner => Self::NotOwn,
            EditSessionError::PreconditionFailed => Self::PreconditionFailed,
            EditSessionError::Port(error) => Self::Port(error),
        }
    }
}

impl From<RevokeSessionError> for SessionFailure {
    fn from(error: RevokeSessionError) -> Self {
        match error {
            RevokeSessionError::SessionNotFound | RevokeSessionError::NotOwner => Self::NotOwn,
            RevokeSessionError::Port(error) => Self::Port(error),
        }
    }
}
