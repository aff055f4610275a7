//! Ports in the memory of this process: the near cache, and a store for tests.
//!
//! The shortest template for an adapter: copy this crate, keep `tests/contract.rs`, and replace
//! what is behind the trait.

mod database;
mod event_outbox;
mod near_cache;
mod revocation_feed;
mod session_repository;
mod session_retention;

pub use database::{MemoryBackup, MemoryDatabase};
pub use event_outbox::MemoryEventOutbox;
pub use near_cache::MemorySessionCache;
pub use revocation_feed::{MemoryNodes, MemoryRevocationFeed};
pub use session_repository::MemorySessionRepository;
pub use session_retention::MemorySessionRetention;
