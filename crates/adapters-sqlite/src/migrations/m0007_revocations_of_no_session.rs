//! Revocations of a user's sessions, and of all users', that match no session.

use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0007_revocations_of_no_session"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(drop)
    }

    /// sea-orm-migration would wrap it for PostgreSQL only.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// The log has entries about a user and about all users: caches may hold what the table no longer has. What it had is of no use: each
/// time that the file is opened a life begins.
const SQL: &str = "
DROP TRIGGER sessions_log_update;
DROP TRIGGER sessions_log_deletion;
DROP TABLE revocation_log;

CREATE TABLE revocation_log (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id  BLOB,
    user_id     BLOB,
    recorded_at INTEGER NOT NULL DEFAULT (unixepoch())
) STRICT;

CREATE TRIGGER sessions_log_update AFTER UPDATE ON sessions
WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL) OR NEW.user_id <> OLD.user_id
    OR min(NEW.expires_at, coalesce(NEW.last_activity_at + NEW.idle_timeout, NEW.expires_at))
        < min(OLD.expires_at, coalesce(OLD.last_activity_at + OLD.idle_timeout, OLD.expires_at))
BEGIN
    INSERT INTO revocation_log (session_id) VALUES (OLD.id);
END;

CREATE TRIGGER sessions_log_deletion AFTER DELETE ON sessions
WHEN OLD.revoked_at IS NULL AND OLD.expired_at IS NULL
BEGIN
    INSERT INTO revocation_log (session_id) VALUES (OLD.id);
END;

UPDATE sessiond_schema SET version = 7;
";
