//! [`SessionCache`](domain::ports::SessionCache) on Redis or Valkey by fred: a single server,
//! Sentinel or Cluster, with or without TLS, as the URL says.
//!
//! Only `GET`, `MGET`, `SET PX` and `UNLINK` are used. Redis is an untrusted and unreliable store
//! of values: every response is checked, and no failure costs a request more than some milliseconds
//! at most ([`RedisSessionCache`]).

mod batched_gets;
pub mod cached_value;
mod circuit_breaker;
mod commands;
mod connection;
mod session_cache;

pub use connection::{OpenError, Rights};
pub use session_cache::RedisSessionCache;
