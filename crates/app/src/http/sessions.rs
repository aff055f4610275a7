//! The public listener: end users and their own sessions.

use application::commands::handlers::{RevokeAllUserSessionsError, RevokeSessionError};
use application::commands::{RevokeAllUserSessions, RevokeSession};
use application::queries::GetSession;
use application::queries::handlers::{GetSessionError, ListUserSessionsError};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use domain::{Actor, SessionId};

use super::auth::LiveCaller;
use super::extract::{OptionalJsonBody, Parameters, ReasonBody, SessionIdInPath, method_not_allowed, not_found};
use super::observe;
use super::problem::Problem;
use super::session_body::{RevokedBody, SessionBody};
use super::session_list::{ListParameters, list_response};
use super::state::PublicState;

/// The routes of the public listener.
pub fn router(state: PublicState) -> Router {
    let router = Router::new()
        .route("/api/v1/sessions", get(list_sessions).delete(revoke_other_sessions))
        .route("/api/v1/sessions/current", get(get_current_session).delete(revoke_current_session))
        .route("/api/v1/sessions/{id}", get(get_session).delete(revoke_session))
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

async fn list_sessions(
    State(state): State<PublicState>,
    caller: LiveCaller,
    Parameters(parameters): Parameters<ListParameters>,
) -> Result<Response, Problem> {
    let query = parameters.into_query(caller.token.user_id)?;
    let listed = state.application.list_user_sessions.handle(query).await.map_err(|error| match error {
        ListUserSessionsError::Port(error) => Problem::from(error),
    })?;
    Ok(list_response(&listed, Some(caller.token.session_id), false))
}

/// Signing out one device. The caller's own too: then it is a logout.
async fn revoke_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
    SessionIdInPath(session_id): SessionIdInPath,
    OptionalJsonBody(body): OptionalJsonBody<ReasonBody>,
) -> Result<StatusCode, Problem> {
    revoke_own(&state, &caller, session_id, body).await
}

/// Logging out.
async fn revoke_current_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
    OptionalJsonBody(body): OptionalJsonBody<ReasonBody>,
) -> Result<StatusCode, Problem> {
    revoke_own(&state, &caller, caller.token.session_id, body).await
}

async fn revoke_own(
    state: &PublicState,
    caller: &LiveCaller,
    session_id: SessionId,
    body: ReasonBody,
) -> Result<StatusCode, Problem> {
    let user_id = caller.token.user_id;
    let (reason, actor) = (body.into_reason()?, Actor::User(user_id));
    let command = RevokeSession { session_id, owner: Some(user_id), reason, actor };
    state.application.revoke_session.handle(command).await.map_err(|error| match error {
        RevokeSessionError::SessionNotFound | RevokeSessionError::NotOwner => Problem::session_not_found(),
        RevokeSessionError::Port(error) => error.into(),
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// Signing out all other devices.
async fn revoke_other_sessions(
    State(state): State<PublicState>,
    caller: LiveCaller,
    OptionalJsonBody(body): OptionalJsonBody<ReasonBody>,
) -> Result<Json<RevokedBody>, Problem> {
    let (user_id, except) = (caller.token.user_id, Some(caller.token.session_id));
    let (reason, actor) = (body.into_reason()?, Actor::User(user_id));
    let command = RevokeAllUserSessions { user_id, except, reason, actor };
    let revoked = state.application.revoke_all_user_sessions.handle(command).await;
    let revoked_count = revoked.map_err(|RevokeAllUserSessionsError::Port(error)| Problem::from(error))?;
    Ok(Json(RevokedBody { revoked_count }))
}
