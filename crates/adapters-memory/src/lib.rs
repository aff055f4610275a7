//! Ports in the memory of this process: the near cache, and a repository for tests.
//!
//! The shortest template for an adapter: copy this crate, keep `tests/contract.rs`, and replace what is behind the trait.

mod memory_session_cache;
mod memory_session_repository;

pub use memory_session_cache::MemorySessionCache;
pub use memory_session_repository::MemorySessionRepository;
