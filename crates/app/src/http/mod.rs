//! The HTTP interface: two listeners, one router each.
//!
//! - [`public`]: the routes of end users. A handler takes `LiveCaller`.
//! - [`openapi`]: the description of all routes.
//! - [`gateway`]: the routes of gateways, which present the credentials of end users.
//! - [`service`]: the routes of backends and operators, behind a service key.
//! - `middleware`: authentication, limits, deadlines, request ids, metrics.
//! - `server`: listener, connections, time-outs. It serves any router.
//! - `wire`: bodies, parameters, problems, client addresses.
//!
//! Rooms import downward: `openapi`, `gateway`, `public` and `service`, `middleware`, `wire`;
//! `server` only `wire`. To add a route: its handler in the room of its audience, and one line in
//! the routes of that room's `mod.rs`.

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

/// Makes counters appear before anything has happened: alerts on rates see nothing else.
pub fn initialise_metrics() {
    middleware::limits::initialise_metrics();
    wire::session_body::initialise_metrics();
    for listener in ["public", "service"] {
        middleware::work::deadlines_missed(listener).increment(0);
    }
}
