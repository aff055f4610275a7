//! The public listener: end users and their own sessions.

use application::coherence::Acknowledge;
use application::commands::handlers::{EditSessionError, RevokeAllUserSessionsError, RevokeSessionError};
use application::commands::{EditSession, RevokeAllUserSessions, RevokeSession};
use application::queries::GetSession;
use application::queries::handlers::{GetSessionError, ListUserSessionsError};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use domain::ports::SessionEdit;
use domain::{Actor, SessionId};
use serde::Deserialize;

use super::auth::LiveCaller;
use super::body::{JsonBody, OptionalJsonBody};
use super::fields::{acceptable_name, acceptable_reason, present};
use super::limits::{AuthFailure, NOT_OWN_SESSION};
use super::observe::{self, RequestIds};
use super::parameters::{Parameters, Preference, SessionIdInPath};
use super::problem::Problem;
use super::session_body::{SessionBody, revoked_count_response, revoked_response};
use super::session_list::{ListParameters, list_response};
use super::state::PublicState;
use super::work::{self, Audience};
use super::{method_not_allowed, no_public_route, with_routes};

/// The routes of the public listener. Each asks for a `LiveCaller`.
fn routes() -> [(&'static str, MethodRouter<PublicState>); 3] {
    [
        ("/api/v1/sessions", get(list_sessions).delete(revoke_other_sessions)),
        (
            "/api/v1/sessions/current",
            get(get_current_session).patch(rename_current_session).delete(revoke_current_session),
        ),
        ("/api/v1/sessions/{id}", get(get_session).patch(rename_session).delete(revoke_session)),
    ]
}

/// The paths of the public listener, with `{id}` where an id stands.
pub fn paths() -> Vec<&'static str> {
    routes().map(|(path, _)| path).to_vec()
}

/// The public listener.
pub fn router(state: PublicState) -> Router {
    let request_ids = RequestIds::OfProxies(state.trusted_proxies.clone());
    let router = work::layer(with_routes(routes()), Audience::Public(state.clone()))
        .fallback(no_public_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state);
    observe::layer(router, "public", request_ids)
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
        // One answer for both: that another user's session exists must not be learned here.
        GetSessionError::SessionNotFound | GetSessionError::NotOwner => not_own_session(&state, &caller),
        GetSessionError::Port(error) => error.into(),
    })?;
    Ok(SessionBody::new(&found.session, state.clock.now(), false).into_read(found.layer))
}

/// Counts and logs that a caller asked for a session that is not theirs.
fn not_own_session(state: &PublicState, caller: &LiveCaller) -> Problem {
    let (reason, peer, route) = (NOT_OWN_SESSION, caller.peer, "/api/v1/sessions/{id}");
    let failure = AuthFailure { listener: "public", reason, peer, route };
    state.limits.record_failure(&failure, Problem::session_not_found())
}

/// The body of a request that revokes sessions.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasonBody {
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenameBody {
    #[serde(deserialize_with = "present")]
    name: Option<Option<String>>,
}

/// The user's own name for a device.
async fn rename_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
    SessionIdInPath(session_id): SessionIdInPath,
    JsonBody { value: body, .. }: JsonBody<RenameBody>,
) -> Result<Response, Problem> {
    rename(&state, &caller, session_id, body).await
}

/// The same for the caller's own device.
async fn rename_current_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
    JsonBody { value: body, .. }: JsonBody<RenameBody>,
) -> Result<Response, Problem> {
    rename(&state, &caller, caller.token.session_id, body).await
}

async fn rename(
    state: &PublicState,
    caller: &LiveCaller,
    session_id: SessionId,
    body: RenameBody,
) -> Result<Response, Problem> {
    let name = body.name.map(acceptable_name).transpose()?;
    let edit = SessionEdit { name, metadata: None, only_if: None };
    let command = EditSession { session_id, owner: Some(caller.token.user_id), edit };
    let session = state.application.edit_session.handle(command).await.map_err(|error| match error {
        EditSessionError::SessionNotFound | EditSessionError::NotOwner => not_own_session(state, caller),
        EditSessionError::PreconditionFailed => Problem::precondition_failed(),
        EditSessionError::Port(error) => error.into(),
    })?;
    let is_current = session_id == caller.token.session_id;
    Ok(Json(SessionBody::new(&session, state.clock.now(), is_current)).into_response())
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
    Preference(acknowledge): Preference,
    OptionalJsonBody(body): OptionalJsonBody<ReasonBody>,
) -> Result<Response, Problem> {
    revoke_own(&state, &caller, session_id, acknowledge, body).await
}

/// Logging out.
async fn revoke_current_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
    Preference(acknowledge): Preference,
    OptionalJsonBody(body): OptionalJsonBody<ReasonBody>,
) -> Result<Response, Problem> {
    revoke_own(&state, &caller, caller.token.session_id, acknowledge, body).await
}

async fn revoke_own(
    state: &PublicState,
    caller: &LiveCaller,
    session_id: SessionId,
    acknowledge: Acknowledge,
    body: ReasonBody,
) -> Result<Response, Problem> {
    let user_id = caller.token.user_id;
    let (reason, actor) = (acceptable_reason(body.reason)?, Actor::User(user_id));
    let command = RevokeSession { session_id, owner: Some(user_id), reason, actor, acknowledge };
    let revoked = state.application.revoke_session.handle(command).await.map_err(|error| match error {
        RevokeSessionError::SessionNotFound | RevokeSessionError::NotOwner => not_own_session(state, caller),
        RevokeSessionError::Port(error) => error.into(),
    })?;
    Ok(revoked_response(revoked))
}

/// Signing out all other devices.
async fn revoke_other_sessions(
    State(state): State<PublicState>,
    caller: LiveCaller,
    Preference(acknowledge): Preference,
    OptionalJsonBody(body): OptionalJsonBody<ReasonBody>,
) -> Result<Response, Problem> {
    let (user_id, except) = (caller.token.user_id, Some(caller.token.session_id));
    let (reason, actor) = (acceptable_reason(body.reason)?, Actor::User(user_id));
    let command = RevokeAllUserSessions { user_id, except, reason, actor, acknowledge };
    let revoked = state.application.revoke_all_user_sessions.handle(command).await;
    let revoked = revoked.map_err(|RevokeAllUserSessionsError::Port(error)| Problem::from(error))?;
    Ok(revoked_count_response(revoked))
}
