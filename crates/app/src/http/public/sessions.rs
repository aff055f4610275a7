//! The public listener: end users and their own sessions.

use application::coherence::Acknowledge;
use application::commands::{EditSession, RevokeAllUserSessions, RevokeSession, RotateToken};
use application::queries::GetSession;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use domain::ports::SessionEdit;
use domain::{Actor, SessionId};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::PublicState;
use super::authentication::{Credential, LiveCaller};
use super::errors::session_problem;
use crate::auth::session_token;
use crate::http::wire::body::{EmptyBody, JsonBody, OptionalJsonBody, ReasonBody};
use crate::http::wire::fields::{acceptable_name, acceptable_reason, present};
use crate::http::wire::parameters::{Parameters, Preference, SessionIdInPath};
use crate::http::wire::problem::Problem;
use crate::http::wire::session_body::{
    RevokedBody, SessionBody, revoked_count_response, revoked_response,
};
use crate::http::wire::session_cookie::{clear_cookie, set_cookie};
use crate::http::wire::session_list::{ListBody, ListParameters, list_response};
use utoipa::ToSchema;

/// Returns the caller's own session.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/current",
    operation_id = "get_current_session",
    tag = "end users",
    responses((status = 200, description = "The session", body = SessionBody))
)]
pub(super) async fn get_current_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
) -> Response {
    SessionBody::new(&caller.own.session, state.clock.now(), true).into_read(caller.own.layer)
}

/// Returns one of the caller's sessions.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{id}",
    operation_id = "get_own_session",
    tag = "end users",
    params(SessionIdInPath),
    responses((status = 200, description = "The session", body = SessionBody))
)]
pub(super) async fn get_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
    SessionIdInPath(session_id): SessionIdInPath,
) -> Result<Response, Problem> {
    if session_id == caller.session_id {
        return Ok(get_current_session(State(state), caller).await);
    }
    let query = GetSession { session_id, user_id: caller.user_id };
    let found = state.application.get_session.find(query).await;
    let found = found.map_err(|error| session_problem(&state, &caller, error))?;
    Ok(SessionBody::new(&found.session, state.clock.now(), false).into_read(found.layer))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "work laptop" }))]
pub(super) struct RenameBody {
    /// The user's own name for the device; null removes it.
    #[schema(required, value_type = Option<String>, min_length = 1, max_length = 64)]
    #[serde(deserialize_with = "present")]
    name: Option<Option<String>>,
}

/// Sets the user's own name for a device.
#[utoipa::path(
    patch,
    path = "/api/v1/sessions/{id}",
    operation_id = "rename_session",
    tag = "end users",
    params(SessionIdInPath),
    request_body = RenameBody,
    responses((status = 200, description = "The session", body = SessionBody))
)]
pub(super) async fn rename_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
    SessionIdInPath(session_id): SessionIdInPath,
    JsonBody { value: body, .. }: JsonBody<RenameBody>,
) -> Result<Response, Problem> {
    rename(&state, &caller, session_id, body).await
}

/// Sets the user's own name for the device that calls.
#[utoipa::path(
    patch,
    path = "/api/v1/sessions/current",
    operation_id = "rename_current_session",
    tag = "end users",
    request_body = RenameBody,
    responses((status = 200, description = "The session", body = SessionBody))
)]
pub(super) async fn rename_current_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
    JsonBody { value: body, .. }: JsonBody<RenameBody>,
) -> Result<Response, Problem> {
    rename(&state, &caller, caller.session_id, body).await
}

async fn rename(
    state: &PublicState,
    caller: &LiveCaller,
    session_id: SessionId,
    body: RenameBody,
) -> Result<Response, Problem> {
    let name = body.name.map(acceptable_name).transpose()?;
    let edit = SessionEdit { name, metadata: None, only_if: None };
    let command = EditSession { session_id, owner: Some(caller.user_id), edit };
    let session = state.application.edit_session.handle(command).await;
    let session = session.map_err(|error| session_problem(state, caller, error))?;
    let is_current = session_id == caller.session_id;
    Ok(Json(SessionBody::new(&session, state.clock.now(), is_current)).into_response())
}

/// Lists the caller's sessions, newest first, page by page.
#[utoipa::path(
    get,
    path = "/api/v1/sessions",
    operation_id = "list_own_sessions",
    tag = "end users",
    params(ListParameters),
    responses((status = 200, description = "A page of sessions", body = ListBody))
)]
pub(super) async fn list_sessions(
    State(state): State<PublicState>,
    caller: LiveCaller,
    Parameters(parameters): Parameters<ListParameters>,
) -> Result<Response, Problem> {
    let query = parameters.into_query(caller.user_id)?;
    let listed = state.application.list_user_sessions.handle(query).await?;
    Ok(list_response(&listed, Some(caller.session_id), false))
}

/// Signs out a device: revokes its session. For the caller's own session this is a logout.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions/{id}",
    operation_id = "revoke_own_session",
    tag = "end users",
    params(SessionIdInPath, Preference),
    request_body = Option<ReasonBody>,
    responses(
        (status = 204, description = "Revoked, now or before"),
        (
            status = 202,
            description = "Stored; `effective_by` says when it is effective on every node",
            body = RevokedBody,
        ),
    )
)]
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
#[utoipa::path(
    delete,
    path = "/api/v1/sessions/current",
    operation_id = "revoke_current_session",
    tag = "end users",
    params(Preference),
    request_body = Option<ReasonBody>,
    responses(
        (status = 204, description = "Revoked"),
        (
            status = 202,
            description = "Stored; `effective_by` says when it is effective on every node",
            body = RevokedBody,
        ),
    )
)]
pub(super) async fn revoke_current_session(
    State(state): State<PublicState>,
    caller: LiveCaller,
    Preference(acknowledge): Preference,
    OptionalJsonBody(body): OptionalJsonBody<ReasonBody>,
) -> Result<Response, Problem> {
    let mut response = revoke_own(&state, &caller, caller.session_id, acknowledge, body).await?;
    if let Credential::SessionToken { in_cookie: true, .. } = caller.credential
        && let Some(cleared) = clear_cookie(&state.cookie_name)
    {
        response.headers_mut().insert(header::SET_COOKIE, cleared);
    }
    Ok(response)
}

async fn revoke_own(
    state: &PublicState,
    caller: &LiveCaller,
    session_id: SessionId,
    acknowledge: Acknowledge,
    body: ReasonBody,
) -> Result<Response, Problem> {
    let user_id = caller.user_id;
    let reason = acceptable_reason(body.reason)?;
    let actor = Actor::User(user_id);
    let command = RevokeSession { session_id, owner: Some(user_id), reason, actor, acknowledge };
    let revoked = state.application.revoke_session.handle(command).await;
    let revoked = revoked.map_err(|error| session_problem(state, caller, error))?;
    Ok(revoked_response(revoked))
}

#[derive(Serialize, ToSchema)]
struct RotatedBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

/// Replaces the session token of the caller, in the body, or in the cookie that it came in. The
/// token before is good for `auth.rotation_grace` yet.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/current/rotate",
    operation_id = "rotate_current_token",
    tag = "end users",
    request_body = Option<EmptyBody>,
    responses(
        (
            status = 200,
            description = "The new token; without one where it is in the cookie that is set",
            body = RotatedBody,
        ),
    )
)]
pub(super) async fn rotate_current_token(
    State(state): State<PublicState>,
    caller: LiveCaller,
    OptionalJsonBody(EmptyBody {}): OptionalJsonBody<EmptyBody>,
) -> Result<Response, Problem> {
    let Credential::SessionToken { hash, in_cookie } = caller.credential else {
        let message = "has no session token in it: its issuer replaces a JWT";
        return Err(Problem::invalid_request("Authorization", message));
    };
    let command = RotateToken { session_id: caller.session_id, presented: Some(hash) };
    let issued = state.application.rotate_token.handle(command).await?;
    let token = session_token::format(issued.session, &issued.secret);
    if !in_cookie {
        return Ok(Json(RotatedBody { token: Some(token.expose_secret()) }).into_response());
    }
    let now = state.clock.now();
    let cookie = set_cookie(&state.cookie_name, &token, issued.expires_at, now);
    let body = Json(RotatedBody { token: None });
    Ok(([(header::SET_COOKIE, cookie)], body).into_response())
}

/// Signs out all other devices: revokes all of the caller's sessions but this one.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions",
    operation_id = "revoke_other_sessions",
    tag = "end users",
    params(Preference),
    request_body = Option<ReasonBody>,
    responses(
        (status = 200, description = "How many were revoked", body = RevokedBody),
        (
            status = 202,
            description = "Stored; `effective_by` says when it is effective on every node",
            body = RevokedBody,
        ),
    )
)]
pub(super) async fn revoke_other_sessions(
    State(state): State<PublicState>,
    caller: LiveCaller,
    Preference(acknowledge): Preference,
    OptionalJsonBody(body): OptionalJsonBody<ReasonBody>,
) -> Result<Response, Problem> {
    let user_id = caller.user_id;
    let except = Some(caller.session_id);
    let reason = acceptable_reason(body.reason)?;
    let actor = Actor::User(user_id);
    let command = RevokeAllUserSessions { user_id, except, reason, actor, acknowledge };
    let revoked = state.application.revoke_all_user_sessions.handle(command).await?;
    Ok(revoked_count_response(revoked))
}
