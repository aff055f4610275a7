//! The SQLite adapters keep the contracts of their ports.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::sync::Arc;

use adapters_sqlite::{
    DatabaseFile, SqliteDatabase, SqliteEventOutbox, SqliteNodeDirectory, SqliteRevocationFeed,
    SqliteSessionRepository, SqliteSessionRetention,
};
use testkit::TemporaryDir;
use testkit::conformance::Stores;

async fn database() -> (TemporaryDir, Arc<SqliteDatabase>) {
    let dir = TemporaryDir::new();
    let file =
        DatabaseFile::lock(&format!("sqlite://{}", dir.path().join("sessions.db").display()))
            .unwrap();
    (dir, Arc::new(SqliteDatabase::open(file, 2).await.unwrap()))
}

async fn repository() -> (TemporaryDir, Arc<SqliteSessionRepository>) {
    let (guard, database) = database().await;
    (guard, Arc::new(SqliteSessionRepository::new(database)))
}

async fn stores() -> (TemporaryDir, Arc<Stores>) {
    let (guard, database) = database().await;
    let stores = Stores {
        sessions: Arc::new(SqliteSessionRepository::new(database.clone())),
        events: Arc::new(SqliteEventOutbox::new(database.clone())),
        retention: Arc::new(SqliteSessionRetention::new(database.clone())),
        feed: Arc::new(SqliteRevocationFeed::new(database)),
    };
    (guard, Arc::new(stores))
}

testkit::session_repository_contract!(repository());

testkit::event_outbox_contract!(stores());

testkit::revocation_feed_contract!(stores());

testkit::session_retention_contract!(stores());

testkit::node_directory_contract!(async { ((), Arc::new(SqliteNodeDirectory::default())) });
