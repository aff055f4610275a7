//! The service listener: the application's own backend, and operators.

use std::net::IpAddr;
use std::sync::Arc;

use application::Application;
use application::commands::CreateSession;
use application::commands::handlers::CreateSessionError;
use application::queries::handlers::{GetSessionError, InspectSessionError};
use application::queries::{GetSession, InspectSession};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, SubsecRound, Utc};
use domain::UserId;
use domain::ports::{Clock, Layer};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::auth::require_service_key;
use super::extract::{JsonBody, Parameters, SessionIdInPath, method_not_allowed, not_found};
use super::problem::Problem;
use super::session_body::SessionBody;
use super::{Health, health, observe};
use crate::auth::ServiceKeys;

/// What the service routes need.
#[derive(Clone)]
pub struct ServiceState {
    /// The use cases.
    pub application: Arc<Application>,
    /// The wall clock, for the verdict on a session.
    pub clock: Arc<dyn Clock>,
    /// Which service keys are accepted.
    pub service_keys: Arc<ServiceKeys>,
    /// Whether this node can do its work.
    pub health: Arc<Health>,
    /// What `/metrics` renders.
    pub metrics: PrometheusHandle,
}

/// The routes of the service listener: those under `/service` behind a service key, health and metrics without.
pub fn router(state: ServiceState) -> Router {
    let sessions = Router::new()
        .route("/service/v1/sessions", post(create_session))
        .route("/service/v1/sessions/{id}", get(get_session))
        .route_layer(from_fn_with_state(state.clone(), require_service_key));
    let router = Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
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
}

#[derive(Serialize)]
struct CreatedSessionBody<'a> {
    #[serde(flatten)]
    session: SessionBody<'a>,
    /// Sessions that were ended to make room.
    evicted: [Uuid; 0],
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
    };
    let session = state.application.create_session.handle(command).await.map_err(|error| match error {
        CreateSessionError::ExpiresAt(error) => Problem::unprocessable("expires_at", error.to_string()),
        CreateSessionError::Port(error) => error.into(),
    })?;
    let body = CreatedSessionBody { session: SessionBody::new(&session, state.clock.now(), false), evicted: [] };
    let mut response = (StatusCode::CREATED, Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(location) = HeaderValue::try_from(format!("/service/v1/sessions/{}", session.id)) {
        headers.insert(header::LOCATION, location);
    }
    Ok(response)
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

async fn render_metrics(State(state): State<ServiceState>) -> Response {
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"))];
    (content_type, state.metrics.render()).into_response()
}
