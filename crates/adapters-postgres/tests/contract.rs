//! The PostgreSQL repository keeps the contract of its port.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::sync::Arc;

use adapters_postgres::PostgresSessionRepository;
use testkit::servers::{PostgresServer, TestDatabase};

async fn repository() -> (TestDatabase, Arc<PostgresSessionRepository>) {
    let database = PostgresServer::shared().database();
    let repository = PostgresSessionRepository::open(&database.url(), 4).await.unwrap();
    (database, Arc::new(repository))
}

testkit::session_repository_contract!(repository());
