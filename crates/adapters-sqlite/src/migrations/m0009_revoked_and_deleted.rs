//! An import brings back no session that was revoked and deleted.

use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0009_revoked_and_deleted"
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

/// Where retention is shorter than a lifetime, a session can be revoked and deleted while another system, of which it was imported,
/// still has it as live. Its id is kept until its own lifetime has passed.
const SQL: &str = "
CREATE TABLE revoked_and_deleted (
    id         BLOB PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX revoked_and_deleted_to_forget ON revoked_and_deleted (expires_at);

CREATE TRIGGER sessions_keep_revoked_ids AFTER DELETE ON sessions
WHEN OLD.revoked_at IS NOT NULL AND OLD.expires_at > unixepoch() * 1000000
BEGIN
    INSERT OR IGNORE INTO revoked_and_deleted (id, expires_at) VALUES (OLD.id, OLD.expires_at);
    DELETE FROM revoked_and_deleted WHERE expires_at <= unixepoch() * 1000000;
END;

CREATE TRIGGER sessions_skip_revoked_ids BEFORE INSERT ON sessions
WHEN EXISTS (SELECT 1 FROM revoked_and_deleted WHERE id = NEW.id)
BEGIN
    SELECT RAISE(IGNORE);
END;

UPDATE sessiond_schema SET version = 9;
";
