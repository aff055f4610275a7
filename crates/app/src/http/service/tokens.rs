//! Session tokens, for backends: verify one that an end user has presented, and replace one.

use application::commands::RotateToken;
use application::commands::handlers::IssuedToken;
use application::queries::handlers::{FoundSession, GetSessionError, VerifyTokenError};
use application::queries::{GetSession, VerifyToken};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::ports::PortError;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::ServiceState;
use super::errors::ServiceProblem;
use crate::auth::session_token::{self, PresentedToken};
use crate::auth::{TokenError, VerifiedToken};
use crate::http::wire::body::{EmptyBody, JsonBody, OptionalJsonBody};
use crate::http::wire::fields::address;
use crate::http::wire::parameters::SessionIdInPath;
use crate::http::wire::problem::Problem;
use crate::http::wire::session_body::{SessionBody, read_response, uncached_response};
use crate::http::wire::session_cookie::set_cookie;
use utoipa::ToSchema;

use crate::http::wire::schemas;

/// A token as it is shown to the backend that asked for it, once.
pub(super) struct ShownToken {
    text: SecretString,
    set_cookie: SecretString,
}

impl ShownToken {
    pub(super) fn new(state: &ServiceState, issued: &IssuedToken) -> Self {
        let text = session_token::format(issued.session, &issued.secret);
        let now = state.clock.now();
        let set_cookie = set_cookie(&state.cookie_name, &text, issued.expires_at, now).into();
        Self { text, set_cookie }
    }

    pub(super) fn text(&self) -> &str {
        self.text.expose_secret()
    }

    pub(super) fn set_cookie(&self) -> &str {
        self.set_cookie.expose_secret()
    }
}

#[derive(Serialize, ToSchema)]
struct TokenBody<'a> {
    token: &'a str,
    /// The value of a `Set-Cookie` header, for the application to pass on.
    set_cookie: &'a str,
}

/// Replaces the session token of a session, or issues its first. The token before is good for
/// `auth.rotation_grace` yet.
#[utoipa::path(
    post,
    path = "/service/v1/sessions/{id}/rotate",
    operation_id = "rotate_token",
    tag = "backends",
    params(SessionIdInPath),
    request_body = Option<EmptyBody>,
    responses((status = 200, description = "The new token", body = TokenBody))
)]
pub(super) async fn rotate_token(
    State(state): State<ServiceState>,
    SessionIdInPath(session_id): SessionIdInPath,
    OptionalJsonBody(EmptyBody {}): OptionalJsonBody<EmptyBody>,
) -> Result<Response, ServiceProblem> {
    let command = RotateToken { session_id, presented: None };
    let issued = state.application.rotate_token.handle(command).await?;
    let shown = ShownToken::new(&state, &issued);
    let body = TokenBody { token: shown.text(), set_cookie: shown.set_cookie() };
    Ok(Json(body).into_response())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "token": "sds_AZAAAAAAcACAAAAAAAAAAQ..." }))]
pub(super) struct VerifyTokenBody {
    /// A session token or a JWT.
    token: String,
    /// The client's address.
    ip_address: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct VerifiedBody<'a> {
    /// The status of the session, or `invalid`: the token is no good.
    #[schema(schema_with = schemas::verified_status)]
    status: &'static str,
    #[schema(required)]
    session: Option<SessionBody<'a>>,
}

/// Verifies a token that an end user has presented to the backend, a session token or a JWT, and
/// returns its session. With a live session this counts as activity.
#[utoipa::path(
    post,
    path = "/service/v1/sessions/verify",
    operation_id = "verify_token",
    tag = "backends",
    request_body = VerifyTokenBody,
    responses(
        (
            status = 200,
            description = "The session, and its status or `invalid`",
            body = VerifiedBody,
        ),
    )
)]
pub(super) async fn verify_token(
    State(state): State<ServiceState>,
    JsonBody { value: body, .. }: JsonBody<VerifyTokenBody>,
) -> Result<Response, ServiceProblem> {
    let Some(FoundSession { session, version, layer }) = find_by_token(&state, &body.token).await?
    else {
        return Ok(uncached_response(VerifiedBody { status: "invalid", session: None }));
    };
    let now = state.clock.now();
    if session.is_live(now) {
        let peer = address(body.ip_address.as_deref());
        state.application.record_activity.record_live(&session, version.as_ref(), peer);
    }
    let body = VerifiedBody {
        status: session.status(now).as_str(),
        session: Some(SessionBody::new(&session, now, false)),
    };
    Ok(read_response(layer, body))
}

/// Returns the session of an end user's token, in any state; `None` if the token is no good.
///
/// # Errors
/// 503 if that cannot be known.
pub(super) async fn find_by_token(
    state: &ServiceState,
    token: &str,
) -> Result<Option<FoundSession>, ServiceProblem> {
    match session_token::parse(token) {
        Some(Ok(token)) => Ok(find_by_session_token(state, token).await?),
        Some(Err(session_token::Malformed)) => Ok(None),
        None => match state.tokens.load_full().verify(token).await {
            Ok(token) => Ok(find_by_jwt(state, token).await?),
            Err(TokenError::Refused(refusal)) => {
                tracing::debug!(reason = refusal.as_str(), "token refused");
                Ok(None)
            }
            Err(TokenError::KeysUnavailable) => Err(Problem::dependency_unavailable().into()),
        },
    }
}

async fn find_by_session_token(
    state: &ServiceState,
    token: PresentedToken,
) -> Result<Option<FoundSession>, PortError> {
    let PresentedToken { session_id, user_id, hash } = token;
    let query = VerifyToken { session_id, user_id, hash };
    match state.application.verify_token.handle(query).await {
        Ok(found) => Ok(Some(found)),
        Err(VerifyTokenError::Port(error)) => Err(error),
        Err(
            VerifyTokenError::SessionNotFound
            | VerifyTokenError::TokenUnknown
            | VerifyTokenError::TokenReused,
        ) => Ok(None),
    }
}

async fn find_by_jwt(
    state: &ServiceState,
    token: VerifiedToken,
) -> Result<Option<FoundSession>, PortError> {
    let query = GetSession { session_id: token.session_id, user_id: token.user_id };
    match state.application.get_session.find(query).await {
        Ok(found) => Ok(Some(found)),
        Err(GetSessionError::Port(error)) => Err(error),
        Err(GetSessionError::SessionNotFound | GetSessionError::NotOwner) => Ok(None),
    }
}
