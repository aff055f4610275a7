-- The revocation log: what every node polls before it serves sessions from its caches
-- (docs/coherence.md). Triggers write it in the transaction of the change, so that direct SQL and
-- cascades feed it too.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE TABLE revocation_log (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid         xid8        NOT NULL DEFAULT pg_current_xact_id(),
    session_id  uuid,
    user_id     uuid,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE revocation_log IS
    'sessions that may have been revoked: one session, all of one user, or, with neither, all';
CREATE INDEX revocation_log_by_xid ON revocation_log (xid);

-- Transaction ids mean something in one incarnation of one database. The row is bound to the
-- server, the database and the table of sessions, and to the transaction that wrote it last. The
-- table is unlogged, so it is empty after a crash and after a promotion. A row that a template, a
-- dump or a restore brought along does not match. Where no row matches, the next poll begins an
-- incarnation.
--
-- The system identifier takes a read of a file (27 us of the 80 that a read of a session takes), so
-- only polls ask for it. They record when the server started, which costs nothing to read, and by
-- which reads of sessions recognise the incarnation.
CREATE UNLOGGED TABLE database_incarnation (
    system         bigint      NOT NULL,
    database       oid         NOT NULL,
    sessions_table oid         NOT NULL,
    server_started timestamptz NOT NULL,
    life           bigint      NOT NULL,
    retained_from  xid8        NOT NULL,
    began_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    written_by     xid8        NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (system, database, sessions_table)
);
COMMENT ON TABLE database_incarnation IS
    'unlogged on purpose: empty after a crash and a promotion';
COMMENT ON COLUMN database_incarnation.retained_from IS
    'entries of earlier transactions may have been pruned from revocation_log';
COMMENT ON COLUMN database_incarnation.written_by IS
    'the transaction that last wrote the row; not xmin if a restore did';

-- Leases are logged although a crash begins an incarnation: after a promotion a node must still
-- know which peers to wait for. They are written where there is news, or twice per maximum
-- staleness, and the updates are HOT: only the key is indexed, and there is room in the page.
CREATE TABLE node_lease (
    node             uuid    PRIMARY KEY,
    max_staleness_ms integer NOT NULL,
    heartbeats       bigint  NOT NULL DEFAULT 0,
    applied          pg_snapshot,
    applied_life     bigint
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
COMMENT ON COLUMN node_lease.applied IS
    'the snapshot of the last poll that the node has merged, in the incarnation applied_life';

-- What nodes report of themselves every few seconds, for operators. Nothing depends on it, so it
-- is not logged.
CREATE UNLOGGED TABLE node_report (
    node            uuid        PRIMARY KEY,
    reported_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    host            text        NOT NULL,
    version         text        NOT NULL,
    started_at      timestamptz NOT NULL,
    is_ready        boolean     NOT NULL,
    shared_cache    text        NOT NULL,
    cached_sessions text        NOT NULL,
    poll_age_ms     bigint      NOT NULL,
    reads_near      bigint      NOT NULL,
    reads_shared    bigint      NOT NULL,
    reads_database  bigint      NOT NULL
) WITH (fillfactor = 20);

CREATE TABLE sessiond_secret (
    name  text  PRIMARY KEY,
    value bytea NOT NULL CHECK (octet_length(value) = 32)
);
COMMENT ON TABLE sessiond_secret IS 'cache: the key that signs values in Redis';
INSERT INTO sessiond_secret (name, value)
SELECT 'cache', decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex');

-- Logs revocations: one entry per session, one per user who has several, and one about all users
-- where they are very many. An entry that says too much costs reads of the database and is never
-- wrong.
CREATE FUNCTION sessiond_log_revocations(revoked uuid[], owners uuid[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF (SELECT count(*) FROM (SELECT DISTINCT unnest(owners)) AS _) > 1000 THEN
        INSERT INTO revocation_log (session_id, user_id) VALUES (NULL, NULL);
        RETURN;
    END IF;
    INSERT INTO revocation_log (session_id, user_id)
    SELECT CASE WHEN count(*) = 1 THEN (array_agg(id))[1] END, CASE WHEN count(*) > 1 THEN owner END
    FROM unnest(revoked, owners) AS _(id, owner) GROUP BY owner;
END
$$;

-- Writes events and revocations of an update. A rotation is logged like a revocation: caches hold
-- the token that it replaces. It is one trigger, so that rows before and after are joined once.
--
-- The plan of its statement is made by the first update of a connection, which changes a row or
-- two, and is kept for the one that changes ten thousand. A nested loop would then compare each row
-- with each.
CREATE FUNCTION sessiond_record_updates() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_nestloop = off SET jit = off AS $$
DECLARE
    revoked uuid[];
    owners  uuid[];
BEGIN
    WITH change AS MATERIALIZED (
        SELECT after.*, before.user_id AS owner,
            before.revoked_at IS NULL AND after.revoked_at IS NOT NULL AS is_revoked,
            before.expired_at IS NULL AND after.expired_at IS NOT NULL AS is_expired,
            after.expires_at > before.expires_at AS is_renewed,
            after.ends_at < before.ends_at OR after.user_id <> before.user_id AS is_shortened,
            after.token_hash IS DISTINCT FROM before.token_hash AS is_rotated,
            before.token_reused_at IS NULL AND after.token_reused_at IS NOT NULL AS is_reused
        FROM updated AS after JOIN previous AS before USING (id)
        WHERE (before.revoked_at IS NULL AND after.revoked_at IS NOT NULL)
            OR (before.expired_at IS NULL AND after.expired_at IS NOT NULL)
            OR after.expires_at > before.expires_at OR after.ends_at < before.ends_at
            OR after.user_id <> before.user_id
            OR after.token_hash IS DISTINCT FROM before.token_hash
            OR (before.token_reused_at IS NULL AND after.token_reused_at IS NOT NULL)
    ), recorded AS (
        INSERT INTO session_events (kind, at, session_id, user_id, reason, actor)
        SELECT CASE WHEN revoked_by = 'system' AND revoked_reason = 'session_limit'
                THEN 'evicted' ELSE 'revoked' END,
            revoked_at, id, user_id, revoked_reason, revoked_by FROM change WHERE is_revoked
        UNION ALL
        SELECT 'expired', expired_at, id, user_id,
            CASE WHEN expired_at >= expires_at THEN 'lifetime' ELSE 'idle_timeout' END, 'system'
            FROM change WHERE is_expired
        UNION ALL
        SELECT 'renewed', last_activity_at, id, user_id, NULL, NULL FROM change WHERE is_renewed
        UNION ALL
        SELECT 'token_reused', token_reused_at, id, user_id, NULL, NULL FROM change WHERE is_reused
        ORDER BY id
    )
    SELECT array_agg(id), array_agg(owner) INTO revoked, owners FROM change
    WHERE is_revoked OR is_shortened OR is_rotated;
    IF revoked IS NOT NULL THEN
        PERFORM sessiond_log_revocations(revoked, owners);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER sessions_record_updates AFTER UPDATE ON sessions
    REFERENCING OLD TABLE AS previous NEW TABLE AS updated
    FOR EACH STATEMENT EXECUTE FUNCTION sessiond_record_updates();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_record_updates;

CREATE FUNCTION sessiond_log_deletions() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
DECLARE
    revoked uuid[];
    owners  uuid[];
BEGIN
    -- Terminated sessions were logged when they were revoked, or are past their own time.
    SELECT array_agg(id), array_agg(user_id) INTO revoked, owners
    FROM deleted WHERE revoked_at IS NULL AND expired_at IS NULL;
    IF revoked IS NOT NULL THEN
        PERFORM sessiond_log_revocations(revoked, owners);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER sessions_log_deletions AFTER DELETE ON sessions
    REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION sessiond_log_deletions();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_log_deletions;

CREATE FUNCTION sessiond_log_truncation() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO revocation_log (session_id, user_id) VALUES (NULL, NULL);
    RETURN NULL;
END
$$;
CREATE TRIGGER sessions_log_truncation AFTER TRUNCATE ON sessions
    FOR EACH STATEMENT EXECUTE FUNCTION sessiond_log_truncation();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_log_truncation;

-- Pruning takes only what every read has seen, and records how far it went. What direct SQL deletes
-- beyond that is missed by nodes that have not read it, so it ends the incarnation.
CREATE FUNCTION sessiond_record_pruning() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
DECLARE
    newest xid8;
BEGIN
    IF EXISTS (SELECT FROM deleted WHERE recorded_at > clock_timestamp() - interval '1 hour'
        OR xid >= pg_snapshot_xmin(pg_current_snapshot())) THEN
        DELETE FROM database_incarnation;
        RETURN NULL;
    END IF;
    SELECT xid INTO newest FROM deleted ORDER BY xid DESC LIMIT 1;
    IF newest IS NOT NULL THEN
        UPDATE database_incarnation SET written_by = pg_current_xact_id(),
            retained_from = greatest(retained_from, (newest::text::bigint + 1)::text::xid8)
        WHERE xmin = written_by::xid;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER revocation_log_record_pruning AFTER DELETE ON revocation_log
    REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION sessiond_record_pruning();
ALTER TABLE revocation_log ENABLE ALWAYS TRIGGER revocation_log_record_pruning;

CREATE FUNCTION sessiond_end_incarnation() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM database_incarnation;
    RETURN NULL;
END
$$;
CREATE TRIGGER revocation_log_end_incarnation AFTER UPDATE OR TRUNCATE ON revocation_log
    FOR EACH STATEMENT EXECUTE FUNCTION sessiond_end_incarnation();
ALTER TABLE revocation_log ENABLE ALWAYS TRIGGER revocation_log_end_incarnation;

-- Begins an incarnation, unless the present one still holds. Returns false if the log of the one
-- before is so long that it has to be called again.
CREATE FUNCTION sessiond_begin_incarnation_v1(max_deletions integer) RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    present record;
    deleted integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('sessiond incarnation', 0));
    -- A restore makes triggers last. Before that, revocations would go unlogged.
    IF (SELECT count(*) FROM pg_trigger
        WHERE tgrelid IN ('sessions'::regclass, 'revocation_log'::regclass)
        AND tgenabled IN ('O', 'A') AND tgname IN (
            'sessions_record_updates', 'sessions_log_deletions', 'sessions_log_truncation',
            'revocation_log_record_pruning', 'revocation_log_end_incarnation'
        )) < 5 THEN
        RAISE EXCEPTION 'the triggers that log revocations are not all there'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT (SELECT system_identifier FROM pg_control_system()) AS system,
        (SELECT oid FROM pg_database WHERE datname = current_database()) AS database,
        'sessions'::regclass::oid AS sessions_table INTO present;
    -- After a restart that was no crash the incarnation goes on.
    UPDATE database_incarnation
    SET server_started = pg_postmaster_start_time(), written_by = pg_current_xact_id()
    WHERE system = present.system AND database = present.database
        AND sessions_table = present.sessions_table AND xmin = written_by::xid;
    IF FOUND THEN
        RETURN true;
    END IF;
    -- In this order: a deletion from the log of an incarnation ends it.
    DELETE FROM database_incarnation;
    DELETE FROM revocation_log WHERE id IN (
        SELECT id FROM revocation_log ORDER BY id LIMIT max_deletions
    );
    GET DIAGNOSTICS deleted = ROW_COUNT;
    IF deleted = max_deletions THEN
        RETURN false;
    END IF;
    INSERT INTO database_incarnation
        (system, database, sessions_table, server_started, life, retained_from)
    VALUES (present.system, present.database, present.sessions_table, pg_postmaster_start_time(),
        ('x' || left(md5(gen_random_uuid()::text), 16))::bit(64)::bigint, '1');
    RETURN true;
END
$$;

-- Whether a node that has merged the snapshot `applied` has merged every entry that `target` shows.
CREATE FUNCTION sessiond_is_caught_up(applied pg_snapshot, applied_life bigint, target pg_snapshot)
RETURNS boolean LANGUAGE sql STABLE SET search_path FROM CURRENT SET enable_seqscan = off AS $$
    SELECT EXISTS (SELECT FROM database_incarnation
            WHERE life = applied_life AND xmin = written_by::xid
            AND retained_from <= pg_snapshot_xmin(applied))
        AND NOT EXISTS (SELECT FROM revocation_log
            WHERE xid >= pg_snapshot_xmax(applied) AND pg_visible_in_snapshot(xid, target))
        AND NOT EXISTS (SELECT FROM revocation_log
            WHERE xid IN (SELECT pg_snapshot_xip(applied)) AND pg_visible_in_snapshot(xid, target))
$$;

-- Returns the peers of `observer` as soon as all have merged every entry that was in the log when
-- it was called, at the latest after `wait_ms`.
CREATE FUNCTION sessiond_await_peers_v1(observer uuid, wait_ms integer) RETURNS TABLE (
    system bigint, database oid, life bigint, node uuid, max_staleness_ms integer,
    heartbeats bigint, is_caught_up boolean
) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    target   pg_snapshot := pg_current_snapshot();
    deadline timestamptz := clock_timestamp() + wait_ms * interval '1 millisecond';
    reported text;
    seen     text := '';
    lag      boolean;
BEGIN
    LOOP
        -- A peer that has not reported since then still lags.
        SELECT string_agg(l.node || ' ' || l.heartbeats, ',' ORDER BY l.node) INTO reported
        FROM node_lease l WHERE l.node <> observer;
        IF reported IS DISTINCT FROM seen THEN
            seen := reported;
            SELECT coalesce(bool_or(
                NOT sessiond_is_caught_up(l.applied, l.applied_life, target)
            ), false) INTO lag FROM node_lease l WHERE l.node <> observer;
        END IF;
        EXIT WHEN NOT lag OR clock_timestamp() >= deadline;
        PERFORM pg_sleep(0.005);
    END LOOP;
    RETURN QUERY
        SELECT d.system, d.database, d.life, l.node, l.max_staleness_ms, l.heartbeats,
            sessiond_is_caught_up(l.applied, l.applied_life, target)
        FROM (SELECT 1) AS one
        LEFT JOIN database_incarnation d
            ON d.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND d.sessions_table = 'sessions'::regclass
            AND d.server_started = pg_postmaster_start_time()
            AND d.xmin = d.written_by::xid
        LEFT JOIN node_lease l ON l.node <> observer;
END
$$;

SELECT sessiond_begin_incarnation_v1(1);

UPDATE sessiond_schema SET version = 3, oldest_able = 3;
