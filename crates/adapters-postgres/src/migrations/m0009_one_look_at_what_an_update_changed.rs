use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0009_one_look_at_what_an_update_changed"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(drop)
    }
}

/// Events and the log of ends came from two triggers, each of which compared all rows before with all rows after: one does now.
///
/// A plan for these tables is made by the first statement of a connection, which changed a row or two, and kept for the one that changes ten
/// thousand: without `enable_nestloop = off`, that one compared each row with each. Plans that avoid a nested loop look dear to PostgreSQL,
/// which must not compile them for that.
///
/// A thousand sessions of one user are one entry of the log, as ten are: only the ends of very many *users'* are one entry about everybody.
const SQL: &str = "
DROP TRIGGER sessions_record_updates ON sessions;
DROP FUNCTION sessiond_record_updates();
DROP TRIGGER sessions_log_updates ON sessions;
DROP FUNCTION sessiond_log_updates();

CREATE OR REPLACE FUNCTION sessiond_log_ends(ended uuid[], owners uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM (SELECT DISTINCT unnest(owners)) AS _) > 1000 THEN
        INSERT INTO revocation_log (session_id, user_id) VALUES (NULL, NULL);
        RETURN;
    END IF;
    INSERT INTO revocation_log (session_id, user_id)
    SELECT CASE WHEN count(*) = 1 THEN (array_agg(id))[1] END, CASE WHEN count(*) > 1 THEN owner END
    FROM unnest(ended, owners) AS _(id, owner) GROUP BY owner;
END
$$;

CREATE FUNCTION sessiond_note_updates() RETURNS trigger LANGUAGE plpgsql
SET enable_nestloop = off SET jit = off AS $$
DECLARE
    ended  uuid[];
    owners uuid[];
BEGIN
    WITH change AS MATERIALIZED (
        SELECT after.*, before.user_id AS owner,
            before.revoked_at IS NULL AND after.revoked_at IS NOT NULL AS is_revoked,
            before.expired_at IS NULL AND after.expired_at IS NOT NULL AS is_expired,
            after.expires_at > before.expires_at AS is_renewed,
            after.ends_at < before.ends_at OR after.user_id <> before.user_id AS is_cut
        FROM updated AS after JOIN previous AS before USING (id)
        WHERE (before.revoked_at IS NULL AND after.revoked_at IS NOT NULL)
            OR (before.expired_at IS NULL AND after.expired_at IS NOT NULL)
            OR after.expires_at > before.expires_at OR after.ends_at < before.ends_at OR after.user_id <> before.user_id
    ), recorded AS (
        INSERT INTO session_events (kind, at, session_id, user_id, reason, actor)
        SELECT CASE WHEN revoked_by = 'system' AND revoked_reason = 'session_limit' THEN 'evicted' ELSE 'revoked' END,
            revoked_at, id, user_id, revoked_reason, revoked_by FROM change WHERE is_revoked
        UNION ALL
        SELECT 'expired', expired_at, id, user_id, CASE WHEN expired_at >= expires_at THEN 'lifetime' ELSE 'idle_timeout' END, 'system'
            FROM change WHERE is_expired
        UNION ALL
        SELECT 'renewed', last_activity_at, id, user_id, NULL, NULL FROM change WHERE is_renewed
        ORDER BY id
    )
    SELECT array_agg(id), array_agg(owner) INTO ended, owners FROM change WHERE is_revoked OR is_cut;
    IF ended IS NOT NULL THEN
        PERFORM sessiond_log_ends(ended, owners);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER sessions_note_updates AFTER UPDATE ON sessions
    REFERENCING OLD TABLE AS previous NEW TABLE AS updated
    FOR EACH STATEMENT EXECUTE FUNCTION sessiond_note_updates();

UPDATE sessiond_schema SET version = 9;
";
