//! The service listener: the application's own backend, and operators.

use std::net::IpAddr;
use std::num::NonZeroU32;

use application::commands::handlers::{
    CreateSessionError, CreatedSession, EditSessionError, RecordActivityError, RevokeAllSessionsError,
    RevokeAllUserSessionsError, RevokeSessionError, RevokeSessionsError,
};
use application::commands::{
    CreateSession, EditSession, RecordActivity, RevokeAllSessions, RevokeAllUserSessions, RevokeSession, RevokeSessions,
};
use application::queries::handlers::{GetSessionError, InspectSessionError, ListUserSessionsError};
use application::queries::{GetSession, InspectSession};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use chrono::{DateTime, SubsecRound, Utc};
use domain::ports::{Layer, SessionEdit};
use domain::{Actor, Metadata, SessionId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::auth::require_service_key;
use super::events::{list_events, stream_events};
use super::extract::{
    JsonBody, OptionalJsonBody, Parameters, Preference, ReasonBody, SessionIdInPath, UserIdInPath, acceptable_metadata,
    acceptable_name, acceptable_reason, method_not_allowed, not_found, present,
};
use super::observe;
use super::problem::Problem;
use super::session_body::{SessionBody, WholeSessionBody, read_response, revoked_count_response, revoked_response};
use super::session_list::{ListParameters, list_response};
use super::state::ServiceState;
use super::with_routes;

/// The routes behind a service key.
fn routes() -> [(&'static str, MethodRouter<ServiceState>); 7] {
    [
        ("/service/v1/sessions", post(create_session)),
        ("/service/v1/sessions/revoke", post(revoke_sessions)),
        ("/service/v1/sessions/{id}", get(get_session).patch(edit_session).delete(revoke_session)),
        ("/service/v1/sessions/{id}/activity", post(record_activity)),
        ("/service/v1/events", get(list_events)),
        ("/service/v1/events/stream", get(stream_events)),
        ("/service/v1/users/{user_id}/sessions", get(list_user_sessions).delete(revoke_all_user_sessions)),
    ]
}

/// The routes without a key.
fn open_routes() -> [(&'static str, MethodRouter<ServiceState>); 3] {
    [("/livez", get(livez)), ("/readyz", get(readyz)), ("/metrics", get(render_metrics))]
}

/// The paths of the service listener behind a service key, with `{id}` or `{user_id}` where an id stands.
pub fn paths() -> Vec<&'static str> {
    routes().map(|(path, _)| path).to_vec()
}

/// The paths of the service listener without a key.
pub fn open_paths() -> Vec<&'static str> {
    open_routes().map(|(path, _)| path).to_vec()
}

/// The service listener.
pub fn router(state: ServiceState) -> Router {
    let application = state.application.clone();
    let behind_key = with_routes(routes()).route_layer(from_fn_with_state(state.clone(), require_service_key));
    let router = with_routes(open_routes())
        .merge(behind_key)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state);
    observe::layer(router, "service", application)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateSessionBody {
    user_id: Uuid,
    ip_address: Option<IpAddr>,
    user_agent: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    max_sessions: Option<NonZeroU32>,
    metadata: Option<Metadata>,
}

#[derive(Serialize)]
struct CreatedSessionBody<'a> {
    #[serde(flatten)]
    session: WholeSessionBody<'a>,
    /// Sessions that were ended to make room.
    evicted: Vec<Uuid>,
}

async fn create_session(
    State(state): State<ServiceState>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<CreateSessionBody>,
) -> Result<Response, Problem> {
    if body.user_agent.as_ref().is_some_and(|text| text.contains('\0')) {
        return Err(Problem::unprocessable("user_agent", "must not contain the character U+0000"));
    }
    let command = CreateSession {
        user_id: UserId(body.user_id),
        ip_address: body.ip_address,
        user_agent: body.user_agent,
        // Stores keep microseconds, and what is answered must be what is stored.
        expires_at: body.expires_at.map(|at| at.trunc_subsecs(6)),
        max_sessions: body.max_sessions,
        metadata: acceptable_metadata(body.metadata)?,
        idempotency_key: idempotency_key(&headers)?,
    };
    let created = state.application.create_session.handle(command).await.map_err(|error| match error {
        CreateSessionError::ExpiresAt(error) => Problem::unprocessable("expires_at", error.to_string()),
        CreateSessionError::LimitReached => Problem::session_limit_reached(),
        CreateSessionError::Port(error) => error.into(),
    })?;
    let CreatedSession { session, evicted } = &created;
    let body = CreatedSessionBody {
        session: WholeSessionBody::new(session, state.clock.now()),
        evicted: evicted.iter().map(|ended| ended.id.0).collect(),
    };
    let location = [(header::LOCATION, format!("/service/v1/sessions/{}", session.id))];
    Ok((StatusCode::CREATED, location, Json(body)).into_response())
}

/// The one `Idempotency-Key` header, if there is one (as the IETF draft of that name has it, without its quotes).
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=255).contains(&text.len()) && values.next().is_none());
    let invalid = || Problem::invalid_request("Idempotency-Key", "must be 1 to 255 visible ASCII characters, once");
    text.map(|text| Some(text.to_owned())).ok_or_else(invalid)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetSessionParameters {
    user_id: Option<Uuid>,
}

async fn get_session(
    State(state): State<ServiceState>,
    SessionIdInPath(session_id): SessionIdInPath,
    Parameters(parameters): Parameters<GetSessionParameters>,
) -> Result<Response, Problem> {
    let Some(user_id) = parameters.user_id else {
        let session = state.application.inspect_session.handle(InspectSession { session_id }).await;
        let session = session.map_err(|error| match error {
            InspectSessionError::SessionNotFound => Problem::session_not_found(),
            InspectSessionError::Port(error) => error.into(),
        })?;
        return Ok(read_response(Layer::Database, WholeSessionBody::new(&session, state.clock.now())));
    };
    let query = GetSession { session_id, user_id: UserId(user_id) };
    let found = state.application.get_session.find(query).await.map_err(|error| match error {
        GetSessionError::SessionNotFound => Problem::session_not_found(),
        GetSessionError::NotOwner => Problem::not_session_owner(),
        GetSessionError::Port(error) => error.into(),
    })?;
    Ok(SessionBody::new(&found.session, state.clock.now(), false).into_read(found.layer))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditSessionBody {
    #[serde(default, deserialize_with = "present")]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    metadata: Option<Option<Metadata>>,
}

async fn edit_session(
    State(state): State<ServiceState>,
    SessionIdInPath(session_id): SessionIdInPath,
    JsonBody(body): JsonBody<EditSessionBody>,
) -> Result<Response, Problem> {
    let edit = SessionEdit {
        name: body.name.map(acceptable_name).transpose()?,
        metadata: body.metadata.map(acceptable_metadata).transpose()?,
    };
    let edited = state.application.edit_session.handle(EditSession { session_id, owner: None, edit }).await;
    let session = edited.map_err(|error| match error {
        EditSessionError::SessionNotFound => Problem::session_not_found(),
        EditSessionError::NotOwner => Problem::not_session_owner(),
        EditSessionError::Port(error) => error.into(),
    })?;
    Ok(Json(WholeSessionBody::new(&session, state.clock.now())).into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordActivityBody {
    ip_address: Option<IpAddr>,
}

async fn record_activity(
    State(state): State<ServiceState>,
    SessionIdInPath(session_id): SessionIdInPath,
    OptionalJsonBody(body): OptionalJsonBody<RecordActivityBody>,
) -> Result<StatusCode, Problem> {
    let command = RecordActivity { session_id, ip_address: body.ip_address };
    state.application.record_activity.handle(command).await.map_err(|error| match error {
        RecordActivityError::SessionNotFound => Problem::session_not_found(),
        RecordActivityError::SessionEnded => Problem::already_ended(),
        RecordActivityError::Port(error) => error.into(),
    })?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_user_sessions(
    State(state): State<ServiceState>,
    UserIdInPath(user_id): UserIdInPath,
    Parameters(parameters): Parameters<ListParameters>,
) -> Result<Response, Problem> {
    let query = parameters.into_query(user_id)?;
    let listed = state.application.list_user_sessions.handle(query).await;
    let listed = listed.map_err(|ListUserSessionsError::Port(error)| Problem::from(error))?;
    Ok(list_response(&listed, None, true))
}

async fn revoke_session(
    State(state): State<ServiceState>,
    SessionIdInPath(session_id): SessionIdInPath,
    Preference(acknowledge): Preference,
    OptionalJsonBody(body): OptionalJsonBody<ReasonBody>,
) -> Result<Response, Problem> {
    let (reason, actor) = (body.into_reason()?, Actor::Service);
    let command = RevokeSession { session_id, owner: None, reason, actor, acknowledge };
    let revoked = state.application.revoke_session.handle(command).await.map_err(|error| match error {
        RevokeSessionError::SessionNotFound => Problem::session_not_found(),
        RevokeSessionError::NotOwner => Problem::not_session_owner(),
        RevokeSessionError::Port(error) => error.into(),
    })?;
    Ok(revoked_response(revoked))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeSessionsBody {
    ids: Option<Vec<Uuid>>,
    #[serde(default)]
    all: bool,
    reason: Option<String>,
}

async fn revoke_sessions(
    State(state): State<ServiceState>,
    Preference(acknowledge): Preference,
    JsonBody(body): JsonBody<RevokeSessionsBody>,
) -> Result<Response, Problem> {
    let (reason, actor) = (acceptable_reason(body.reason)?, Actor::Service);
    let revoked = match (body.ids, body.all) {
        (Some(ids), false) => {
            let session_ids = ids.into_iter().map(SessionId).collect();
            let command = RevokeSessions { session_ids, reason, actor, acknowledge };
            let revoked = state.application.revoke_sessions.handle(command).await;
            revoked.map_err(|RevokeSessionsError::Port(error)| Problem::from(error))?
        }
        (None, true) => {
            let command = RevokeAllSessions { reason, actor, acknowledge };
            let revoked = state.application.revoke_all_sessions.handle(command).await;
            revoked.map_err(|RevokeAllSessionsError::Port(error)| Problem::from(error))?
        }
        (None, false) => return Err(Problem::invalid_request("ids", "is missing; or say `\"all\": true`")),
        (Some(_), true) => return Err(Problem::invalid_request("all", "must not be true where there are ids")),
    };
    Ok(revoked_count_response(revoked))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeAllUserSessionsBody {
    reason: Option<String>,
    except_session_id: Option<Uuid>,
}

async fn revoke_all_user_sessions(
    State(state): State<ServiceState>,
    UserIdInPath(user_id): UserIdInPath,
    Preference(acknowledge): Preference,
    OptionalJsonBody(body): OptionalJsonBody<RevokeAllUserSessionsBody>,
) -> Result<Response, Problem> {
    let (except, reason) = (body.except_session_id.map(SessionId), acceptable_reason(body.reason)?);
    let command = RevokeAllUserSessions { user_id, except, reason, actor: Actor::Service, acknowledge };
    let revoked = state.application.revoke_all_user_sessions.handle(command).await;
    let revoked = revoked.map_err(|RevokeAllUserSessionsError::Port(error)| Problem::from(error))?;
    Ok(revoked_count_response(revoked))
}

async fn render_metrics(State(state): State<ServiceState>) -> Response {
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"))];
    (content_type, state.metrics.render()).into_response()
}

/// The process runs.
async fn livez() -> Response {
    "ok\n".into_response()
}

/// The process can do its work.
async fn readyz(State(state): State<ServiceState>) -> Response {
    let readiness = state.health.readiness().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}
