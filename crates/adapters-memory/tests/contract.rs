//! The in-memory adapters keep the contracts of their ports.

use std::sync::Arc;

use adapters_memory::{MemorySessionCache, MemorySessionRepository};

testkit::session_repository_contract!(async { ((), Arc::new(MemorySessionRepository::default())) });

testkit::session_cache_contract!(async { ((), Arc::new(MemorySessionCache::new(100, testkit::fixtures::clock()))) });
