use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0003_time_outs_and_labels"
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

/// Rest, renewal, what is told of the device, what people keep with a session, and the end of its time: `ends_at` is what
/// `Session::ends_at` is, for statements and indexes.
const SQL: &str = "
ALTER TABLE sessions ADD COLUMN browser TEXT CHECK (length(browser) <= 64);
ALTER TABLE sessions ADD COLUMN system TEXT CHECK (length(system) <= 64);
ALTER TABLE sessions ADD COLUMN device_type TEXT CHECK (length(device_type) <= 16);
ALTER TABLE sessions ADD COLUMN idle_timeout INTEGER CHECK (idle_timeout > 0);
ALTER TABLE sessions ADD COLUMN renewal INTEGER CHECK (renewal > 0);
ALTER TABLE sessions ADD COLUMN metadata TEXT CHECK (json_type(metadata) = 'object');
ALTER TABLE sessions ADD COLUMN idempotency_key TEXT CHECK (length(idempotency_key) <= 255);
ALTER TABLE sessions ADD COLUMN expired_at INTEGER;
ALTER TABLE sessions ADD COLUMN ends_at INTEGER
    GENERATED ALWAYS AS (min(expires_at, coalesce(last_activity_at + idle_timeout, expires_at))) VIRTUAL;

CREATE UNIQUE INDEX sessions_by_idempotency_key ON sessions (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX sessions_to_note ON sessions (ends_at) WHERE revoked_at IS NULL AND expired_at IS NULL;
CREATE INDEX sessions_to_delete ON sessions (coalesce(revoked_at, expired_at))
    WHERE revoked_at IS NOT NULL OR expired_at IS NOT NULL;

UPDATE sessiond_schema SET version = 3;
";
