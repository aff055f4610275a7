//! The public listener: end users and their own sessions.

use std::sync::Arc;

use application::Application;
use application::queries::GetSession;
use application::queries::handlers::GetSessionError;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use domain::ports::Clock;

use super::auth::LiveCaller;
use super::extract::{SessionIdInPath, method_not_allowed, not_found};
use super::observe;
use super::problem::Problem;
use super::session_body::SessionBody;
use crate::auth::TokenVerifier;

/// What the public routes need.
#[derive(Clone)]
pub struct PublicState {
    /// The use cases.
    pub application: Arc<Application>,
    /// The wall clock, for the verdict on a session.
    pub clock: Arc<dyn Clock>,
    /// Who end users are.
    pub tokens: Arc<TokenVerifier>,
}

/// The routes of the public listener.
pub fn router(state: PublicState) -> Router {
    let router = Router::new()
        .route("/api/v1/sessions/current", get(get_current_session))
        .route("/api/v1/sessions/{id}", get(get_session))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state);
    observe::layer(router, "public")
}

async fn get_current_session(State(state): State<PublicState>, caller: LiveCaller) -> Response {
    SessionBody::new(&caller.own.session, state.clock.now(), true).into_read(caller.own.layer)
}

async fn get_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
    SessionIdInPath(session_id): SessionIdInPath,
) -> Result<Response, Problem> {
    if session_id == caller.token.session_id {
        return Ok(get_current_session(State(state), caller).await);
    }
    let query = GetSession { session_id, user_id: caller.token.user_id };
    let found = state.application.get_session.find(query).await.map_err(|error| match error {
        // One answer for both: whether somebody else's session exists is nobody's business.
        GetSessionError::SessionNotFound | GetSessionError::NotOwner => Problem::session_not_found(),
        GetSessionError::Port(error) => error.into(),
    })?;
    Ok(SessionBody::new(&found.session, state.clock.now(), false).into_read(found.layer))
}
