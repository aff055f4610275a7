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

/// The parameters of an introspection request; others are ignored, as section 2.1 has it.
#[derive(Deserialize)]
pub(super) struct IntrospectParameters {
    token: String,
}

/// What is said of an active token: section 2.2, and the session's id as OpenID Connect names it.
#[derive(Serialize)]
struct ActiveBody {
    active: bool,
    sub: Uuid,
    sid: Uuid,
    iat: i64,
    exp: i64,
    token_type: &'static str,
}

/// What is said of any other token: nothing.
#[derive(Serialize)]
struct InactiveBody {
    active: bool,
}

/// Says whether a session token or a JWT is good and its session live, and whose it is. It does not
/// count as activity.
pub(super) async fn introspect(
    State(state): State<ServiceState>,
    FormBody(IntrospectParameters { token }): FormBody<IntrospectParameters>,
) -> Result<Response, ServiceProblem> {
    let now = state.clock.now();
    let found = find_by_token(&state, &token).await?;
    Ok(match found.filter(|found| found.session.is_live(now)) {
        Some(FoundSession { session, layer, .. }) => read_response(
            layer,
            ActiveBody {
                active: true,
                sub: session.user_id.0,
                sid: session.id.0,
                iat: session.created_at.timestamp(),
                exp: session.ends_at().timestamp(),
                token_type: "Bearer",
            },
        ),
        None => uncached_response(InactiveBody { active: false }),
    })
}
