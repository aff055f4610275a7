//! What backends and operators see of the errors of use cases.

use application::commands::handlers::{
    CreateSessionError, EditSessionError, RecordActivityError, RevokeSessionError, RotateTokenError,
};
use application::queries::handlers::{GetSessionError, InspectSessionError};
use axum::response::{IntoResponse, Response};
use domain::ports::PortError;

use crate::http::wire::problem::Problem;

/// A problem, made of the error of any use case. `session_not_found` and `not_session_owner` are
/// kept apart: this caller may know that a session exists.
pub(super) struct ServiceProblem(Problem);

impl IntoResponse for ServiceProblem {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl From<Problem> for ServiceProblem {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<PortError> for ServiceProblem {
    fn from(error: PortError) -> Self {
        Self(error.into())
    }
}

impl From<GetSessionError> for ServiceProblem {
    fn from(error: GetSessionError) -> Self {
        Self(match error {
            GetSessionError::SessionNotFound => Problem::session_not_found(),
            GetSessionError::NotOwner => Problem::not_session_owner(),
            GetSessionError::Port(error) => error.into(),
        })
    }
}

impl From<InspectSessionError> for ServiceProblem {
    fn from(error: InspectSessionError) -> Self {
        Self(match error {
            InspectSessionError::SessionNotFound => Problem::session_not_found(),
            InspectSessionError::Port(error) => error.into(),
        })
    }
}

impl From<CreateSessionError> for ServiceProblem {
    fn from(error: CreateSessionError) -> Self {
        Self(match error {
            CreateSessionError::ExpiresAt(error) => {
                Problem::unprocessable("expires_at", error.to_string())
            }
            CreateSessionError::LimitReached => Problem::session_limit_reached(),
            CreateSessionError::KeyReused => Problem::idempotency_key_reused(),
            CreateSessionError::SessionEnded => Problem::already_ended(),
            CreateSessionError::Port(error) => error.into(),
        })
    }
}

impl From<EditSessionError> for ServiceProblem {
    fn from(error: EditSessionError) -> Self {
        Self(match error {
            EditSessionError::SessionNotFound => Problem::session_not_found(),
            EditSessionError::NotOwner => Problem::not_session_owner(),
            EditSessionError::PreconditionFailed => Problem::precondition_failed(),
            EditSessionError::Port(error) => error.into(),
        })
    }
}

impl From<RecordActivityError> for ServiceProblem {
    fn from(error: RecordActivityError) -> Self {
        Self(match error {
            RecordActivityError::SessionNotFound => Problem::session_not_found(),
            RecordActivityError::SessionEnded => Problem::already_ended(),
            RecordActivityError::Port(error) => error.into(),
        })
    }
}

impl From<RotateTokenError> for ServiceProblem {
    fn from(error: RotateTokenError) -> Self {
        Self(match error {
            RotateTokenError::SessionNotFound => Problem::session_not_found(),
            RotateTokenError::SessionEnded => Problem::already_ended(),
            RotateTokenError::TokenReplaced => Problem::token_replaced(),
            RotateTokenError::Port(error) => error.into(),
        })
    }
}

impl From<RevokeSessionError> for ServiceProblem {
    fn from(error: RevokeSessionError) -> Self {
        Self(match error {
            RevokeSessionError::SessionNotFound => Problem::session_not_found(),
            RevokeSessionError::NotOwner => Problem::not_session_owner(),
            RevokeSessionError::Port(error) => error.into(),
        })
    }
}
