//! The HTTP interface: two listeners, one router each, and the errors they share.
//!
//! To add a route: its handler in `sessions.rs` (public) or `service.rs`, one line in the routes there. A public handler
//! takes `auth::LiveCaller`; the routes under `/service` are behind the service key already.

mod auth;
mod client_address;
mod connection;
mod events;
mod extract;
mod health;
mod observe;
mod problem;
mod server;
mod service;
mod session_body;
mod session_list;
mod sessions;
mod state;

use axum::Router;
use axum::routing::MethodRouter;

pub use events::MAX_EVENT_STREAMS;
pub use health::Health;
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
