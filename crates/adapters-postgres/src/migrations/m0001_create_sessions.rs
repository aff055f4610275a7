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
}

/// `oldest_able` is what makes rolling upgrades safe: a migration that an older binary can live with leaves it alone.
/// Infinite times are refused because no client can represent them.
const SQL: &str = "
CREATE TABLE sessiond_schema (
    one_row     boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    version     integer NOT NULL,
    oldest_able integer NOT NULL
);
COMMENT ON TABLE sessiond_schema IS 'version: what is here; oldest_able: the oldest schema version a sessiond must know to work with it';
INSERT INTO sessiond_schema (version, oldest_able) VALUES (1, 1);

CREATE TABLE sessions (
    id               uuid        PRIMARY KEY,
    user_id          uuid        NOT NULL,
    device_info      text        CHECK (char_length(device_info) <= 255),
    user_agent       text        CHECK (octet_length(user_agent) <= 512),
    ip_address       inet,
    last_ip_address  inet,
    location         text        CHECK (char_length(location) <= 255),
    name             text        CHECK (char_length(name) <= 64),
    created_at       timestamptz NOT NULL CHECK (isfinite(created_at)),
    last_activity_at timestamptz NOT NULL CHECK (isfinite(last_activity_at)),
    expires_at       timestamptz NOT NULL CHECK (isfinite(expires_at)),
    revoked_at       timestamptz          CHECK (isfinite(revoked_at)),
    revoked_reason   text        CHECK (char_length(revoked_reason) <= 255),
    CHECK (expires_at > created_at),
    CHECK (revoked_reason IS NULL OR revoked_at IS NOT NULL)
);
CREATE INDEX sessions_by_user ON sessions (user_id, created_at DESC, id DESC);
";
