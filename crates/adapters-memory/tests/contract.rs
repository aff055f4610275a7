//! The in-memory adapters keep the contracts of their ports.

use std::sync::Arc;

use adapters_memory::{
    MemoryDatabase, MemoryEventOutbox, MemorySessionCache, MemorySessionRepository, MemorySessionRetention,
};
use testkit::conformance::Stores;

testkit::session_repository_contract!(async { ((), Arc::new(MemorySessionRepository::default())) });

fn stores() -> Arc<Stores> {
    let database = MemoryDatabase::default();
    Arc::new(Stores {
        sessions: Arc::new(MemorySessionRepository::new(database.clone())),
        events: Arc::new(MemoryEventOutbox::new(database.clone())),
        retention: Arc::new(MemorySessionRetention::new(database)),
    })
}

testkit::event_outbox_contract!(async { ((), stores()) });

testkit::session_retention_contract!(async { ((), stores()) });

testkit::session_cache_contract!(async { ((), Arc::new(MemorySessionCache::new(100, testkit::fixtures::clock()))) });
