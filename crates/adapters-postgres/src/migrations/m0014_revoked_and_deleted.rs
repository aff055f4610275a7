//! An import brings back no session that was revoked and deleted.

use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0014_revoked_and_deleted"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(drop)
    }
}

/// Where retention is shorter than a lifetime, a session can be revoked and deleted while another system, of which it was imported,
/// still has it as live. Its id is kept until its own lifetime has passed.
const SQL: &str = "
CREATE TABLE revoked_and_deleted (
    id          uuid        PRIMARY KEY,
    expires_at  timestamptz NOT NULL
);
COMMENT ON TABLE revoked_and_deleted IS 'ids of sessions that were revoked, and deleted before their lifetime had passed: no import brings them back';
CREATE INDEX revoked_and_deleted_to_forget ON revoked_and_deleted (expires_at);

CREATE FUNCTION sessiond_keep_revoked_ids() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO revoked_and_deleted (id, expires_at)
        SELECT id, expires_at FROM deleted WHERE revoked_at IS NOT NULL AND expires_at > clock_timestamp()
        ON CONFLICT DO NOTHING;
    DELETE FROM revoked_and_deleted WHERE id IN (
        SELECT id FROM revoked_and_deleted WHERE expires_at <= clock_timestamp() LIMIT 1000 FOR UPDATE SKIP LOCKED
    );
    RETURN NULL;
END
$$;
CREATE TRIGGER sessions_keep_revoked_ids AFTER DELETE ON sessions REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT EXECUTE FUNCTION sessiond_keep_revoked_ids();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_keep_revoked_ids;

CREATE FUNCTION sessiond_skip_revoked_ids() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM revoked_and_deleted WHERE id = NEW.id) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER sessions_skip_revoked_ids BEFORE INSERT ON sessions
    FOR EACH ROW EXECUTE FUNCTION sessiond_skip_revoked_ids();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_skip_revoked_ids;

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION sessiond_keep_revoked_ids SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION sessiond_skip_revoked_ids SET search_path = %I, pg_temp', current_schema());
END
$$;

UPDATE sessiond_schema SET version = 14;
";
