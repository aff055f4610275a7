//! Forward authentication: nginx `auth_request`, Caddy `forward_auth`, Traefik `ForwardAuth`, Envoy
//! `ext_authz`.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::GatewayState;
use crate::http::public::authentication::LiveCaller;
use crate::http::wire::problem::Problem;

const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
const SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");

/// The end user of the request that a gateway asks about, whose session is live.
pub(super) struct ForwardedCaller(LiveCaller);

impl FromRequestParts<GatewayState> for ForwardedCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &GatewayState) -> Result<Self, Problem> {
        LiveCaller::from_request_parts(parts, &state.0).await.map(Self)
    }
}

/// Says whether the end user whose credentials the request carries has a live session, and names
/// both. The request counts as activity of that session.
///
/// For Envoy, the same goes for any method of `/service/v1/forward-auth/` and a path, with 200.
#[utoipa::path(
    get,
    path = "/service/v1/forward-auth",
    operation_id = "forward_auth",
    tag = "gateways",
    params(
        (
            "X-Forwarded-Method" = Option<String>,
            Header,
            description = "The method of the request that is asked about",
        ),
    ),
    responses((
        status = 204, description = "The session is live",
        headers(
            ("X-User-Id" = Uuid, description = "The user"),
            ("X-Session-Id" = Uuid, description = "The session")
        )
    ))
)]
pub(super) async fn forward_auth(caller: ForwardedCaller) -> Response {
    (StatusCode::NO_CONTENT, caller.headers()).into_response()
}

/// The same for Envoy, which lets a request pass for 200 only.
pub(super) async fn ext_authz(caller: ForwardedCaller) -> Response {
    (StatusCode::OK, caller.headers()).into_response()
}

impl ForwardedCaller {
    fn headers(&self) -> [(HeaderName, HeaderValue); 2] {
        // A hyphenated UUID is a good header.
        let value = |id: String| HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static(""));
        let Self(caller) = self;
        [
            (USER_ID, value(caller.user_id.to_string())),
            (SESSION_ID, value(caller.session_id.to_string())),
        ]
    }
}
