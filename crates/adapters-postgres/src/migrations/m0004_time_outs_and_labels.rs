use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0004_time_outs_and_labels"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(drop)
    }
}

/// Rest, renewal, what is told of the device, what people keep with a session, and the end of its time.
///
/// `ends_at` is a column, so that statements and indexes see the same end as `Session::ends_at`, also where a row is changed by
/// hand. Its function may say that it is immutable: an interval of microseconds has nothing to do with a time zone. Each ended
/// session is in exactly one of the two indexes that cleaning up goes by, and live ones cost them nothing but their `ends_at`.
const SQL: &str = "
CREATE FUNCTION sessiond_ends_at(expires_at timestamptz, last_activity_at timestamptz, idle_timeout bigint)
RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT LEAST(expires_at, last_activity_at + idle_timeout * interval '1 microsecond')
$$;

ALTER TABLE sessions
    ADD COLUMN browser         text   CHECK (char_length(browser) <= 64),
    ADD COLUMN system          text   CHECK (char_length(system) <= 64),
    ADD COLUMN device_type     text   CHECK (char_length(device_type) <= 16),
    ADD COLUMN idle_timeout    bigint CHECK (idle_timeout > 0),
    ADD COLUMN renewal         bigint CHECK (renewal > 0),
    ADD COLUMN metadata        jsonb  CHECK (jsonb_typeof(metadata) = 'object'),
    ADD COLUMN idempotency_key text   CHECK (char_length(idempotency_key) <= 255),
    ADD COLUMN expired_at      timestamptz,
    ADD COLUMN ends_at         timestamptz NOT NULL
        GENERATED ALWAYS AS (sessiond_ends_at(expires_at, last_activity_at, idle_timeout)) STORED;
COMMENT ON COLUMN sessions.idle_timeout IS 'microseconds';
COMMENT ON COLUMN sessions.renewal IS 'microseconds';
COMMENT ON COLUMN sessions.expired_at IS 'that the end of its time was noted: ends_at, as it was then';

CREATE UNIQUE INDEX sessions_by_idempotency_key ON sessions (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX sessions_to_note ON sessions (ends_at) WHERE revoked_at IS NULL AND expired_at IS NULL;
CREATE INDEX sessions_to_delete ON sessions (coalesce(revoked_at, expired_at))
    WHERE revoked_at IS NOT NULL OR expired_at IS NOT NULL;

CREATE FUNCTION sessiond_make_room_v2(
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
    SELECT count(*) INTO live FROM sessions WHERE user_id = owner AND revoked_at IS NULL AND ends_at > at;
    IF live < max_live THEN
        RETURN '{}';
    ELSIF deny THEN
        RETURN NULL;
    END IF;
    -- Locks by ascending id, as everybody does.
    PERFORM FROM sessions WHERE user_id = owner AND revoked_at IS NULL AND ends_at > at ORDER BY id FOR NO KEY UPDATE;
    WITH oldest AS (
        SELECT id FROM sessions WHERE user_id = owner AND revoked_at IS NULL AND ends_at > at
        ORDER BY created_at, id LIMIT live - max_live + 1
    ), evicted AS (
        UPDATE sessions SET revoked_at = at, revoked_reason = reason, revoked_by = actor
        FROM oldest WHERE sessions.id = oldest.id AND sessions.revoked_at IS NULL
        RETURNING sessions.id, sessions.created_at
    )
    SELECT array_agg(id ORDER BY created_at, id) INTO ended FROM evicted;
    RETURN coalesce(ended, '{}');
END
$$;

UPDATE sessiond_schema SET version = 4;
";
