use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0001_create_sessions"
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

/// Ids are 16 bytes; times are whole microseconds since 1970, which compare as numbers; addresses are text.
const SQL: &str = "
CREATE TABLE sessiond_schema (
    one_row     INTEGER PRIMARY KEY DEFAULT 1 CHECK (one_row = 1),
    version     INTEGER NOT NULL,
    oldest_able INTEGER NOT NULL
) STRICT;
INSERT INTO sessiond_schema (version, oldest_able) VALUES (1, 1);

CREATE TABLE sessions (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id          BLOB    NOT NULL CHECK (length(user_id) = 16),
    device_info      TEXT    CHECK (length(device_info) <= 255),
    user_agent       TEXT    CHECK (length(CAST(user_agent AS BLOB)) <= 512),
    ip_address       TEXT,
    last_ip_address  TEXT,
    location         TEXT    CHECK (length(location) <= 255),
    name             TEXT    CHECK (length(name) <= 64),
    created_at       INTEGER NOT NULL,
    last_activity_at INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    revoked_at       INTEGER,
    revoked_reason   TEXT    CHECK (length(revoked_reason) <= 255),
    CHECK (expires_at > created_at),
    CHECK (revoked_reason IS NULL OR revoked_at IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_user ON sessions (user_id, created_at DESC, id DESC);
";
