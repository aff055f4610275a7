//! Who is calling: end users by tokens, the application's backends and operators by service keys.

use std::net::IpAddr;

use application::queries::GetSession;
use application::queries::handlers::{FoundSession, GetSessionError};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};

use super::client_address::client_address;
use super::limits::{AuthFailure, MISSING_CREDENTIALS, MISSING_SCOPE, SESSION_ENDED, UNKNOWN_KEY};
use super::problem::Problem;
use super::state::{PublicState, ServiceState};
use super::work::route_of;
use crate::auth::{Scope, ServiceKey, TokenError, VerifiedToken};

/// Verifies the end user's token, and counts the request against the user's limit.
///
/// A request about the caller's own session is not counted: it costs no more than its refusal would.
///
/// # Errors
/// 401 without a good token, 429 if the user or the address has asked too often, 503 if the issuer's keys
/// cannot be had.
pub(super) async fn authenticate_user(state: &PublicState, parts: &Parts) -> Result<VerifiedToken, Problem> {
    let peer = client_address(parts, &state.trusted_proxies);
    let failure = |reason| AuthFailure { listener: "public", reason, peer, route: route_of(parts) };
    let Some(token) = bearer(&parts.headers) else {
        return Err(state.limits.record_failure(&failure(MISSING_CREDENTIALS), Problem::unauthenticated()));
    };
    let recalled = state.tokens.load().recall(token);
    let verified = match recalled {
        Some(verified) => verified,
        None => {
            // Verifying a signature costs more than anything else that an unknown caller can ask for.
            state.limits.admit_peer(peer)?;
            state.tokens.load_full().verify(token).await.map_err(|error| match error {
                TokenError::Refused(refusal) => {
                    tracing::debug!(reason = refusal.as_str(), "token refused");
                    state.limits.record_failure(&failure(refusal.as_str()), Problem::invalid_token())
                }
                TokenError::KeysUnavailable => Problem::dependency_unavailable(),
            })?
        }
    };
    if !is_about_own_session(parts, &verified) {
        state.limits.admit_user(verified.user_id)?;
    }
    Ok(verified)
}

/// Returns whose the token is without waiting, where it was verified before and no limit can refuse the
/// request: what [`authenticate_user`] would return.
pub(super) fn recall_user(state: &PublicState, parts: &Parts) -> Option<VerifiedToken> {
    let verified = state.tokens.load().recall(bearer(&parts.headers)?)?;
    is_about_own_session(parts, &verified).then_some(verified)
}

fn is_about_own_session(parts: &Parts, caller: &VerifiedToken) -> bool {
    let is_own = |last: &str| last == "current" || last.parse().is_ok_and(|id| caller.session_id == id);
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    is_read && parts.uri.path().rsplit('/').next().is_some_and(is_own)
}

/// Returns the service key of the request, if it is known and may make this call.
///
/// # Errors
/// 401 without a key, 403 with an unknown one or without the scope, 429 if the address has failed too often.
pub(super) fn authenticate_service(state: &ServiceState, parts: &Parts) -> Result<ServiceKey, Problem> {
    let peer = client_address(parts, &state.trusted_proxies);
    let failure = |reason| AuthFailure { listener: "service", reason, peer, route: route_of(parts) };
    let Some(presented) = bearer(&parts.headers) else {
        return Err(state.limits.record_failure(&failure(MISSING_CREDENTIALS), Problem::unauthenticated()));
    };
    let keys = state.service_keys.load();
    let Some(key) = keys.find(presented) else {
        return Err(state.limits.record_failure(&failure(UNKNOWN_KEY), Problem::forbidden()));
    };
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    require_scope(state, parts, key, if is_read { Scope::Read } else { Scope::Write })?;
    Ok(key.clone())
}

/// Refuses a call that the key's scopes do not allow.
///
/// # Errors
/// 403 that names the scope.
pub(super) fn require_scope(
    state: &ServiceState,
    parts: &Parts,
    key: &ServiceKey,
    scope: Scope,
) -> Result<(), Problem> {
    if key.scopes.allow(scope) {
        return Ok(());
    }
    let peer = client_address(parts, &state.trusted_proxies);
    let failure = AuthFailure { listener: "service", reason: MISSING_SCOPE, peer, route: route_of(parts) };
    Err(state.limits.record_failure(&failure, Problem::missing_scope(scope.as_str())))
}

/// An end user with a verified token, whose own session is live: what every public route requires. The
/// request counts as activity of that session.
pub(super) struct LiveCaller {
    /// Who it is, and in which session.
    pub(super) token: VerifiedToken,
    /// The caller's own session, looked up for this request.
    pub(super) own: FoundSession,
    /// The client's address.
    pub(super) peer: Option<IpAddr>,
}

impl FromRequestParts<PublicState> for LiveCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &PublicState) -> Result<Self, Problem> {
        // Put there by `authenticate_user`, without which no public handler runs.
        let token = *parts.extensions.get::<VerifiedToken>().ok_or_else(Problem::unauthenticated)?;
        let peer = client_address(parts, &state.trusted_proxies);
        let ended = || {
            let failure = AuthFailure { listener: "public", reason: SESSION_ENDED, peer, route: route_of(parts) };
            state.limits.record_failure(&failure, Problem::session_ended())
        };
        let query = GetSession { session_id: token.session_id, user_id: token.user_id };
        let own = state.application.get_session.find(query).await.map_err(|error| match error {
            GetSessionError::SessionNotFound | GetSessionError::NotOwner => ended(),
            GetSessionError::Port(error) => error.into(),
        })?;
        if !own.session.is_live(state.clock.now()) {
            return Err(ended());
        }
        state.application.record_activity.record_live(&own.session, own.version.as_ref(), peer);
        Ok(Self { token, own, peer })
    }
}

/// Returns the token of the one `Authorization: Bearer` header (RFC 6750 section 2.1).
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
