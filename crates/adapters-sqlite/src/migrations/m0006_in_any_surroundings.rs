//! What is true of sessions is true of changes by direct SQL, in any surroundings.

use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0006_in_any_surroundings"
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

/// What is true of sessions is true of changes by direct SQL as well: an id is final, and a session whose life is extended after
/// it had expired is not cleaned up while it is live.
const SQL: &str = "
CREATE TRIGGER sessions_refuse_new_id BEFORE UPDATE OF id ON sessions
WHEN NEW.id IS NOT OLD.id
BEGIN
    SELECT RAISE(ABORT, 'the id of a session is final');
END;

CREATE TRIGGER sessions_revive AFTER UPDATE OF expires_at, last_activity_at, idle_timeout ON sessions
WHEN OLD.expired_at IS NOT NULL AND NEW.expired_at IS NOT NULL
    AND min(NEW.expires_at, coalesce(NEW.last_activity_at + NEW.idle_timeout, NEW.expires_at))
        > min(OLD.expires_at, coalesce(OLD.last_activity_at + OLD.idle_timeout, OLD.expires_at))
BEGIN
    UPDATE sessions SET expired_at = NULL WHERE id = NEW.id;
END;

UPDATE sessiond_schema SET version = 6;
";
