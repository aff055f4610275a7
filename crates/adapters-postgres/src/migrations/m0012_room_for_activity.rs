//! Writing activity touches no index.

use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0012_room_for_activity"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(drop)
    }
}

/// With an idle time-out each activity changes `ends_at`. While that was indexed, no update was HOT (heap-only): each wrote four
/// indexes. The hour in which a session ends changes once an hour. Pages keep some room, and vacuum comes before a fifth of the table
/// is dead.
///
/// The function may say that it is immutable: seconds since the epoch have nothing to do with a time zone.
const SQL: &str = "
CREATE FUNCTION sessiond_ends_hour(expires_at timestamptz, last_activity_at timestamptz, idle_timeout bigint)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT floor(extract(epoch FROM LEAST(expires_at, last_activity_at + idle_timeout * interval '1 microsecond')) / 3600)::bigint
$$;
ALTER TABLE sessions ADD COLUMN ends_hour bigint NOT NULL
    GENERATED ALWAYS AS (sessiond_ends_hour(expires_at, last_activity_at, idle_timeout)) STORED;
COMMENT ON COLUMN sessions.ends_hour IS 'the hour of ends_at, in hours since 1970: indexed instead of it, so that activity changes no index';
DROP INDEX sessions_to_note;
CREATE INDEX sessions_to_mark ON sessions (ends_hour) WHERE revoked_at IS NULL AND expired_at IS NULL;

ALTER TABLE sessions SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.01);
ALTER TABLE session_event_counter SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

UPDATE sessiond_schema SET version = 12;
";
