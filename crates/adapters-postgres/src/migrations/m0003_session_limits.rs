use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0003_session_limits"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(drop)
    }
}

/// Making room is a function, so that a sign-in within a limit is one statement: nothing that a cancelled request, or a pooler's
/// change of connection, could leave half done. Each statement inside sees what is committed when it begins, so whoever waited
/// for the lock sees what its holder did. A later release with another idea makes a `_v2` beside it.
const SQL: &str = "
CREATE FUNCTION sessiond_make_room_v1(
    owner uuid, at timestamptz, max_live integer, deny boolean, reason text, actor text
) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    live  integer;
    ended uuid[];
BEGIN
    IF max_live IS NULL THEN
        RETURN '{}';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('sessiond user ' || owner, 0));
    SELECT count(*) INTO live FROM sessions WHERE user_id = owner AND revoked_at IS NULL AND expires_at > at;
    IF live < max_live THEN
        RETURN '{}';
    ELSIF deny THEN
        RETURN NULL;
    END IF;
    WITH oldest AS (
        SELECT id FROM sessions WHERE user_id = owner AND revoked_at IS NULL AND expires_at > at
        ORDER BY created_at, id LIMIT live - max_live + 1 FOR UPDATE
    ), evicted AS (
        UPDATE sessions SET revoked_at = at, revoked_reason = reason, revoked_by = actor
        FROM oldest WHERE sessions.id = oldest.id AND sessions.revoked_at IS NULL
        RETURNING sessions.id, sessions.created_at
    )
    SELECT array_agg(id ORDER BY created_at, id) INTO ended FROM evicted;
    RETURN coalesce(ended, '{}');
END
$$;

UPDATE sessiond_schema SET version = 3;
";
