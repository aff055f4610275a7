-- Sessions, and what holds for each of them however a row is changed: by sessiond, by psql, by a
-- restore.
--
-- Every function has a search_path of its own, so that it means the same tables for every caller.
-- `SET search_path FROM CURRENT` takes this one:
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- `oldest_able` is what makes rolling upgrades safe: a migration that an older binary can live with
-- leaves it alone.
CREATE TABLE sessiond_schema (
    one_row     boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    version     integer NOT NULL,
    oldest_able integer NOT NULL
);
COMMENT ON COLUMN sessiond_schema.version IS 'the number of migrations that this schema has';
COMMENT ON COLUMN sessiond_schema.oldest_able IS
    'the oldest version that a sessiond must know to work with this schema';
INSERT INTO sessiond_schema (version, oldest_able) VALUES (1, 1);

-- IMMUTABLE is true of these two: an interval of microseconds and seconds since the epoch do not
-- depend on a time zone. Without settings of their own PostgreSQL can inline them.
CREATE FUNCTION sessiond_ends_at(
    expires_at timestamptz, last_activity_at timestamptz, idle_timeout bigint
) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT LEAST(expires_at, last_activity_at + idle_timeout * interval '1 microsecond')
$$;
CREATE FUNCTION sessiond_ends_hour(
    expires_at timestamptz, last_activity_at timestamptz, idle_timeout bigint
) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT floor(extract(epoch FROM LEAST(
        expires_at, last_activity_at + idle_timeout * interval '1 microsecond'
    )) / 3600)::bigint
$$;

-- `ends_at` is a column, so that statements and indexes see what `Session::ends_at` returns. With
-- an idle time-out each activity changes it. Were it indexed, no such update could be HOT
-- (heap-only): each would write every index. The hour in which a session ends changes once an hour,
-- so that is indexed. Pages keep some room for HOT updates, and vacuum comes before a fifth of the
-- table is dead.
--
-- Infinite times are refused because no client can represent them.
CREATE TABLE sessions (
    id               uuid        PRIMARY KEY,
    user_id          uuid        NOT NULL,
    device_info      text        CHECK (char_length(device_info) <= 255),
    browser          text        CHECK (char_length(browser) <= 64),
    system           text        CHECK (char_length(system) <= 64),
    device_type      text        CHECK (char_length(device_type) <= 16),
    user_agent       text        CHECK (octet_length(user_agent) <= 512),
    ip_address       inet,
    last_ip_address  inet,
    location         text        CHECK (char_length(location) <= 255),
    name             text        CHECK (char_length(name) <= 64),
    metadata         jsonb       CHECK (jsonb_typeof(metadata) = 'object'),
    created_at       timestamptz NOT NULL CHECK (isfinite(created_at)),
    last_activity_at timestamptz NOT NULL CHECK (isfinite(last_activity_at)),
    expires_at       timestamptz NOT NULL CHECK (isfinite(expires_at)),
    idle_timeout     bigint      CHECK (idle_timeout > 0),
    renewal          bigint      CHECK (renewal > 0),
    expired_at       timestamptz,
    revoked_at       timestamptz CHECK (isfinite(revoked_at)),
    revoked_reason   text        CHECK (char_length(revoked_reason) <= 255),
    revoked_by       text        CHECK (char_length(revoked_by) <= 64),
    idempotency_key  text        CHECK (char_length(idempotency_key) <= 255),
    idempotency_hash bytea       CHECK (length(idempotency_hash) = 32),
    token_hash          bytea    CHECK (length(token_hash) = 32),
    replaced_token_hash bytea    CHECK (length(replaced_token_hash) = 32),
    token_replaced_at   timestamptz CHECK (isfinite(token_replaced_at)),
    token_reused_at     timestamptz CHECK (isfinite(token_reused_at)),
    ends_at          timestamptz NOT NULL
        GENERATED ALWAYS AS (sessiond_ends_at(expires_at, last_activity_at, idle_timeout)) STORED,
    ends_hour        bigint      NOT NULL
        GENERATED ALWAYS AS (sessiond_ends_hour(expires_at, last_activity_at, idle_timeout)) STORED,
    CHECK (expires_at > created_at),
    CHECK ((replaced_token_hash IS NULL) = (token_replaced_at IS NULL)),
    CHECK (revoked_reason IS NULL OR revoked_at IS NOT NULL),
    CHECK (revoked_by IS NULL OR revoked_at IS NOT NULL)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.01);
COMMENT ON COLUMN sessions.idle_timeout IS 'microseconds';
COMMENT ON COLUMN sessions.renewal IS
    'microseconds: activity extends expires_at to this long after it';
COMMENT ON COLUMN sessions.token_hash IS 'SHA-256 of the secret of the session''s token';
COMMENT ON COLUMN sessions.token_reused_at IS
    'when the replaced token was first used after its grace';
COMMENT ON COLUMN sessions.expired_at IS 'ends_at, as it was when the session was marked expired';
COMMENT ON COLUMN sessions.ends_hour IS 'the hour of ends_at, in hours since 1970';

CREATE INDEX sessions_by_user ON sessions (user_id, created_at DESC, id DESC);
-- For the operators' search, newest first. Activity changes none of them, unless its address is
-- another than that of the activity before. A sign-in writes two of them: it takes about 6 % more
-- time, and 30 % more WAL, than without the three.
CREATE INDEX sessions_by_creation ON sessions (created_at DESC, id DESC);
CREATE INDEX sessions_by_ip_address ON sessions (ip_address, created_at DESC, id DESC)
    WHERE ip_address IS NOT NULL;
CREATE INDEX sessions_by_last_ip_address ON sessions (last_ip_address, created_at DESC, id DESC)
    WHERE last_ip_address IS NOT NULL AND last_ip_address IS DISTINCT FROM ip_address;
CREATE UNIQUE INDEX sessions_by_idempotency_key ON sessions (user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
-- Each terminated session is in exactly one of the two indexes that cleanup goes by. Live sessions
-- cost them nothing but their `ends_hour`.
CREATE INDEX sessions_pending_expiry ON sessions (ends_hour)
    WHERE revoked_at IS NULL AND expired_at IS NULL;
CREATE INDEX sessions_pending_deletion ON sessions (coalesce(revoked_at, expired_at))
    WHERE revoked_at IS NOT NULL OR expired_at IS NOT NULL;

-- The triggers are ENABLE ALWAYS: they also fire where session_replication_role is `replica`.

CREATE FUNCTION sessiond_refuse_unrevoke() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    IF (NEW.revoked_at, NEW.revoked_reason, NEW.revoked_by)
        IS DISTINCT FROM (OLD.revoked_at, OLD.revoked_reason, OLD.revoked_by) THEN
        RAISE EXCEPTION 'a revocation is final' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER sessions_refuse_unrevoke BEFORE UPDATE ON sessions
    FOR EACH ROW WHEN (OLD.revoked_at IS NOT NULL) EXECUTE FUNCTION sessiond_refuse_unrevoke();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_refuse_unrevoke;

CREATE FUNCTION sessiond_refuse_new_id() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION 'the id of a session is final' USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER sessions_refuse_new_id BEFORE UPDATE OF id ON sessions
    FOR EACH ROW WHEN (NEW.id <> OLD.id) EXECUTE FUNCTION sessiond_refuse_new_id();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_refuse_new_id;

-- A session whose lifetime is extended after it had expired must not be deleted while it is live.
CREATE FUNCTION sessiond_revive() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    IF sessiond_ends_at(NEW.expires_at, NEW.last_activity_at, NEW.idle_timeout) > OLD.ends_at THEN
        NEW.expired_at := NULL;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER sessions_revive
    BEFORE UPDATE OF expires_at, last_activity_at, idle_timeout ON sessions
    FOR EACH ROW WHEN (OLD.expired_at IS NOT NULL) EXECUTE FUNCTION sessiond_revive();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_revive;

-- Enforces the limit of live sessions (`max_sessions`) before a sign-in. Returns the ids of the
-- sessions that it has evicted, or NULL if the sign-in is to be denied.
--
-- It is a function so that a sign-in is one statement: a cancelled request, or a pooler that
-- changes the connection, leaves nothing half done. Each statement in it sees what was committed
-- when it began, so a sign-in that waited for the lock sees what its last holder did. A later
-- release that enforces limits in another way adds a `_v2`, so that older nodes go on working.
CREATE FUNCTION sessiond_enforce_session_limit_v1(
    owner uuid, at timestamptz, max_live integer, deny boolean, reason text, actor text
) RETURNS uuid[] LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    live    integer;
    evicted uuid[];
BEGIN
    IF max_live IS NULL THEN
        RETURN '{}';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('sessiond user ' || owner, 0));
    SELECT count(*) INTO live FROM sessions
    WHERE user_id = owner AND revoked_at IS NULL AND ends_at > at;
    IF live < max_live THEN
        RETURN '{}';
    ELSIF deny THEN
        RETURN NULL;
    END IF;
    -- Locks rows by ascending id, as every statement does: this prevents deadlocks.
    PERFORM FROM sessions WHERE user_id = owner AND revoked_at IS NULL AND ends_at > at
    ORDER BY id FOR NO KEY UPDATE;
    WITH oldest AS (
        SELECT id FROM sessions WHERE user_id = owner AND revoked_at IS NULL AND ends_at > at
        ORDER BY created_at, id LIMIT live - max_live + 1
    ), updated AS (
        UPDATE sessions SET revoked_at = at, revoked_reason = reason, revoked_by = actor
        FROM oldest WHERE sessions.id = oldest.id AND sessions.revoked_at IS NULL
        RETURNING sessions.id, sessions.created_at
    )
    SELECT array_agg(id ORDER BY created_at, id) INTO evicted FROM updated;
    RETURN coalesce(evicted, '{}');
END
$$;

-- Where retention is shorter than a lifetime, a session can be revoked and deleted while the system
-- that it was imported from still has it as live. Its id is kept until its own lifetime has passed.
CREATE TABLE revoked_and_deleted (
    id         uuid        PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE revoked_and_deleted IS
    'sessions that were revoked, and deleted before their lifetime had passed: not imported again';
CREATE INDEX revoked_and_deleted_by_expiry ON revoked_and_deleted (expires_at);

CREATE FUNCTION sessiond_keep_revoked_ids() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO revoked_and_deleted (id, expires_at)
        SELECT id, expires_at FROM deleted
        WHERE revoked_at IS NOT NULL AND expires_at > clock_timestamp()
        ON CONFLICT DO NOTHING;
    DELETE FROM revoked_and_deleted WHERE id IN (
        SELECT id FROM revoked_and_deleted WHERE expires_at <= clock_timestamp()
        LIMIT 1000 FOR UPDATE SKIP LOCKED
    );
    RETURN NULL;
END
$$;
CREATE TRIGGER sessions_keep_revoked_ids AFTER DELETE ON sessions
    REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT EXECUTE FUNCTION sessiond_keep_revoked_ids();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_keep_revoked_ids;

CREATE FUNCTION sessiond_skip_revoked_ids() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
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
