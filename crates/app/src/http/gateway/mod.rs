//! Routes for gateways in front of an application, on the service listener: a gateway asks about
//! the end user of each request before it passes the request on.

mod forward_auth;

use std::sync::Arc;

use application::Application;
use axum::Router;
use axum::http::Method;
use axum::http::request::Parts;
use axum::routing::{MethodRouter, any, get};
use tokio::sync::Semaphore;
use utoipa::OpenApi;

use self::forward_auth::{ext_authz, forward_auth};
use crate::http::middleware::observe::{self, RequestIds};
use crate::http::middleware::routes::{method_not_allowed, with_routes};
use crate::http::middleware::work::{self, Audience};
use crate::http::public::PublicState;
use crate::http::public::authentication::{FORWARD_AUTH, authenticate_user, recall_user};
use crate::http::wire::problem::Problem;

/// What these routes work with: that of the public routes, because callers present the credentials
/// of end users.
#[derive(Clone)]
pub struct GatewayState(pub PublicState);

impl Audience for GatewayState {
    const LISTENER: &'static str = "service";

    fn recall(&self, parts: &mut Parts) -> bool {
        let original = original_method(parts);
        let own = std::mem::replace(&mut parts.method, original);
        let claimed = recall_user(&self.0, parts);
        parts.method = own;
        claimed.map(|claimed| parts.extensions.insert(claimed)).is_some()
    }

    async fn authenticate(&self, parts: &mut Parts) -> Result<(), Problem> {
        let original = original_method(parts);
        let own = std::mem::replace(&mut parts.method, original);
        let claimed = authenticate_user(&self.0, parts).await;
        parts.method = own;
        parts.extensions.insert(claimed?);
        Ok(())
    }

    fn application(&self) -> &Arc<Application> {
        &self.0.application
    }

    fn permits(&self) -> Option<Arc<Semaphore>> {
        self.0.limits.permits()
    }
}

/// Returns the method of the request that the gateway asks about: of its own request, where it
/// does not say, or where that is a change: Envoy's is the end user's. By the session cookie, a
/// change from another site is refused.
fn original_method(parts: &Parts) -> Method {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return parts.method.clone();
    }
    let named = ["x-forwarded-method", "x-original-method"];
    let value = named.iter().find_map(|name| parts.headers.get(*name));
    value.map_or(parts.method.clone(), |value| {
        // What is no method changes something, to be on the safe side.
        Method::from_bytes(value.as_bytes()).unwrap_or(Method::POST)
    })
}

/// The description of these routes.
#[derive(OpenApi)]
#[openapi(paths(forward_auth::forward_auth))]
pub(crate) struct GatewayApi;

/// Envoy asks with the method of the end user's request, and appends its path.
const APPENDED_PATHS: [&str; 2] = ["/service/v1/forward-auth/", "/service/v1/forward-auth/{*path}"];

/// Returns the routes for gateways.
fn routes() -> impl Iterator<Item = (&'static str, MethodRouter<GatewayState>)> {
    let appended = APPENDED_PATHS.into_iter().map(|path| (path, any(ext_authz)));
    std::iter::once((FORWARD_AUTH, get(forward_auth))).chain(appended)
}

/// Returns the paths for gateways, but for those that take any method.
pub fn paths() -> Vec<&'static str> {
    vec![FORWARD_AUTH]
}

/// Returns the router for gateways, to be merged into that of the service listener.
pub fn router(state: GatewayState) -> Router {
    let router = work::layer(with_routes(routes()), state.clone())
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state);
    observe::layer(router, GatewayState::LISTENER, RequestIds::OfCallers)
}
