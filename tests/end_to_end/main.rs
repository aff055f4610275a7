//! The built binary, driven as its users drive it: over HTTP, from the command line, on real
//! servers.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

mod activity;
mod bad_input;
mod coherence;
mod demo;
mod edge;
mod embedded;
mod events;
mod gateways;
mod keys;
mod lifecycle;
mod nodes;
mod openssl;
mod pgbouncer;
mod production;
mod proxies;
mod retention;
mod shutdown;
mod slow_clients;
mod tokens;
