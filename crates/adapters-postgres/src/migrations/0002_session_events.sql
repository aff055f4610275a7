-- The event outbox. Triggers write it, so that every change of a session writes its event in the
-- same transaction, for any statement that makes it. Updates are recorded by a trigger of 0003,
-- beside the revocation log.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

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
COMMENT ON COLUMN session_events.position IS
    'place in the feed; NULL until the feed is next read';
CREATE INDEX session_events_without_position ON session_events (id) WHERE position IS NULL;
CREATE INDEX session_events_by_session ON session_events (session_id);
CREATE INDEX session_events_by_user ON session_events (user_id, position);

CREATE TABLE session_event_counter (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    last    bigint  NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO session_event_counter (last) VALUES (0);

CREATE FUNCTION sessiond_record_insertions() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
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
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION sessiond_record_insertions();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_record_insertions;

-- Assigns positions to at most `max` events, and returns to how many. Positions are assigned on
-- reading, to what is committed then, under the lock of the counter's row. So a reader that goes on
-- from the last position that it has seen misses nothing. Numbers that are taken before the commit
-- cannot promise that.
CREATE FUNCTION sessiond_assign_event_positions_v1(max bigint) RETURNS bigint LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
DECLARE
    base  bigint;
    count bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM session_events WHERE position IS NULL) THEN
        RETURN 0;
    END IF;
    -- The statements after this one see what the last holder of the lock has done.
    SELECT last INTO base FROM session_event_counter FOR UPDATE;
    WITH batch AS (
        SELECT id, row_number() OVER (ORDER BY id) AS n FROM (
            SELECT id FROM session_events WHERE position IS NULL ORDER BY id LIMIT max FOR UPDATE
        ) AS oldest
    )
    UPDATE session_events SET position = base + n FROM batch WHERE session_events.id = batch.id;
    GET DIAGNOSTICS count = ROW_COUNT;
    UPDATE session_event_counter SET last = base + count;
    RETURN count;
END
$$;

UPDATE sessiond_schema SET version = 2, oldest_able = 2;
