//! One session, and lists of ids, for backends and operators.

use std::collections::BTreeSet;

use application::coherence::Revoked;
use application::commands::{
    EditSession, RecordActivity, RevokeAllSessions, RevokeMatchingSessions, RevokeSession,
    RevokeSessions,
};
use application::queries::handlers::InspectSessionError;
use application::queries::{GetSession, InspectSession};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use domain::ports::{EditableFields, SessionEdit, SessionFilter};
use domain::{SessionId, UserId};
use serde::Deserialize;

use super::ServiceState;
use super::authentication::require_scope;
use super::errors::ServiceProblem;
use super::search::FilterBody;
use crate::auth::{Scope, ServiceKey};
use crate::http::wire::body::{JsonBody, OptionalJsonBody, ReasonBody};
use crate::http::wire::fields::{
    AnyObject, ObjectOf, Text, acceptable_metadata, acceptable_name, acceptable_reason, address,
    present,
};
use crate::http::wire::parameters::{Preference, SessionIdInPath, StrictParameters, if_match};
use crate::http::wire::problem::Problem;
use crate::http::wire::session_body::{
    RevokedBody, SessionBody, WholeSessionBody, entity_tag, etag, revoked_count_response,
    revoked_response, uncached_response,
};
use utoipa::{IntoParams, ToSchema};

/// Ids that one call may name.
const MAX_IDS: usize = 400;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct GetSessionParameters {
    /// Read it as this user.
    #[param(value_type = Option<Uuid>)]
    user_id: Option<Text<UserId>>,
}

/// Returns a session, with metadata and version; with `user_id`, as that user sees it.
#[utoipa::path(
    get,
    path = "/service/v1/sessions/{id}",
    operation_id = "get_session",
    tag = "backends",
    params(SessionIdInPath, GetSessionParameters),
    responses(
        (
            status = 200,
            description = "The session; `user_agent` and `metadata` without `user_id` only",
            body = WholeSessionBody,
        ),
    )
)]
pub(super) async fn get_session(
    State(state): State<ServiceState>,
    SessionIdInPath(session_id): SessionIdInPath,
    StrictParameters(parameters): StrictParameters<GetSessionParameters>,
) -> Result<Response, ServiceProblem> {
    let Some(Text(user_id)) = parameters.user_id else {
        let session =
            state.application.inspect_session.handle(InspectSession { session_id }).await?;
        let body = WholeSessionBody::new(&session, state.clock.now());
        return Ok((etag(&session), uncached_response(body)).into_response());
    };
    let query = GetSession { session_id, user_id };
    let found = state.application.get_session.find(query).await?;
    Ok(SessionBody::new(&found.session, state.clock.now(), false).into_read(found.layer))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "metadata": { "plan": "pro" } }))]
pub(super) struct EditSessionBody {
    /// The user's own name for the device; null removes it.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64)]
    #[serde(default, deserialize_with = "present")]
    name: Option<Option<String>>,
    /// Replaces the metadata; null removes it.
    #[schema(value_type = Option<Object>)]
    #[serde(default, deserialize_with = "present")]
    metadata: Option<Option<AnyObject>>,
}

/// Changes the name or the metadata of a session; with `If-Match`, only an unchanged one.
#[utoipa::path(
    patch,
    path = "/service/v1/sessions/{id}",
    operation_id = "edit_session",
    tag = "backends",
    params(SessionIdInPath,
        ("If-Match" = Option<String>, Header, description = "The entity tag that must fit")),
    request_body = EditSessionBody,
    responses((status = 200, description = "The session", body = WholeSessionBody))
)]
pub(super) async fn edit_session(
    State(state): State<ServiceState>,
    SessionIdInPath(session_id): SessionIdInPath,
    headers: HeaderMap,
    JsonBody { value: body, .. }: JsonBody<EditSessionBody>,
) -> Result<Response, ServiceProblem> {
    let mut edit = SessionEdit {
        name: body.name.map(acceptable_name).transpose()?,
        metadata: body.metadata.map(acceptable_metadata).transpose()?,
        only_if: None,
    };
    if let Some(tags) = if_match(&headers) {
        let session =
            state.application.inspect_session.handle(InspectSession { session_id }).await?;
        let present = entity_tag(&session);
        // Strong comparison (RFC 9110 section 8.8.3.2): a weak tag matches nothing.
        if !tags.iter().any(|tag| tag.as_bytes() == present.as_bytes()) {
            return Err(Problem::precondition_failed().into());
        }
        // The store compares once more: another editor may be faster.
        edit.only_if = Some(EditableFields::of(&session));
    }
    let command = EditSession { session_id, owner: None, edit };
    let session = state.application.edit_session.handle(command).await?;
    Ok((etag(&session), Json(WholeSessionBody::new(&session, state.clock.now()))).into_response())
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordActivityBody {
    /// The client's address.
    ip_address: Option<String>,
}

/// Records a request of the end user that the backend has served.
#[utoipa::path(
    post,
    path = "/service/v1/sessions/{id}/activity",
    operation_id = "record_activity",
    tag = "backends",
    params(SessionIdInPath),
    request_body = Option<RecordActivityBody>,
    responses((status = 204, description = "Recorded: the session is live"))
)]
pub(super) async fn record_activity(
    State(state): State<ServiceState>,
    SessionIdInPath(session_id): SessionIdInPath,
    OptionalJsonBody(body): OptionalJsonBody<RecordActivityBody>,
) -> Result<StatusCode, ServiceProblem> {
    let command = RecordActivity { session_id, ip_address: address(body.ip_address.as_deref()) };
    state.application.record_activity.handle(command).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Revokes a session. Revoking it again is no error.
#[utoipa::path(
    delete,
    path = "/service/v1/sessions/{id}",
    operation_id = "revoke_session",
    tag = "backends",
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
    State(state): State<ServiceState>,
    Extension(key): Extension<ServiceKey>,
    SessionIdInPath(session_id): SessionIdInPath,
    Preference(acknowledge): Preference,
    OptionalJsonBody(body): OptionalJsonBody<ReasonBody>,
) -> Result<Response, ServiceProblem> {
    let reason = acceptable_reason(body.reason)?;
    let actor = key.actor();
    let command = RevokeSession { session_id, owner: None, reason, actor, acknowledge };
    let revoked = state.application.revoke_session.handle(command).await?;
    Ok(revoked_response(revoked))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "ids": ["01900000-0000-7000-8000-000000000001"],
    "reason": "lost phone"
}))]
pub(super) struct RevokeSessionsBody {
    /// The sessions, at most 400.
    #[schema(value_type = Option<Vec<Uuid>>, max_items = 400)]
    ids: Option<Vec<Text<SessionId>>>,
    /// Those that a search finds, in place of ids; needs the scope `operate`.
    #[schema(value_type = Option<FilterBody>)]
    filter: Option<ObjectOf<FilterBody>>,
    /// All sessions of all users, in place of ids; needs the scope `operate`.
    #[serde(default)]
    all: bool,
    /// Revokes nothing, and returns how many would be revoked.
    #[serde(default)]
    dry_run: bool,
    /// Why; for lists and the audit log.
    #[schema(max_length = 255)]
    reason: Option<String>,
}

/// Which sessions a [`RevokeSessionsBody`] names.
enum Target {
    Ids(Vec<SessionId>),
    Filter(SessionFilter),
    All,
}

impl RevokeSessionsBody {
    /// Returns which sessions are meant.
    ///
    /// # Errors
    /// 400 if there is not exactly one of `ids`, `filter` and `all`; 422 if there are too many ids.
    fn target(
        ids: Option<Vec<Text<SessionId>>>,
        filter: Option<FilterBody>,
        all: bool,
    ) -> Result<Target, Problem> {
        match (ids, filter, all) {
            (Some(ids), None, false) if ids.len() > MAX_IDS => {
                Err(Problem::unprocessable("ids", format!("must be at most {MAX_IDS} ids")))
            }
            (Some(ids), None, false) => {
                Ok(Target::Ids(ids.into_iter().map(|Text(id)| id).collect()))
            }
            (None, Some(filter), false) => Ok(Target::Filter(filter.into_filter()?)),
            (None, None, true) => Ok(Target::All),
            (None, None, false) => {
                let message = "is missing; or give a `filter`, or say `\"all\": true`";
                Err(Problem::invalid_request("ids", message))
            }
            (Some(_), _, true) => {
                Err(Problem::invalid_request("all", "must not be true where there are ids"))
            }
            (None, Some(_), true) => {
                Err(Problem::invalid_request("all", "must not be true where there is a filter"))
            }
            (Some(_), Some(_), false) => {
                Err(Problem::invalid_request("filter", "must be absent where there are ids"))
            }
        }
    }
}

/// Revokes the sessions with these ids, or, for operators, those that a search finds, or all
/// sessions of all users. With `dry_run` it only counts those that are not revoked yet.
#[utoipa::path(
    post,
    path = "/service/v1/sessions/revoke",
    operation_id = "revoke_sessions",
    tag = "backends",
    params(Preference),
    request_body = RevokeSessionsBody,
    responses(
        (status = 200, description = "How many were revoked", body = RevokedBody),
        (
            status = 202,
            description = "Stored; `effective_by` says when it is effective on every node",
            body = RevokedBody,
        ),
    )
)]
pub(super) async fn revoke_sessions(
    State(state): State<ServiceState>,
    Extension(key): Extension<ServiceKey>,
    Preference(acknowledge): Preference,
    parts: Parts,
    JsonBody { value: body, .. }: JsonBody<RevokeSessionsBody>,
) -> Result<Response, ServiceProblem> {
    let RevokeSessionsBody { ids, filter, all, dry_run, reason } = body;
    let reason = acceptable_reason(reason)?;
    let actor = key.actor();
    let application = &state.application;
    let target = RevokeSessionsBody::target(ids, filter.map(|ObjectOf(filter)| filter), all)?;
    if !matches!(target, Target::Ids(_)) {
        require_scope(&state, &parts, &key, Scope::Operate)?;
    }
    let revoked = match target {
        Target::Ids(session_ids) if dry_run => count_unrevoked(&state, session_ids).await?,
        Target::Ids(session_ids) => {
            let command = RevokeSessions { session_ids, reason, actor, acknowledge };
            application.revoke_sessions.handle(command).await?
        }
        Target::All if !dry_run => {
            let command = RevokeAllSessions { reason, actor, acknowledge };
            application.revoke_all_sessions.handle(command).await?
        }
        Target::All => {
            let filter = SessionFilter::default();
            let command = RevokeMatchingSessions { filter, reason, actor, acknowledge, dry_run };
            application.revoke_matching_sessions.handle(command).await?
        }
        Target::Filter(filter) => {
            let command = RevokeMatchingSessions { filter, reason, actor, acknowledge, dry_run };
            application.revoke_matching_sessions.handle(command).await?
        }
    };
    Ok(revoked_count_response(revoked))
}

/// Counts those of these sessions that are not revoked.
async fn count_unrevoked(
    state: &ServiceState,
    session_ids: Vec<SessionId>,
) -> Result<Revoked, ServiceProblem> {
    let mut count = 0;
    for session_id in session_ids.into_iter().collect::<BTreeSet<_>>() {
        match state.application.inspect_session.handle(InspectSession { session_id }).await {
            Ok(session) => count += u64::from(!session.is_revoked()),
            Err(InspectSessionError::SessionNotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Revoked { count, effective_by: None })
}
