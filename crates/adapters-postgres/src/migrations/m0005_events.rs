use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0005_events"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(drop)
    }
}

/// The outbox. Triggers write it, so that whoever changes a session, by whatever statement, writes its event in the same
/// transaction.
///
/// Positions are given on reading, to what is committed then, under the lock of the counter's row: a reader that goes on from the
/// last position it saw misses nothing, which numbers taken before the commit could not promise.
const SQL: &str = "
CREATE TABLE session_events (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    position    bigint      UNIQUE,
    kind        text        NOT NULL CHECK (char_length(kind) <= 16),
    at          timestamptz NOT NULL,
    session_id  uuid        NOT NULL,
    user_id     uuid        NOT NULL,
    reason      text,
    actor       text,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX session_events_without_position ON session_events (id) WHERE position IS NULL;
CREATE INDEX session_events_by_session ON session_events (session_id);
CREATE INDEX session_events_by_user ON session_events (user_id, position);
COMMENT ON COLUMN session_events.position IS 'place in the feed; given when the feed is next read';

CREATE TABLE session_event_counter (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    last    bigint  NOT NULL
);
INSERT INTO session_event_counter (last) VALUES (0);

CREATE FUNCTION sessiond_record_insertions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO session_events (kind, at, session_id, user_id)
    SELECT 'created', created_at, id, user_id FROM inserted ORDER BY id;
    INSERT INTO session_events (kind, at, session_id, user_id, reason, actor)
    SELECT 'revoked', revoked_at, id, user_id, revoked_reason, revoked_by FROM inserted
    WHERE revoked_at IS NOT NULL ORDER BY id;
    RETURN NULL;
END
$$;
CREATE TRIGGER sessions_record_insertions AFTER INSERT ON sessions
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION sessiond_record_insertions();

CREATE FUNCTION sessiond_record_updates() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO session_events (kind, at, session_id, user_id, reason, actor)
    SELECT kind, moment, after.id, after.user_id, why, who
    FROM updated AS after JOIN previous AS before USING (id), LATERAL (
        SELECT CASE WHEN after.revoked_by = 'system' AND after.revoked_reason = 'session_limit' THEN 'evicted' ELSE 'revoked' END,
            after.revoked_at, after.revoked_reason, after.revoked_by
            WHERE before.revoked_at IS NULL AND after.revoked_at IS NOT NULL
        UNION ALL
        SELECT 'expired', after.expired_at, CASE WHEN after.expired_at >= after.expires_at THEN 'lifetime' ELSE 'idle_timeout' END,
            'system' WHERE before.expired_at IS NULL AND after.expired_at IS NOT NULL
        UNION ALL
        SELECT 'renewed', after.last_activity_at, NULL, NULL WHERE after.expires_at > before.expires_at
    ) AS change (kind, moment, why, who)
    ORDER BY after.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER sessions_record_updates AFTER UPDATE ON sessions
    REFERENCING OLD TABLE AS previous NEW TABLE AS updated
    FOR EACH STATEMENT EXECUTE FUNCTION sessiond_record_updates();

CREATE FUNCTION sessiond_number_events_v1(max bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    base  bigint;
    count bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM session_events WHERE position IS NULL) THEN
        RETURN 0;
    END IF;
    -- The statements after this one see what whoever had the lock before has done.
    SELECT last INTO base FROM session_event_counter FOR UPDATE;
    WITH batch AS (
        SELECT id, row_number() OVER (ORDER BY id) AS n
        FROM (SELECT id FROM session_events WHERE position IS NULL ORDER BY id LIMIT max FOR UPDATE) AS oldest
    )
    UPDATE session_events SET position = base + n FROM batch WHERE session_events.id = batch.id;
    GET DIAGNOSTICS count = ROW_COUNT;
    UPDATE session_event_counter SET last = base + count;
    RETURN count;
END
$$;

UPDATE sessiond_schema SET version = 5;
";
