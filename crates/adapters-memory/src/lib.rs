//! Ports in the memory of this process: the near cache, and a store for tests.
//!
//! The shortest template for an adapter: copy this crate, keep `tests/contract.rs`, and replace what is behind the trait.

mod memory_database;
mod memory_event_outbox;
mod memory_revocation_feed;
mod memory_session_cache;
mod memory_session_repository;
mod memory_session_retention;

pub use memory_database::{MemoryBackup, MemoryDatabase};
pub use memory_event_outbox::MemoryEventOutbox;
pub use memory_revocation_feed::{MemoryNodes, MemoryRevocationFeed};
pub use memory_session_cache::MemorySessionCache;
pub use memory_session_repository::MemorySessionRepository;
pub use memory_session_retention::MemorySessionRetention;
