//! The ports of the in-memory store keep the contracts of their ports.

use std::sync::Arc;

use testkit::conformance::{Stores, TwoNodes};
use testkit::memory::{
    MemoryDatabase, MemoryEventOutbox, MemoryNodes, MemoryRevocationFeed, MemorySessionRepository,
    MemorySessionRetention,
};
use uuid::Uuid;

testkit::session_repository_contract!(async { ((), Arc::new(MemorySessionRepository::default())) });

fn two_nodes() -> TwoNodes {
    let database = MemoryDatabase::default();
    let nodes = MemoryNodes::default();
    let feed = |node| {
        Arc::new(MemoryRevocationFeed::new(database.clone(), nodes.clone(), Uuid::from_u128(node)))
    };
    let stores = Stores {
        sessions: Arc::new(MemorySessionRepository::new(database.clone())),
        events: Arc::new(MemoryEventOutbox::new(database.clone())),
        retention: Arc::new(MemorySessionRetention::new(database.clone())),
        feed: feed(1),
    };
    TwoNodes { stores, other_feed: feed(2) }
}

fn stores() -> Arc<Stores> {
    Arc::new(two_nodes().stores)
}

testkit::event_outbox_contract!(async { ((), stores()) });

testkit::revocation_feed_contract!(async { ((), stores()) });

testkit::revocation_feed_of_two_nodes_contract!(async { ((), Arc::new(two_nodes())) });

testkit::session_retention_contract!(async { ((), stores()) });
