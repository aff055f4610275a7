//! Who is calling: the application's backends and operators, by their service keys.

use axum::http::Method;
use axum::http::request::Parts;

use super::ServiceState;
use crate::auth::{Scope, ServiceKey};
use crate::http::middleware::limits::{
    AuthFailure, MISSING_CREDENTIALS, MISSING_SCOPE, UNKNOWN_KEY,
};
use crate::http::middleware::work::route_of;
use crate::http::wire::client_address::client_address;
use crate::http::wire::parameters::{basic_password, bearer};
use crate::http::wire::problem::Problem;

/// Reads whose parameters must not stand in a URL.
const READS_BY_POST: [&str; 2] = ["/service/v1/sessions/verify", INTROSPECT];
/// Where the key may also stand as the password of `Authorization: Basic`, which is what OAuth
/// libraries send (RFC 6749 section 2.3.1).
const INTROSPECT: &str = "/service/v1/introspect";

/// Returns the service key of the request, if it is known and may make this call.
///
/// # Errors
/// 401 without a key, 403 with an unknown one or without the scope, 429 if the address has failed
/// too often.
pub(crate) fn authenticate_service(
    state: &ServiceState,
    parts: &Parts,
) -> Result<ServiceKey, Problem> {
    let peer = client_address(parts, &state.trusted_proxies);
    let failure =
        |reason| AuthFailure { listener: "service", reason, peer, route: route_of(parts) };
    let password =
        if route_of(parts) == INTROSPECT { basic_password(&parts.headers) } else { None };
    let Some(presented) = password.as_deref().or_else(|| bearer(&parts.headers)) else {
        return Err(state
            .limits
            .record_failure(&failure(MISSING_CREDENTIALS), Problem::unauthenticated()));
    };
    let keys = state.service_keys.load();
    let Some(key) = keys.find(presented) else {
        return Err(state.limits.record_failure(&failure(UNKNOWN_KEY), Problem::forbidden()));
    };
    let is_read = matches!(parts.method, Method::GET | Method::HEAD)
        || READS_BY_POST.contains(&route_of(parts));
    require_scope(state, parts, key, if is_read { Scope::Read } else { Scope::Write })?;
    Ok(key.clone())
}

/// Refuses a call that the key's scopes do not allow.
///
/// # Errors
/// 403 that names the scope.
pub(crate) fn require_scope(
    state: &ServiceState,
    parts: &Parts,
    key: &ServiceKey,
    scope: Scope,
) -> Result<(), Problem> {
    if key.scopes.allow(scope) {
        return Ok(());
    }
    let peer = client_address(parts, &state.trusted_proxies);
    let failure =
        AuthFailure { listener: "service", reason: MISSING_SCOPE, peer, route: route_of(parts) };
    Err(state.limits.record_failure(&failure, Problem::missing_scope(scope.as_str())))
}
