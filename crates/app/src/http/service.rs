//! The service listener: the application's own backends, and operators.

use std::sync::Arc;

use application::commands::handlers::{
    CreateSessionError, CreatedSession, EditSessionError, RecordActivityError, RevokeAllSessionsError,
    RevokeAllUserSessionsError, RevokeSessionError, RevokeSessionsError,
};
use application::commands::{
    CreateSession, EditSession, RecordActivity, RevokeAllSessions, RevokeAllUserSessions, RevokeSession, RevokeSessions,
};
use application::queries::handlers::{GetSessionError, InspectSessionError, ListUserSessionsError};
use application::queries::{GetSession, InspectSession};
use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Json, Router};
use chrono::{DateTime, Utc};
use domain::ports::{EditableFields, SessionEdit};
use domain::{IdempotencyKey, Session, SessionId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::auth::require_scope;
use super::body::{JsonBody, OptionalJsonBody};
use super::events::{list_events, stream_events};
use super::fields::{
    AnyObject, Count, Text, acceptable_metadata, acceptable_name, acceptable_reason, acceptable_text, address, present,
};
use super::observe::{self, RequestIds};
use super::parameters::{
    Parameters, Preference, SessionIdInPath, StrictParameters, UserIdInPath, idempotency_key, if_match,
};
use super::problem::Problem;
use super::session_body::{
    SessionBody, WholeSessionBody, entity_tag, revoked_count_response, revoked_response, uncached_response,
};
use super::session_list::{ListParameters, list_response};
use super::state::ServiceState;
use super::work::{self, Audience};
use super::{method_not_allowed, no_service_route, with_routes};
use crate::auth::{Scope, ServiceKey};

/// Ids that one call may name.
const MAX_IDS: usize = 400;
/// The longest `issuer` and `subject` of a sign-in, in bytes.
const MAX_SUBJECT_BYTES: usize = 1024;

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
    let router = work::layer(with_routes(routes()), Audience::Service(state.clone()))
        .merge(with_routes(open_routes()))
        .fallback(no_service_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state);
    observe::layer(router, "service", RequestIds::OfCallers)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateSessionBody {
    user_id: Option<Text<UserId>>,
    issuer: Option<String>,
    subject: Option<String>,
    ip_address: Option<String>,
    user_agent: Option<String>,
    expires_at: Option<Text<DateTime<Utc>>>,
    max_sessions: Option<Count>,
    metadata: Option<AnyObject>,
}

impl CreateSessionBody {
    /// Returns who has signed in: by their id, or by what a token issuer calls them.
    fn user_id(&self) -> Result<UserId, Problem> {
        let bounded = |field, text: &str| match text.len() {
            1..=MAX_SUBJECT_BYTES => Ok(()),
            _ => Err(Problem::unprocessable(field, format!("must have 1 to {MAX_SUBJECT_BYTES} bytes"))),
        };
        match (self.user_id, &self.issuer, &self.subject) {
            (Some(Text(user_id)), None, None) => Ok(user_id),
            (None, Some(issuer), Some(subject)) => {
                bounded("issuer", issuer)?;
                bounded("subject", subject)?;
                Ok(UserId::of_subject(issuer, subject))
            }
            (None, Some(_), None) => Err(Problem::invalid_request("subject", "is missing beside issuer")),
            (None, None, Some(_)) => Err(Problem::invalid_request("issuer", "is missing beside subject")),
            (None, None, None) => Err(Problem::invalid_request("user_id", "is missing; or name issuer and subject")),
            (Some(_), _, _) => Err(Problem::invalid_request(
                "user_id",
                "must not stand beside issuer or subject: they name the user too",
            )),
        }
    }
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
    JsonBody { value: body, text }: JsonBody<CreateSessionBody>,
) -> Result<Response, Problem> {
    let request_hash = || {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &text).as_ref());
        hash
    };
    let key = idempotency_key(&headers)?;
    let command = CreateSession {
        user_id: body.user_id()?,
        ip_address: address(body.ip_address.as_deref()),
        user_agent: acceptable_text("user_agent", body.user_agent)?,
        expires_at: body.expires_at.map(|Text(at)| at),
        max_sessions: body.max_sessions.map(|Count(count)| count),
        metadata: acceptable_metadata(body.metadata)?,
        idempotency_key: key.map(|key| IdempotencyKey { text: key.into(), request_hash: request_hash() }),
    };
    let created = state.application.create_session.handle(command).await.map_err(|error| match error {
        CreateSessionError::ExpiresAt(error) => Problem::unprocessable("expires_at", error.to_string()),
        CreateSessionError::LimitReached => Problem::session_limit_reached(),
        CreateSessionError::KeyReused => Problem::idempotency_key_reused(),
        CreateSessionError::SessionEnded => Problem::already_ended(),
        CreateSessionError::Port(error) => error.into(),
    })?;
    let CreatedSession { session, evicted } = &created;
    let body = CreatedSessionBody {
        session: WholeSessionBody::new(session, state.clock.now()),
        evicted: evicted.iter().map(|evicted| evicted.id.0).collect(),
    };
    let location = [(header::LOCATION, format!("/service/v1/sessions/{}", session.id))];
    Ok((StatusCode::CREATED, location, etag(session), Json(body)).into_response())
}

fn etag(session: &Session) -> [(header::HeaderName, HeaderValue); 1] {
    [(header::ETAG, entity_tag(session))]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetSessionParameters {
    user_id: Option<Text<UserId>>,
}

async fn get_session(
    State(state): State<ServiceState>,
    SessionIdInPath(session_id): SessionIdInPath,
    StrictParameters(parameters): StrictParameters<GetSessionParameters>,
) -> Result<Response, Problem> {
    let Some(Text(user_id)) = parameters.user_id else {
        let session = inspect(&state, session_id).await?;
        let body = WholeSessionBody::new(&session, state.clock.now());
        return Ok((etag(&session), uncached_response(body)).into_response());
    };
    let query = GetSession { session_id, user_id };
    let found = state.application.get_session.find(query).await.map_err(|error| match error {
        GetSessionError::SessionNotFound => Problem::session_not_found(),
        GetSessionError::NotOwner => Problem::not_session_owner(),
        GetSessionError::Port(error) => error.into(),
    })?;
    Ok(SessionBody::new(&found.session, state.clock.now(), false).into_read(found.layer))
}

/// An operator's read.
async fn inspect(state: &ServiceState, session_id: SessionId) -> Result<Arc<Session>, Problem> {
    let session = state.application.inspect_session.handle(InspectSession { session_id }).await;
    session.map_err(|error| match error {
        InspectSessionError::SessionNotFound => Problem::session_not_found(),
        InspectSessionError::Port(error) => error.into(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditSessionBody {
    #[serde(default, deserialize_with = "present")]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    metadata: Option<Option<AnyObject>>,
}

async fn edit_session(
    State(state): State<ServiceState>,
    SessionIdInPath(session_id): SessionIdInPath,
    headers: HeaderMap,
    JsonBody { value: body, .. }: JsonBody<EditSessionBody>,
) -> Result<Response, Problem> {
    let mut edit = SessionEdit {
        name: body.name.map(acceptable_name).transpose()?,
        metadata: body.metadata.map(acceptable_metadata).transpose()?,
        only_if: None,
    };
    if let Some(tags) = if_match(&headers) {
        let session = inspect(&state, session_id).await?;
        let present = entity_tag(&session);
        // Strong comparison (RFC 9110 section 8.8.3.2): a weak tag matches nothing.
        if !tags.iter().any(|tag| tag.as_bytes() == present.as_bytes()) {
            return Err(Problem::precondition_failed());
        }
        // The store compares once more: another editor may be faster.
        edit.only_if = Some(EditableFields::of(&session));
    }
    let edited = state.application.edit_session.handle(EditSession { session_id, owner: None, edit }).await;
    let session = edited.map_err(|error| match error {
        EditSessionError::SessionNotFound => Problem::session_not_found(),
        EditSessionError::NotOwner => Problem::not_session_owner(),
        EditSessionError::PreconditionFailed => Problem::precondition_failed(),
        EditSessionError::Port(error) => error.into(),
    })?;
    Ok((etag(&session), Json(WholeSessionBody::new(&session, state.clock.now()))).into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordActivityBody {
    ip_address: Option<String>,
}

async fn record_activity(
    State(state): State<ServiceState>,
    SessionIdInPath(session_id): SessionIdInPath,
    OptionalJsonBody(body): OptionalJsonBody<RecordActivityBody>,
) -> Result<StatusCode, Problem> {
    let command = RecordActivity { session_id, ip_address: address(body.ip_address.as_deref()) };
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

/// The body of a request that revokes one session.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasonBody {
    reason: Option<String>,
}

async fn revoke_session(
    State(state): State<ServiceState>,
    Extension(key): Extension<ServiceKey>,
    SessionIdInPath(session_id): SessionIdInPath,
    Preference(acknowledge): Preference,
    OptionalJsonBody(body): OptionalJsonBody<ReasonBody>,
) -> Result<Response, Problem> {
    let (reason, actor) = (acceptable_reason(body.reason)?, key.actor());
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
    ids: Option<Vec<Text<SessionId>>>,
    #[serde(default)]
    all: bool,
    reason: Option<String>,
}

async fn revoke_sessions(
    State(state): State<ServiceState>,
    Extension(key): Extension<ServiceKey>,
    Preference(acknowledge): Preference,
    parts: Parts,
    JsonBody { value: body, .. }: JsonBody<RevokeSessionsBody>,
) -> Result<Response, Problem> {
    let (reason, actor) = (acceptable_reason(body.reason)?, key.actor());
    let revoked = match (body.ids, body.all) {
        (Some(ids), false) if ids.len() > MAX_IDS => {
            return Err(Problem::unprocessable("ids", format!("must be at most {MAX_IDS} ids")));
        }
        (Some(ids), false) => {
            let session_ids = ids.into_iter().map(|Text(id)| id).collect();
            let command = RevokeSessions { session_ids, reason, actor, acknowledge };
            let revoked = state.application.revoke_sessions.handle(command).await;
            revoked.map_err(|RevokeSessionsError::Port(error)| Problem::from(error))?
        }
        (None, true) => {
            require_scope(&state, &parts, &key, Scope::Operate)?;
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
    except_session_id: Option<Text<SessionId>>,
}

async fn revoke_all_user_sessions(
    State(state): State<ServiceState>,
    Extension(key): Extension<ServiceKey>,
    UserIdInPath(user_id): UserIdInPath,
    Preference(acknowledge): Preference,
    OptionalJsonBody(body): OptionalJsonBody<RevokeAllUserSessionsBody>,
) -> Result<Response, Problem> {
    let (except, reason) = (body.except_session_id.map(|Text(id)| id), acceptable_reason(body.reason)?);
    let command = RevokeAllUserSessions { user_id, except, reason, actor: key.actor(), acknowledge };
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
