//! The SQLite repository keeps the contract of its port.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::sync::Arc;

use adapters_sqlite::{DatabaseFile, SqliteSessionRepository};
use testkit::TemporaryDir;

async fn repository() -> (TemporaryDir, Arc<SqliteSessionRepository>) {
    let dir = TemporaryDir::new();
    let file = DatabaseFile::lock(&format!("sqlite://{}", dir.path().join("sessions.db").display())).unwrap();
    (dir, Arc::new(SqliteSessionRepository::open(file, 2).await.unwrap()))
}

testkit::session_repository_contract!(repository());
