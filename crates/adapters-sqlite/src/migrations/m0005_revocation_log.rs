use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0005_revocation_log"
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

/// What this process has to know before it answers what it remembers (`docs/coherence.md`), written by triggers in the transaction of
/// the change.
const SQL: &str = "
CREATE TABLE revocation_log (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id  BLOB    NOT NULL,
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

CREATE TABLE sessiond_secret (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL CHECK (length(value) = 32)
) STRICT;
INSERT INTO sessiond_secret (name, value) VALUES ('cache', randomblob(32));

UPDATE sessiond_schema SET version = 5;
";
