//! What is true of sessions is true of changes by direct SQL, in any surroundings.

use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0010_in_any_surroundings"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(drop)
    }
}

/// What is true of sessions is true in any surroundings: with another `search_path` (psql, a restore, a second schema), with
/// `session_replication_role = replica`, with an id that is changed, with a session whose life is extended after it had expired.
///
/// `sessiond_ends_at` names no table, and without settings of its own PostgreSQL can inline it.
const SQL: &str = "
CREATE FUNCTION sessiond_refuse_new_id() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the id of a session is final' USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER sessions_refuse_new_id BEFORE UPDATE OF id ON sessions
    FOR EACH ROW WHEN (NEW.id <> OLD.id) EXECUTE FUNCTION sessiond_refuse_new_id();

CREATE FUNCTION sessiond_revive() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF sessiond_ends_at(NEW.expires_at, NEW.last_activity_at, NEW.idle_timeout) > OLD.ends_at THEN
        NEW.expired_at := NULL;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER sessions_revive BEFORE UPDATE OF expires_at, last_activity_at, idle_timeout ON sessions
    FOR EACH ROW WHEN (OLD.expired_at IS NOT NULL) EXECUTE FUNCTION sessiond_revive();
COMMENT ON FUNCTION sessiond_revive() IS 'a session whose life is extended after it had expired is not cleaned up while it is live';

DO $$
DECLARE
    function regprocedure;
    name     text;
BEGIN
    FOR function IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'sessiond\\_%' AND proname <> 'sessiond_ends_at'
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', function, current_schema());
    END LOOP;
    FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'sessions'::regclass AND NOT tgisinternal LOOP
        EXECUTE format('ALTER TABLE sessions ENABLE ALWAYS TRIGGER %I', name);
    END LOOP;
END
$$;

UPDATE sessiond_schema SET version = 10;
";
