//! The public listener: end users and their own sessions.

use application::coherence::Acknowledge;
use application::commands::{EditSession, RevokeAllUserSessions, RevokeSession};
use application::queries::GetSession;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::ports::SessionEdit;
use domain::{Actor, SessionId};
use serde::Deserialize;

use super::PublicState;
use super::authentication::LiveCaller;
use super::errors::session_problem;
use crate::http::wire::body::{JsonBody, OptionalJsonBody};
use crate::http::wire::fields::{acceptable_name, acceptable_reason, present};
use crate::http::wire::parameters::{Parameters, Preference, SessionIdInPath};
use crate::http::wire::problem::Problem;
use crate::http::wire::session_body::{SessionBody, revoked_count_response, revoked_response};
use crate::http::wire::session_list::{ListParameters, list_response};

/// Returns the caller's own session.
pub(super) async fn get_current_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
) -> Response {
    SessionBody::new(&caller.own.session, state.clock.now(), true).into_read(caller.own.layer)
}

/// Returns one of the caller's sessions.
pub(super) async fn get_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
    SessionIdInPath(session_id): SessionIdInPath,
) -> Result<Response, Problem> {
    if session_id == caller.token.session_id {
        return Ok(get_current_session(State(state), caller).await);
    }
    let query = GetSession { session_id, user_id: caller.token.user_id };
    let found = state.application.get_session.find(query).await;
    let found = found.map_err(|error| session_problem(&state, &caller, error))?;
    Ok(SessionBody::new(&found.session, state.clock.now(), false).into_read(found.layer))
}

/// The body of a request that revokes sessions.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReasonBody {
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RenameBody {
    #[serde(deserialize_with = "present")]
    name: Option<Option<String>>,
}

/// Sets the user's own name for a device.
pub(super) async fn rename_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
    SessionIdInPath(session_id): SessionIdInPath,
    JsonBody { value: body, .. }: JsonBody<RenameBody>,
) -> Result<Response, Problem> {
    rename(&state, &caller, session_id, body).await
}

/// Sets the user's own name for the device that calls.
pub(super) async fn rename_current_session(
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
    let session = state.application.edit_session.handle(command).await;
    let session = session.map_err(|error| session_problem(state, caller, error))?;
    let is_current = session_id == caller.token.session_id;
    Ok(Json(SessionBody::new(&session, state.clock.now(), is_current)).into_response())
}

/// Lists the caller's sessions, newest first, page by page.
pub(super) async fn list_sessions(
    State(state): State<PublicState>,
    caller: LiveCaller,
    Parameters(parameters): Parameters<ListParameters>,
) -> Result<Response, Problem> {
    let query = parameters.into_query(caller.token.user_id)?;
    let listed = state.application.list_user_sessions.handle(query).await?;
    Ok(list_response(&listed, Some(caller.token.session_id), false))
}

/// Signs out a device: revokes its session. For the caller's own session this is a logout.
pub(super) async fn revoke_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
    SessionIdInPath(session_id): SessionIdInPath,
    Preference(acknowledge): Preference,
    OptionalJsonBody(body): OptionalJsonBody<ReasonBody>,
) -> Result<Response, Problem> {
    revoke_own(&state, &caller, session_id, acknowledge, body).await
}

/// Logs out: revokes the caller's own session.
pub(super) async fn revoke_current_session(
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
    let reason = acceptable_reason(body.reason)?;
    let actor = Actor::User(user_id);
    let command = RevokeSession { session_id, owner: Some(user_id), reason, actor, acknowledge };
    let revoked = state.application.revoke_session.handle(command).await;
    let revoked = revoked.map_err(|error| session_problem(state, caller, error))?;
    Ok(revoked_response(revoked))
}

/// Signs out all other devices: revokes all of the caller's sessions but this one.
pub(super) async fn revoke_other_sessions(
    State(state): State<PublicState>,
    caller: LiveCaller,
    Preference(acknowledge): Preference,
    OptionalJsonBody(body): OptionalJsonBody<ReasonBody>,
) -> Result<Response, Problem> {
    let user_id = caller.token.user_id;
    let except = Some(caller.token.session_id);
    let reason = acceptable_reason(body.reason)?;
    let actor = Actor::User(user_id);
    let command = RevokeAllUserSessions { user_id, except, reason, actor, acknowledge };
    let revoked = state.application.revoke_all_user_sessions.handle(command).await?;
    Ok(revoked_count_response(revoked))
}
