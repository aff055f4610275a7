//! Who is calling: end users, by their tokens or the session cookie.

use std::net::IpAddr;

use application::queries::handlers::{FoundSession, GetSessionError, VerifyTokenError};
use application::queries::{GetSession, VerifyToken};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Method, header};
use chrono::{DateTime, Utc};
use domain::{SessionId, TokenHash, UserId};

use super::PublicState;
use crate::auth::session_token::{self, PresentedToken};
use crate::auth::{Refusal, TokenError, VerifiedToken};
use crate::http::middleware::limits::{
    AuthFailure, CROSS_SITE, MISSING_CREDENTIALS, SESSION_ENDED, TOKEN_REUSED, TOKEN_UNKNOWN,
};
use crate::http::middleware::work::route_of;
use crate::http::wire::client_address::client_address;
use crate::http::wire::parameters::bearer;
use crate::http::wire::problem::Problem;
use crate::http::wire::session_cookie::session_cookie;

/// Who calls, as the credentials of a request say. Those of a JWT are verified. A session token is
/// compared with its session, once that is looked up: see [`LiveCaller`].
#[derive(Clone, Copy)]
pub(crate) struct Claimed {
    user_id: UserId,
    session_id: SessionId,
    credential: Credential,
}

/// What a caller has presented.
#[derive(Clone, Copy)]
pub(crate) enum Credential {
    /// A JWT.
    Jwt {
        /// From when on it is not accepted.
        expires_at: DateTime<Utc>,
    },
    /// A session token with this hash, in a header or in the cookie.
    SessionToken {
        /// Its hash.
        hash: TokenHash,
        /// Whether it came in the cookie.
        in_cookie: bool,
    },
}

/// A credential as it was sent.
enum Presented<'a> {
    Jwt(&'a str),
    SessionToken { token: Option<PresentedToken>, in_cookie: bool },
}

/// Returns what the request presents: the `Authorization` header, or else the cookie.
fn presented<'a>(state: &PublicState, parts: &'a Parts) -> Option<Presented<'a>> {
    let of = |text, in_cookie| match session_token::parse(text) {
        Some(token) => Presented::SessionToken { token: token.ok(), in_cookie },
        None if in_cookie => Presented::SessionToken { token: None, in_cookie },
        None => Presented::Jwt(text),
    };
    if parts.headers.contains_key(header::AUTHORIZATION) {
        return bearer(&parts.headers).map(|text| of(text, false));
    }
    session_cookie(&parts.headers, &state.cookie_name).map(|text| of(text, true))
}

impl Claimed {
    fn by_jwt(verified: VerifiedToken) -> Self {
        let VerifiedToken { user_id, session_id, expires_at } = verified;
        Self { user_id, session_id, credential: Credential::Jwt { expires_at } }
    }

    fn by_session_token(token: PresentedToken, in_cookie: bool) -> Self {
        let PresentedToken { session_id, user_id, hash } = token;
        Self { user_id, session_id, credential: Credential::SessionToken { hash, in_cookie } }
    }
}

/// Verifies the end user's credentials as far as that needs no look-up, and counts the request
/// against the user's limit.
///
/// A request about the caller's own session is not counted: it costs no more than its refusal
/// would.
///
/// # Errors
/// 401 without a good token, 403 for a change by a cookie from another site, 429 if the user or the
/// address has asked too often, 503 if the issuer's keys cannot be had.
pub(crate) async fn authenticate_user(
    state: &PublicState,
    parts: &Parts,
) -> Result<Claimed, Problem> {
    let refused = |reason, problem| refuse(state, parts, reason, problem);
    let claimed = match presented(state, parts) {
        None => return Err(refused(MISSING_CREDENTIALS, Problem::unauthenticated())),
        Some(Presented::SessionToken { in_cookie: true, .. })
            if !is_read(parts) && !is_same_site(state, parts) =>
        {
            return Err(refused(CROSS_SITE, Problem::cross_site_request()));
        }
        Some(Presented::SessionToken { token: None, .. }) => {
            return Err(refused(Refusal::Malformed.as_str(), Problem::invalid_token()));
        }
        Some(Presented::SessionToken { token: Some(token), in_cookie }) => {
            // Only the look-up shows whether it is good.
            state.limits.admit_peer(client_address(parts, &state.trusted_proxies))?;
            Claimed::by_session_token(token, in_cookie)
        }
        Some(Presented::Jwt(token)) => verify_jwt(state, parts, token).await?,
    };
    if !is_about_own_session(parts, &claimed) {
        state.limits.admit_user(claimed.user_id)?;
    }
    Ok(claimed)
}

async fn verify_jwt(state: &PublicState, parts: &Parts, token: &str) -> Result<Claimed, Problem> {
    let recalled = state.tokens.load().recall(token);
    let verified = match recalled {
        Some(verified) => verified,
        None => {
            // Verifying a signature costs more than anything else that an unknown caller can ask
            // for.
            state.limits.admit_peer(client_address(parts, &state.trusted_proxies))?;
            state.tokens.load_full().verify(token).await.map_err(|error| match error {
                TokenError::Refused(refusal) => {
                    tracing::debug!(reason = refusal.as_str(), "token refused");
                    refuse(state, parts, refusal.as_str(), Problem::invalid_token())
                }
                TokenError::KeysUnavailable => Problem::dependency_unavailable(),
            })?
        }
    };
    Ok(Claimed::by_jwt(verified))
}

/// Returns who calls without waiting, where no limit can refuse the request: what
/// [`authenticate_user`] would return.
pub(crate) fn recall_user(state: &PublicState, parts: &Parts) -> Option<Claimed> {
    let claimed = match presented(state, parts)? {
        Presented::Jwt(token) => Claimed::by_jwt(state.tokens.load().recall(token)?),
        Presented::SessionToken { token, in_cookie } => {
            state.limits.admit_peer(client_address(parts, &state.trusted_proxies)).ok()?;
            Claimed::by_session_token(token?, in_cookie)
        }
    };
    is_about_own_session(parts, &claimed).then_some(claimed)
}

/// Where gateways ask about an end user's request: always about the caller's own session.
pub(crate) const FORWARD_AUTH: &str = "/service/v1/forward-auth";

fn is_read(parts: &Parts) -> bool {
    matches!(parts.method, Method::GET | Method::HEAD)
}

fn is_about_own_session(parts: &Parts, caller: &Claimed) -> bool {
    let path = parts.uri.path();
    let is_own =
        |last: &str| last == "current" || last.parse().is_ok_and(|id| caller.session_id == id);
    is_read(parts)
        && (path.starts_with(FORWARD_AUTH) || path.rsplit('/').next().is_some_and(is_own))
}

/// Returns whether a browser says that the request comes from this origin (Fetch Metadata), or from
/// one that is allowed. Browsers send the cookie by themselves, so a request without either may be
/// another site's.
fn is_same_site(state: &PublicState, parts: &Parts) -> bool {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let is_allowed = |origin| state.cors_origins.iter().any(|allowed| allowed == origin);
    header("sec-fetch-site") == Some("same-origin") || header("origin").is_some_and(is_allowed)
}

/// Counts and logs a failed authentication, and returns the response.
fn refuse(state: &PublicState, parts: &Parts, reason: &'static str, problem: Problem) -> Problem {
    let peer = client_address(parts, &state.trusted_proxies);
    let failure = AuthFailure { listener: "public", reason, peer, route: route_of(parts) };
    state.limits.record_failure(&failure, problem)
}

/// An end user whose own session is live: what every public route requires. The request counts as
/// activity of that session.
pub(crate) struct LiveCaller {
    /// Who it is.
    pub(crate) user_id: UserId,
    /// In which session.
    pub(crate) session_id: SessionId,
    /// By which credential.
    pub(crate) credential: Credential,
    /// The caller's own session, looked up for this request.
    pub(crate) own: FoundSession,
    /// The client's address.
    pub(crate) peer: Option<IpAddr>,
}

impl FromRequestParts<PublicState> for LiveCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &PublicState) -> Result<Self, Problem> {
        let (claimed, own) = find_live(state, parts).await?;
        let peer = client_address(parts, &state.trusted_proxies);
        state.application.record_activity.record_live(&own.session, own.version.as_ref(), peer);
        let Claimed { user_id, session_id, credential } = claimed;
        Ok(Self { user_id, session_id, credential, own, peer })
    }
}

/// An end user whose own session is live, as for [`LiveCaller`]. The request is not activity: a
/// page that is left open must not keep its session from becoming idle.
pub(crate) struct WatchingCaller {
    /// By which credential.
    pub(crate) credential: Credential,
    /// The caller's own session.
    pub(crate) own: FoundSession,
}

impl FromRequestParts<PublicState> for WatchingCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &PublicState) -> Result<Self, Problem> {
        let (claimed, own) = find_live(state, parts).await?;
        Ok(Self { credential: claimed.credential, own })
    }
}

/// Looks up the caller's own session.
///
/// # Errors
/// 401 if it is not live, or if the session token is not its own; 503 if that cannot be known.
async fn find_live(state: &PublicState, parts: &Parts) -> Result<(Claimed, FoundSession), Problem> {
    // Put there by `authenticate_user`, without which no public handler runs.
    let claimed = *parts.extensions.get::<Claimed>().ok_or_else(Problem::unauthenticated)?;
    let own = match claimed.credential {
        Credential::Jwt { .. } => find_by_jwt(state, parts, &claimed).await?,
        Credential::SessionToken { hash, .. } => {
            find_by_session_token(state, parts, &claimed, hash).await?
        }
    };
    if !own.session.is_live(state.clock.now()) {
        return Err(refuse(state, parts, SESSION_ENDED, Problem::session_ended()));
    }
    Ok((claimed, own))
}

async fn find_by_jwt(
    state: &PublicState,
    parts: &Parts,
    claimed: &Claimed,
) -> Result<FoundSession, Problem> {
    let query = GetSession { session_id: claimed.session_id, user_id: claimed.user_id };
    state.application.get_session.find(query).await.map_err(|error| match error {
        GetSessionError::SessionNotFound | GetSessionError::NotOwner => {
            refuse(state, parts, SESSION_ENDED, Problem::session_ended())
        }
        GetSessionError::Port(error) => error.into(),
    })
}

async fn find_by_session_token(
    state: &PublicState,
    parts: &Parts,
    claimed: &Claimed,
    hash: TokenHash,
) -> Result<FoundSession, Problem> {
    let query = VerifyToken { session_id: claimed.session_id, user_id: claimed.user_id, hash };
    state.application.verify_token.handle(query).await.map_err(|error| match error {
        VerifyTokenError::SessionNotFound => {
            refuse(state, parts, SESSION_ENDED, Problem::session_ended())
        }
        VerifyTokenError::TokenUnknown => {
            refuse(state, parts, TOKEN_UNKNOWN, Problem::invalid_token())
        }
        VerifyTokenError::TokenReused => {
            refuse(state, parts, TOKEN_REUSED, Problem::invalid_token())
        }
        VerifyTokenError::Port(error) => error.into(),
    })
}
