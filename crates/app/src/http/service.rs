//! The service listener: the application's own backend, and operators.

use std::net::IpAddr;
use std::num::NonZeroU32;

use application::commands::handlers::{
    CreateSessionError, CreatedSession, RevokeAllUserSessionsError, RevokeSessionError, RevokeSessionsError,
};
use application::commands::{CreateSession, RevokeAllUserSessions, RevokeSession, RevokeSessions};
use application::queries::handlers::{GetSessionError, InspectSessionError, ListUserSessionsError};
use application::queries::{GetSession, InspectSession};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, SubsecRound, Utc};
use domain::ports::Layer;
use domain::{Actor, SessionId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::auth::require_service_key;
use super::extract::{
    JsonBody, OptionalJsonBody, Parameters, ReasonBody, SessionIdInPath, UserIdInPath, acceptable_reason,
    method_not_allowed, not_found,
};
use super::observe;
use super::problem::Problem;
use super::session_body::{RevokedBody, SessionBody};
use super::session_list::{ListParameters, list_response};
use super::state::ServiceState;

/// The routes of the service listener: those under `/service` behind a service key, health and metrics without.
pub fn router(state: ServiceState) -> Router {
    let sessions = Router::new()
        .route("/service/v1/sessions", post(create_session))
        .route("/service/v1/sessions/revoke", post(revoke_sessions))
        .route("/service/v1/sessions/{id}", get(get_session).delete(revoke_session))
        .route("/service/v1/users/{user_id}/sessions", get(list_user_sessions).delete(revoke_all_user_sessions))
        .route_layer(from_fn_with_state(state.clone(), require_service_key));
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .merge(sessions)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state);
    observe::layer(router, "service")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateSessionBody {
    user_id: Uuid,
    ip_address: Option<IpAddr>,
    user_agent: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    max_sessions: Option<NonZeroU32>,
}

#[derive(Serialize)]
struct CreatedSessionBody<'a> {
    #[serde(flatten)]
    session: SessionBody<'a>,
    /// Sessions that were ended to make room.
    evicted: Vec<Uuid>,
}

async fn create_session(
    State(state): State<ServiceState>,
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
    };
    let created = state.application.create_session.handle(command).await.map_err(|error| match error {
        CreateSessionError::ExpiresAt(error) => Problem::unprocessable("expires_at", error.to_string()),
        CreateSessionError::LimitReached => Problem::session_limit_reached(),
        CreateSessionError::Port(error) => error.into(),
    })?;
    let CreatedSession { session, evicted } = &created;
    let body = CreatedSessionBody {
        session: SessionBody::new(session, state.clock.now(), false),
        evicted: evicted.iter().map(|ended| ended.id.0).collect(),
    };
    let location = [(header::LOCATION, format!("/service/v1/sessions/{}", session.id))];
    Ok((StatusCode::CREATED, location, Json(body)).into_response())
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
        return Ok(SessionBody::new(&session, state.clock.now(), false).into_read(Layer::Database));
    };
    let query = GetSession { session_id, user_id: UserId(user_id) };
    let found = state.application.get_session.find(query).await.map_err(|error| match error {
        GetSessionError::SessionNotFound => Problem::session_not_found(),
        GetSessionError::NotOwner => Problem::not_session_owner(),
        GetSessionError::Port(error) => error.into(),
    })?;
    Ok(SessionBody::new(&found.session, state.clock.now(), false).into_read(found.layer))
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
    OptionalJsonBody(body): OptionalJsonBody<ReasonBody>,
) -> Result<StatusCode, Problem> {
    let command = RevokeSession { session_id, owner: None, reason: body.into_reason()?, actor: Actor::Service };
    state.application.revoke_session.handle(command).await.map_err(|error| match error {
        RevokeSessionError::SessionNotFound => Problem::session_not_found(),
        RevokeSessionError::NotOwner => Problem::not_session_owner(),
        RevokeSessionError::Port(error) => error.into(),
    })?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeSessionsBody {
    ids: Vec<Uuid>,
    reason: Option<String>,
}

async fn revoke_sessions(
    State(state): State<ServiceState>,
    JsonBody(body): JsonBody<RevokeSessionsBody>,
) -> Result<Json<RevokedBody>, Problem> {
    let session_ids = body.ids.into_iter().map(SessionId).collect();
    let command = RevokeSessions { session_ids, reason: acceptable_reason(body.reason)?, actor: Actor::Service };
    let revoked = state.application.revoke_sessions.handle(command).await;
    let revoked_count = revoked.map_err(|RevokeSessionsError::Port(error)| Problem::from(error))?;
    Ok(Json(RevokedBody { revoked_count }))
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
    OptionalJsonBody(body): OptionalJsonBody<RevokeAllUserSessionsBody>,
) -> Result<Json<RevokedBody>, Problem> {
    let (except, reason) = (body.except_session_id.map(SessionId), acceptable_reason(body.reason)?);
    let command = RevokeAllUserSessions { user_id, except, reason, actor: Actor::Service };
    let revoked = state.application.revoke_all_user_sessions.handle(command).await;
    let revoked_count = revoked.map_err(|RevokeAllUserSessionsError::Port(error)| Problem::from(error))?;
    Ok(Json(RevokedBody { revoked_count }))
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
