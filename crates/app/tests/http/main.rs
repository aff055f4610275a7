//! The real routers over in-memory ports: what users of the HTTP interface can rely on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod allocations;
mod devices;
mod fixture;
mod gateways;
mod input;
mod lifecycle;
mod nodes;
mod openapi;
mod public;
mod routes;
mod search;
mod service;
mod tokens;
mod watch;
