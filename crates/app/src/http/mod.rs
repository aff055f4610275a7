//! The HTTP interface: the routers of two listeners. The service listener serves three of them:
//! [`service`], [`gateway`] and [`openapi`].
//!
//! - [`public`]: the routes of end users. A handler takes `LiveCaller`.
//! - [`openapi`]: the description of all routes.
//! - [`gateway`]: the routes of gateways, which present the credentials of end users.
//! - [`service`]: the routes of backends and operators, behind a service key.
//! - `middleware`: limits, deadlines, request ids, metrics. Callers are authenticated in the room
//!   of their audience (`public/authentication.rs`, `service/authentication.rs`).
//! - `server`: listener, connections, time-outs. It serves any router.
//! - `wire`: bodies, parameters, problems, client addresses.
//!
//! Rooms import downward: `openapi`, `gateway`, `public` and `service`, `middleware`, `wire`;
//! `server` only `wire`. To add a route: its handler in the room of its audience, an entry in
//! `routes()` of that room's `mod.rs`, and one in the list of paths of its description there.

pub mod gateway;
pub(crate) mod middleware;
pub mod openapi;
pub mod public;
pub(crate) mod server;
pub mod service;
pub(crate) mod wire;

pub use middleware::limits::Limits;
pub use server::admission::ConnectionSettings;
pub use server::listener::{DRAIN_TIMEOUT, Lifecycle, serve};
pub use wire::client_address::PeerAddress;
pub(crate) use wire::session_cookie::set_cookie;

/// Makes counters appear before anything has happened: alerts on rates see nothing else.
pub fn initialise_metrics() {
    middleware::limits::initialise_metrics();
    wire::session_body::initialise_metrics();
    for listener in ["public", "service"] {
        middleware::work::deadlines_missed(listener).increment(0);
    }
}
