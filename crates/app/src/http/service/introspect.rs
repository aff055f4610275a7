//! Token introspection (RFC 7662), for gateways and OAuth libraries that ask about a token.

use application::queries::handlers::FoundSession;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ServiceState;
use super::errors::ServiceProblem;
use super::tokens::find_by_token;
use crate::http::wire::body::FormBody;
use crate::http::wire::session_body::{read_response, uncached_response};
use utoipa::ToSchema;

/// The parameters of an introspection request; others are ignored, as section 2.1 has it.
#[derive(Deserialize, ToSchema)]
pub(super) struct IntrospectParameters {
    /// A session token or a JWT.
    token: String,
}

/// What is said of a token: section 2.2, and the session's id as OpenID Connect names it. Of one
/// that is not active, nothing else is said.
#[derive(Default, Serialize, ToSchema)]
struct IntrospectionBody {
    active: bool,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<Uuid>,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<Uuid>,
    /// When the user signed in, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// When the session expires, at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
}

/// Says whether a session token or a JWT is good and its session live, and whose it is. It does not
/// count as activity.
#[utoipa::path(
    post,
    path = "/service/v1/introspect",
    operation_id = "introspect",
    tag = "backends",
    request_body(
        content = IntrospectParameters,
        content_type = "application/x-www-form-urlencoded"
    ),
    responses(
        (
            status = 200,
            description = "Who it is, or that the token is not active",
            body = IntrospectionBody,
        ),
    )
)]
pub(super) async fn introspect(
    State(state): State<ServiceState>,
    FormBody(IntrospectParameters { token }): FormBody<IntrospectParameters>,
) -> Result<Response, ServiceProblem> {
    let now = state.clock.now();
    let found = find_by_token(&state, &token).await?;
    Ok(match found.filter(|found| found.session.is_live(now)) {
        Some(FoundSession { session, layer, .. }) => {
            let body = IntrospectionBody {
                active: true,
                sub: Some(session.user_id.0),
                sid: Some(session.id.0),
                iat: Some(session.created_at.timestamp()),
                exp: Some(session.ends_at().timestamp()),
                token_type: Some("Bearer"),
            };
            read_response(layer, body)
        }
        None => uncached_response(IntrospectionBody::default()),
    })
}
