//! The PostgreSQL adapters keep the contracts of their ports.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::sync::Arc;

use adapters_postgres::{
    Options, PostgresDatabase, PostgresEventOutbox, PostgresNodeDirectory, PostgresRevocationFeed,
    PostgresSessionRepository, PostgresSessionRetention,
};
use testkit::conformance::{Stores, TwoNodes};
use testkit::servers::{PostgresServer, TestDatabase};
use uuid::Uuid;

async fn database() -> (TestDatabase, Arc<PostgresDatabase>) {
    let database = PostgresServer::shared().database();
    let open = PostgresDatabase::open(Options::to(&database.url(), 4)).await.unwrap();
    (database, Arc::new(open))
}

async fn repository() -> (TestDatabase, Arc<PostgresSessionRepository>) {
    let (guard, database) = database().await;
    (guard, Arc::new(PostgresSessionRepository::new(database)))
}

async fn two_nodes() -> (TestDatabase, Arc<TwoNodes>) {
    let (guard, database) = database().await;
    let second = feed(&guard, &database, 2).await;
    let stores = stores_on(&guard, database).await;
    (guard, Arc::new(TwoNodes { stores, other_feed: second }))
}

async fn stores() -> (TestDatabase, Arc<Stores>) {
    let (guard, database) = database().await;
    let stores = stores_on(&guard, database).await;
    (guard, Arc::new(stores))
}

async fn stores_on(guard: &TestDatabase, database: Arc<PostgresDatabase>) -> Stores {
    Stores {
        feed: feed(guard, &database, 1).await,
        sessions: Arc::new(PostgresSessionRepository::new(database.clone())),
        events: Arc::new(PostgresEventOutbox::new(database.clone())),
        retention: Arc::new(PostgresSessionRetention::new(database)),
    }
}

async fn feed(
    guard: &TestDatabase,
    database: &Arc<PostgresDatabase>,
    node: u128,
) -> Arc<PostgresRevocationFeed> {
    Arc::new(
        PostgresRevocationFeed::open(database.clone(), &guard.url(), Uuid::from_u128(node))
            .await
            .unwrap(),
    )
}

testkit::session_repository_contract!(repository());

testkit::event_outbox_contract!(stores());

testkit::revocation_feed_contract!(stores());

testkit::revocation_feed_of_two_nodes_contract!(two_nodes());

testkit::session_retention_contract!(stores());

testkit::node_directory_contract!(async {
    let (guard, database) = database().await;
    (guard, Arc::new(PostgresNodeDirectory::new(database)))
});
