//! The near cache: sessions in the memory of this process.

mod near_cache;

pub use near_cache::MemorySessionCache;
