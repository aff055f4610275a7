use application::queries::GetSession;
use application::queries::handlers::{FoundSession, GetSessionError};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;

use super::client_address::client_address;
use super::problem::Problem;
use super::state::{PublicState, ServiceState};
use crate::auth::{TokenError, VerifiedToken};

/// An end user with a verified token, whose own session is live: what every public route requires. The request is use of it.
pub(crate) struct LiveCaller {
    /// Who it is, and in which session.
    pub(crate) token: VerifiedToken,
    /// The caller's own session, looked up for this request.
    pub(crate) own: FoundSession,
}

impl FromRequestParts<PublicState> for LiveCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &PublicState) -> Result<Self, Problem> {
        let token = bearer(&parts.headers).ok_or_else(Problem::unauthenticated)?;
        let token = state.tokens.verify(token).await.map_err(|error| match error {
            TokenError::Invalid(reason) => {
                tracing::debug!(reason, "token refused");
                Problem::unauthenticated()
            }
            TokenError::KeysUnavailable => Problem::dependency_unavailable(),
        })?;
        let query = GetSession { session_id: token.session_id, user_id: token.user_id };
        let own = state.application.get_session.find(query).await.map_err(|error| match error {
            GetSessionError::SessionNotFound | GetSessionError::NotOwner => Problem::session_ended(),
            GetSessionError::Port(error) => error.into(),
        })?;
        if !own.session.is_live(state.clock.now()) {
            return Err(Problem::session_ended());
        }
        let address = client_address(parts, &state.trusted_proxies);
        state.application.record_activity.record_live(&own.session, own.version.as_ref(), address);
        Ok(Self { token, own })
    }
}

/// Lets requests with a known service key through.
pub(crate) async fn require_service_key(
    State(state): State<ServiceState>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let key = bearer(request.headers()).ok_or_else(Problem::unauthenticated)?;
    if !state.service_keys.contain(key) {
        return Err(Problem::forbidden());
    }
    Ok(next.run(request).await)
}

/// The token of the one `Authorization: Bearer` header (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn one_bearer_token_is_taken_and_nothing_else() {
        let headers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            headers
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer(&headers(&["bearer  abc "])), Some("abc"));
        for values in [&[][..], &["Basic abc"], &["Bearer"], &["Bearer "], &["abc"], &["Bearer a", "Bearer a"]] {
            assert_eq!(bearer(&headers(values)), None, "{values:?}");
        }
    }
}
