//! Who is calling: end users, by their tokens.

use std::net::IpAddr;

use application::queries::GetSession;
use application::queries::handlers::{FoundSession, GetSessionError};
use axum::extract::FromRequestParts;
use axum::http::Method;
use axum::http::request::Parts;

use super::PublicState;
use crate::auth::{TokenError, VerifiedToken};
use crate::http::middleware::limits::{AuthFailure, MISSING_CREDENTIALS, SESSION_ENDED};
use crate::http::middleware::work::route_of;
use crate::http::server::client_address::client_address;
use crate::http::wire::parameters::bearer;
use crate::http::wire::problem::Problem;

/// Verifies the end user's token, and counts the request against the user's limit.
///
/// A request about the caller's own session is not counted: it costs no more than its refusal
/// would.
///
/// # Errors
/// 401 without a good token, 429 if the user or the address has asked too often, 503 if the
/// issuer's keys cannot be had.
pub(crate) async fn authenticate_user(
    state: &PublicState,
    parts: &Parts,
) -> Result<VerifiedToken, Problem> {
    let peer = client_address(parts, &state.trusted_proxies);
    let failure = |reason| AuthFailure { listener: "public", reason, peer, route: route_of(parts) };
    let Some(token) = bearer(&parts.headers) else {
        return Err(state
            .limits
            .record_failure(&failure(MISSING_CREDENTIALS), Problem::unauthenticated()));
    };
    let recalled = state.tokens.load().recall(token);
    let verified = match recalled {
        Some(verified) => verified,
        None => {
            // Verifying a signature costs more than anything else that an unknown caller can ask
            // for.
            state.limits.admit_peer(peer)?;
            state.tokens.load_full().verify(token).await.map_err(|error| match error {
                TokenError::Refused(refusal) => {
                    tracing::debug!(reason = refusal.as_str(), "token refused");
                    state
                        .limits
                        .record_failure(&failure(refusal.as_str()), Problem::invalid_token())
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

/// Returns whose the token is without waiting, where it was verified before and no limit can refuse
/// the request: what [`authenticate_user`] would return.
pub(crate) fn recall_user(state: &PublicState, parts: &Parts) -> Option<VerifiedToken> {
    let verified = state.tokens.load().recall(bearer(&parts.headers)?)?;
    is_about_own_session(parts, &verified).then_some(verified)
}

fn is_about_own_session(parts: &Parts, caller: &VerifiedToken) -> bool {
    let is_own =
        |last: &str| last == "current" || last.parse().is_ok_and(|id| caller.session_id == id);
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    is_read && parts.uri.path().rsplit('/').next().is_some_and(is_own)
}

/// An end user with a verified token, whose own session is live: what every public route requires.
/// The request counts as activity of that session.
pub(crate) struct LiveCaller {
    /// Who it is, and in which session.
    pub(crate) token: VerifiedToken,
    /// The caller's own session, looked up for this request.
    pub(crate) own: FoundSession,
    /// The client's address.
    pub(crate) peer: Option<IpAddr>,
}

impl FromRequestParts<PublicState> for LiveCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &PublicState) -> Result<Self, Problem> {
        // Put there by `authenticate_user`, without which no public handler runs.
        let token =
            *parts.extensions.get::<VerifiedToken>().ok_or_else(Problem::unauthenticated)?;
        let peer = client_address(parts, &state.trusted_proxies);
        let session_ended = || {
            let failure = AuthFailure {
                listener: "public",
                reason: SESSION_ENDED,
                peer,
                route: route_of(parts),
            };
            state.limits.record_failure(&failure, Problem::session_ended())
        };
        let query = GetSession { session_id: token.session_id, user_id: token.user_id };
        let own = state.application.get_session.find(query).await.map_err(|error| match error {
            GetSessionError::SessionNotFound | GetSessionError::NotOwner => session_ended(),
            GetSessionError::Port(error) => error.into(),
        })?;
        if !own.session.is_live(state.clock.now()) {
            return Err(session_ended());
        }
        state.application.record_activity.record_live(&own.session, own.version.as_ref(), peer);
        Ok(Self { token, own, peer })
    }
}
