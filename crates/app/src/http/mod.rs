//! The HTTP interface: two listeners, one router each, and the errors they share.
//!
//! To add a route: its handler in `sessions.rs` (public) or `service.rs`, one line in the router there. A public handler
//! takes [`auth::LiveCaller`]; the routes under `/service` are behind the service key already.

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

pub use events::MAX_EVENT_STREAMS;
pub use health::Health;
pub use server::{DRAIN_TIMEOUT, Lifecycle, serve};
pub use service::router as service_router;
pub use sessions::router as public_router;
pub use state::{PublicState, ServiceState};
