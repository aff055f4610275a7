//! All sessions of one user.

use application::commands::RevokeAllUserSessions;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use domain::SessionId;
use serde::Deserialize;

use super::ServiceState;
use crate::auth::ServiceKey;
use crate::http::wire::body::OptionalJsonBody;
use crate::http::wire::fields::{Text, acceptable_reason};
use crate::http::wire::parameters::{Parameters, Preference, UserIdInPath};
use crate::http::wire::problem::Problem;
use crate::http::wire::session_body::{RevokedBody, revoked_count_response};
use crate::http::wire::session_list::{ListBody, ListParameters, list_response};
use utoipa::ToSchema;

/// Lists a user's sessions, newest first, page by page.
#[utoipa::path(
    get,
    path = "/service/v1/users/{user_id}/sessions",
    operation_id = "list_user_sessions",
    tag = "backends",
    params(UserIdInPath, ListParameters),
    responses((status = 200, description = "A page of sessions", body = ListBody))
)]
pub(super) async fn list_user_sessions(
    State(state): State<ServiceState>,
    UserIdInPath(user_id): UserIdInPath,
    Parameters(parameters): Parameters<ListParameters>,
) -> Result<Response, Problem> {
    let query = parameters.into_query(user_id)?;
    let listed = state.application.list_user_sessions.handle(query).await?;
    Ok(list_response(&listed, None, true))
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeAllUserSessionsBody {
    /// Why; for lists and the audit log.
    #[schema(max_length = 255)]
    reason: Option<String>,
    /// The session to keep.
    #[schema(value_type = Option<Uuid>)]
    except_session_id: Option<Text<SessionId>>,
}

/// Revokes all of a user's sessions, but one that may be excepted.
#[utoipa::path(
    delete,
    path = "/service/v1/users/{user_id}/sessions",
    operation_id = "revoke_all_user_sessions",
    tag = "backends",
    params(UserIdInPath, Preference),
    request_body = Option<RevokeAllUserSessionsBody>,
    responses(
        (status = 200, description = "How many were revoked", body = RevokedBody),
        (
            status = 202,
            description = "Stored; `effective_by` says when it is effective on every node",
            body = RevokedBody,
        ),
    )
)]
pub(super) async fn revoke_all_user_sessions(
    State(state): State<ServiceState>,
    Extension(key): Extension<ServiceKey>,
    UserIdInPath(user_id): UserIdInPath,
    Preference(acknowledge): Preference,
    OptionalJsonBody(body): OptionalJsonBody<RevokeAllUserSessionsBody>,
) -> Result<Response, Problem> {
    let (except, reason) =
        (body.except_session_id.map(|Text(id)| id), acceptable_reason(body.reason)?);
    let command =
        RevokeAllUserSessions { user_id, except, reason, actor: key.actor(), acknowledge };
    let revoked = state.application.revoke_all_user_sessions.handle(command).await?;
    Ok(revoked_count_response(revoked))
}
