//! The service listener: the application's own backends, and operators.

mod authentication;
mod console;
mod create_session;
mod errors;
mod events;
mod health;
mod introspect;
mod nodes;
mod search;
mod sessions;
mod tokens;
mod users;

use std::sync::Arc;

use application::Application;
use arc_swap::ArcSwap;
use axum::Router;
use axum::http::Uri;
use axum::http::request::Parts;
use axum::routing::{MethodRouter, get, post};
use domain::ports::Clock;
use ipnetwork::IpNetwork;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

use self::authentication::authenticate_service;
pub use self::events::MAX_EVENT_STREAMS;
pub use self::health::Health;
pub use self::nodes::{NodeIdentity, Nodes};
use crate::auth::{ServiceKeys, TokenVerifier};
use crate::http::middleware::limits::Limits;
use crate::http::middleware::observe::{self, RequestIds};
use crate::http::middleware::routes::{method_not_allowed, no_route, with_routes};
use crate::http::middleware::work::{self, Audience};
use crate::http::wire::problem::Problem;

/// What the service routes work with.
#[derive(Clone)]
pub struct ServiceState {
    /// The use cases.
    pub application: Arc<Application>,
    /// The wall clock, for the verdict on a session.
    pub clock: Arc<dyn Clock>,
    /// Which service keys are accepted; replaced when keys are read again.
    pub service_keys: Arc<ArcSwap<ServiceKeys>>,
    /// Verifies end users' JWTs; replaced when keys are read again.
    pub tokens: Arc<ArcSwap<TokenVerifier>>,
    /// The name of the session cookie.
    pub cookie_name: Arc<str>,
    /// How much one caller may ask for.
    pub limits: Arc<Limits>,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Arc<[IpNetwork]>,
    /// Whether this node can do its work.
    pub health: Arc<Health>,
    /// The nodes of the store.
    pub nodes: Arc<Nodes>,
    /// What `/metrics` renders.
    pub metrics: PrometheusHandle,
    /// Places for event streams.
    pub event_streams: Arc<Semaphore>,
    /// Cancelled when the listener stops: streams then end.
    pub shutdown: CancellationToken,
}

impl Audience for ServiceState {
    const LISTENER: &'static str = "service";

    fn recall(&self, _: &mut Parts) -> bool {
        false
    }

    async fn authenticate(&self, parts: &mut Parts) -> Result<(), Problem> {
        let key = authenticate_service(self, parts)?;
        parts.extensions.insert(key);
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
    create_session::create_session,
    search::search_sessions,
    sessions::get_session,
    sessions::edit_session,
    sessions::record_activity,
    sessions::revoke_session,
    sessions::revoke_sessions,
    tokens::rotate_token,
    tokens::verify_token,
    introspect::introspect,
    users::list_user_sessions,
    users::revoke_all_user_sessions,
    events::list_events,
    events::stream_events,
    nodes::list_nodes,
    health::livez,
    health::readyz,
    health::render_metrics,
))]
pub(crate) struct ServiceApi;

/// Returns the routes behind a service key.
fn routes() -> [(&'static str, MethodRouter<ServiceState>); 11] {
    use create_session::create_session;
    use events::{list_events, stream_events};
    use introspect::introspect;
    use nodes::list_nodes;
    use search::search_sessions;
    use sessions::{edit_session, get_session, record_activity, revoke_session, revoke_sessions};
    use tokens::{rotate_token, verify_token};
    use users::{list_user_sessions, revoke_all_user_sessions};
    [
        ("/service/v1/sessions", get(search_sessions).post(create_session)),
        ("/service/v1/sessions/revoke", post(revoke_sessions)),
        ("/service/v1/sessions/verify", post(verify_token)),
        ("/service/v1/introspect", post(introspect)),
        ("/service/v1/sessions/{id}", get(get_session).patch(edit_session).delete(revoke_session)),
        ("/service/v1/sessions/{id}/activity", post(record_activity)),
        ("/service/v1/sessions/{id}/rotate", post(rotate_token)),
        ("/service/v1/nodes", get(list_nodes)),
        ("/service/v1/events", get(list_events)),
        ("/service/v1/events/stream", get(stream_events)),
        (
            "/service/v1/users/{user_id}/sessions",
            get(list_user_sessions).delete(revoke_all_user_sessions),
        ),
    ]
}

/// Returns the routes without a key.
fn open_routes() -> [(&'static str, MethodRouter<ServiceState>); 3] {
    use health::{livez, readyz, render_metrics};
    [("/livez", get(livez)), ("/readyz", get(readyz)), ("/metrics", get(render_metrics))]
}

/// Returns the paths of the service listener behind a service key, with `{id}` or `{user_id}` where
/// an id stands.
pub fn paths() -> Vec<&'static str> {
    routes().map(|(path, _)| path).to_vec()
}

/// Returns the paths of the service listener without a key.
pub fn open_paths() -> Vec<&'static str> {
    open_routes().map(|(path, _)| path).to_vec()
}

/// Returns the paths of the console: a page and its files, without a key.
pub fn console_paths() -> Vec<&'static str> {
    console::routes().map(|(path, _)| path).to_vec()
}

/// Returns the router of the service listener.
pub fn router(state: ServiceState) -> Router {
    let router = work::layer(with_routes(routes()), state.clone())
        .merge(with_routes(open_routes()))
        .merge(with_routes(console::routes()))
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state);
    observe::layer(router, ServiceState::LISTENER, RequestIds::OfCallers)
}

async fn no_such_route(uri: Uri) -> Problem {
    no_route(&uri, &["/api/"], "server.listen")
}
