//! The public listener: end users and their own sessions.

pub(crate) mod authentication;
mod devices;
mod errors;
mod sessions;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use application::Application;
use arc_swap::ArcSwap;
use axum::Router;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::routing::{MethodRouter, get, post};
use domain::ports::Clock;
use ipnetwork::IpNetwork;
use tokio::sync::Semaphore;
use tower_http::cors::CorsLayer;
use utoipa::OpenApi;

use self::authentication::{authenticate_user, recall_user};
pub use self::watch::Watches;
use crate::auth::TokenVerifier;
use crate::http::middleware::limits::Limits;
use crate::http::middleware::observe::{self, RequestIds};
use crate::http::middleware::routes::{method_not_allowed, no_route, with_routes};
use crate::http::middleware::work::{self, Audience};
use crate::http::wire::problem::Problem;

/// How long a browser may keep the response to a preflight request.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// What the public routes work with.
#[derive(Clone)]
pub struct PublicState {
    /// The use cases.
    pub application: Arc<Application>,
    /// The wall clock, for the verdict on a session.
    pub clock: Arc<dyn Clock>,
    /// Verifies end users' JWTs; replaced when keys are read again.
    pub tokens: Arc<ArcSwap<TokenVerifier>>,
    /// How much one caller may ask for.
    pub limits: Arc<Limits>,
    /// The name of the session cookie.
    pub cookie_name: Arc<str>,
    /// Origins whose pages may call this listener.
    pub cors_origins: Arc<[String]>,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Arc<[IpNetwork]>,
    /// Watches of sessions, which last as long as their sessions do.
    pub watches: Arc<Watches>,
}

impl Audience for PublicState {
    const LISTENER: &'static str = "public";

    fn recall(&self, parts: &mut Parts) -> bool {
        let Some(claimed) = recall_user(self, parts) else { return false };
        parts.extensions.insert(claimed);
        true
    }

    async fn authenticate(&self, parts: &mut Parts) -> Result<(), Problem> {
        let claimed = authenticate_user(self, parts).await?;
        parts.extensions.insert(claimed);
        Ok(())
    }

    fn application(&self) -> &Arc<Application> {
        &self.application
    }

    fn permits(&self) -> Option<Arc<Semaphore>> {
        self.limits.permits()
    }
}

/// The description of these routes.
#[derive(OpenApi)]
#[openapi(paths(
    sessions::get_current_session,
    sessions::get_session,
    sessions::list_sessions,
    sessions::rename_current_session,
    sessions::rename_session,
    sessions::revoke_current_session,
    sessions::revoke_session,
    sessions::revoke_other_sessions,
    sessions::rotate_current_token,
    watch::watch_current_session,
    watch::watch_sessions,
))]
pub(crate) struct PublicApi;

/// Returns the routes of the public listener. Each handler takes a `LiveCaller`.
fn routes() -> [(&'static str, MethodRouter<PublicState>); 6] {
    use sessions::{
        get_current_session, get_session, list_sessions, rename_current_session, rename_session,
        revoke_current_session, revoke_other_sessions, revoke_session, rotate_current_token,
    };
    use watch::{watch_current_session, watch_sessions};
    [
        ("/api/v1/sessions", get(list_sessions).delete(revoke_other_sessions)),
        (
            "/api/v1/sessions/current",
            get(get_current_session).patch(rename_current_session).delete(revoke_current_session),
        ),
        ("/api/v1/sessions/current/rotate", post(rotate_current_token)),
        ("/api/v1/sessions/current/watch", get(watch_current_session)),
        ("/api/v1/sessions/watch", get(watch_sessions)),
        ("/api/v1/sessions/{id}", get(get_session).patch(rename_session).delete(revoke_session)),
    ]
}

/// Returns the paths of the public listener that need credentials, with `{id}` where an id stands.
pub fn paths() -> Vec<&'static str> {
    routes().map(|(path, _)| path).to_vec()
}

/// Returns the paths of the public listener that need none: a page and its files.
pub fn open_paths() -> Vec<&'static str> {
    devices::routes().map(|(path, _)| path).to_vec()
}

/// Returns the router of the public listener.
pub fn router(state: PublicState) -> Router {
    let request_ids = RequestIds::OfProxies(state.trusted_proxies.clone());
    let cors = cors(&state.cors_origins);
    let router = work::layer(with_routes(routes()), state.clone())
        .merge(with_routes(devices::routes()))
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state);
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    observe::layer(router, PublicState::LISTENER, request_ids)
}

/// Returns what lets pages of these origins call this listener (CORS, in the Fetch standard), with
/// credentials; `None`: there are none.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<_> =
        origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    let of = |names: &[&'static str]| names.iter().copied().map(HeaderName::from_static).collect();
    let accepted: Vec<_> = of(&["authorization", "content-type", "prefer"]);
    let exposed: Vec<_> = of(&["cache-status", "retry-after", "x-request-id"]);
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(origins)
            .allow_credentials(true)
            .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
            .allow_headers(accepted)
            .expose_headers(exposed)
            .max_age(PREFLIGHT_MAX_AGE)
    })
}

async fn no_such_route(uri: Uri) -> Problem {
    no_route(&uri, &["/service/", "/livez", "/readyz", "/metrics"], "server.service_listen")
}
