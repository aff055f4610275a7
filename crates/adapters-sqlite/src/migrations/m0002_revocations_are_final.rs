use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0002_revocations_are_final"
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

/// The database itself refuses to take back or rewrite a revocation, whoever asks for it.
const SQL: &str = "
ALTER TABLE sessions ADD COLUMN revoked_by TEXT
    CHECK (length(revoked_by) <= 64) CHECK (revoked_by IS NULL OR revoked_at IS NOT NULL);

CREATE TRIGGER sessions_refuse_unrevoke BEFORE UPDATE ON sessions
WHEN OLD.revoked_at IS NOT NULL AND (NEW.revoked_at IS NOT OLD.revoked_at
    OR NEW.revoked_reason IS NOT OLD.revoked_reason OR NEW.revoked_by IS NOT OLD.revoked_by)
BEGIN
    SELECT RAISE(ABORT, 'a revocation is final');
END;

UPDATE sessiond_schema SET version = 2;
";
