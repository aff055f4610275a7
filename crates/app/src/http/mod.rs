//! The HTTP interface: two listeners, one router each, and the errors they share.
//!
//! To add a route: its handler in `sessions.rs` (public) or `service.rs`, one line in the routes there. A public handler
//! takes `auth::LiveCaller`; the routes under `/service` are behind the service key already.

mod admission;
mod auth;
mod body;
mod client_address;
mod connection;
mod events;
mod fields;
mod health;
mod limits;
mod observe;
mod parameters;
mod problem;
mod server;
mod service;
mod session_body;
mod session_list;
mod sessions;
mod state;
mod work;

use axum::Router;
use axum::http::Uri;
use axum::routing::MethodRouter;

use self::problem::Problem;

pub use admission::ConnectionSettings;
pub use client_address::PeerAddress;
pub use events::MAX_EVENT_STREAMS;
pub use health::Health;
pub use limits::{Limits, initialise_metrics};
pub use server::{DRAIN_TIMEOUT, Lifecycle, serve};
pub use service::{open_paths as open_service_paths, paths as service_paths, router as service_router};
pub use sessions::{paths as public_paths, router as public_router};
pub use state::{PublicState, ServiceState};

/// A router of these paths.
fn with_routes<S: Clone + Send + Sync + 'static>(
    routes: impl IntoIterator<Item = (&'static str, MethodRouter<S>)>,
) -> Router<S> {
    routes.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods))
}

/// Answers a path that no route of the public listener has.
async fn no_public_route(uri: Uri) -> Problem {
    no_route(&uri, &["/service/", "/livez", "/readyz", "/metrics"], "server.service_listen")
}

/// Answers a path that no route of the service listener has.
async fn no_service_route(uri: Uri) -> Problem {
    no_route(&uri, &["/api/"], "server.listen")
}

/// A newcomer with the wrong port learns which one it is.
fn no_route(uri: &Uri, elsewhere: &[&str], setting: &str) -> Problem {
    let is_elsewhere = elsewhere.iter().any(|prefix| uri.path().starts_with(prefix));
    if is_elsewhere { Problem::on_other_listener(setting) } else { Problem::not_found() }
}

/// Answers a method that a path does not have.
async fn method_not_allowed() -> Problem {
    Problem::method_not_allowed()
}
