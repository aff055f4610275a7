//! The ports of a store in the memory of this process, for tests that need no database.
//!
//! The shortest template for an adapter of a store: copy this folder, keep `tests/memory.rs`, and
//! replace what is behind the traits.

mod database;
mod event_outbox;
mod revocation_feed;
mod session_repository;
mod session_retention;

pub use database::{MemoryBackup, MemoryDatabase};
pub use event_outbox::MemoryEventOutbox;
pub use revocation_feed::{MemoryNodes, MemoryRevocationFeed};
pub use session_repository::MemorySessionRepository;
pub use session_retention::MemorySessionRetention;
