//! Which database this is, and in which of its lives; the log of revocations and the leases of nodes by that.

use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0011_lives_of_a_database"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(drop)
    }
}

/// Numbers of transactions mean something in one life of one database (`docs/coherence.md`). Its row is bound to the server, the
/// database and the table of sessions. It is believed only where all of that is so, and where its last writer is who it says: the
/// table is unlogged, so it is empty after a crash and after a promotion; a row that a template, a dump or a restore brought along
/// is not believed. Where no row is believed, the next poll begins a life.
///
/// The system identifier takes a read of a file (27 us of the 80 that a read of a session takes), so only polls ask for it. They
/// note when the server started, which costs nothing, and by which reads of sessions recognise it.
///
/// What is deleted from the log by direct SQL is missed by nodes that have not read it. So that begins a life too. Pruning only takes
/// what every read has seen, and says how far it went.
///
/// Leases are logged although a crash begins a life: so whoever promotes a standby still knows whom to wait for. They are written
/// where there is news or twice per maximum staleness, and HOT: nothing but the key is indexed, and there is room in the page.
const SQL: &str = "
DROP TABLE database_timeline, revocation_log_horizon, node_lease;

CREATE UNLOGGED TABLE database_life (
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
COMMENT ON TABLE database_life IS 'unlogged on purpose: empty after a crash and a promotion';
COMMENT ON COLUMN database_life.retained_from IS 'entries of earlier transactions may have been pruned from revocation_log';
COMMENT ON COLUMN database_life.written_by IS 'the transaction that last wrote the row; another one than xmin if a restore did';

CREATE TABLE node_lease (
    node             uuid    PRIMARY KEY,
    max_staleness_ms integer NOT NULL,
    heartbeats       bigint  NOT NULL DEFAULT 0,
    applied          pg_snapshot,
    applied_life     bigint
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
COMMENT ON COLUMN node_lease.applied IS 'the snapshot of the last poll of the log that the node has merged, in that life';

CREATE FUNCTION sessiond_begin_life_v1(max_deletions integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    present record;
    deleted integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('sessiond life', 0));
    -- A restore makes triggers last. Before that, revocations would go unlogged.
    IF (SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('sessions'::regclass, 'revocation_log'::regclass) AND tgenabled IN ('O', 'A')
        AND tgname IN ('sessions_note_updates', 'sessions_log_deletions', 'sessions_log_truncation',
            'revocation_log_note_pruning', 'revocation_log_end_life')) < 5 THEN
        RAISE EXCEPTION 'the triggers that log revocations are not all there' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT (SELECT system_identifier FROM pg_control_system()) AS system,
        (SELECT oid FROM pg_database WHERE datname = current_database()) AS database,
        'sessions'::regclass::oid AS sessions_table INTO present;
    -- After a restart that was no crash the life goes on.
    UPDATE database_life SET server_started = pg_postmaster_start_time(), written_by = pg_current_xact_id()
    WHERE (system, database, sessions_table) = (present.system, present.database, present.sessions_table)
        AND xmin = written_by::xid;
    IF FOUND THEN
        RETURN true;
    END IF;
    -- In this order: whoever deletes from the log while there is a life ends it.
    DELETE FROM database_life;
    DELETE FROM revocation_log WHERE id IN (SELECT id FROM revocation_log ORDER BY id LIMIT max_deletions);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    IF deleted = max_deletions THEN
        RETURN false;
    END IF;
    INSERT INTO database_life (system, database, sessions_table, server_started, life, retained_from)
    VALUES (present.system, present.database, present.sessions_table, pg_postmaster_start_time(),
        ('x' || left(md5(gen_random_uuid()::text), 16))::bit(64)::bigint, '1');
    RETURN true;
END
$$;
COMMENT ON FUNCTION sessiond_begin_life_v1 IS
    'begins a life of the database, unless there is one; false: the log of the life before is so long that it has to be called again';

CREATE FUNCTION sessiond_note_pruning() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    newest xid8;
BEGIN
    IF EXISTS (SELECT FROM deleted WHERE recorded_at > clock_timestamp() - interval '1 hour'
        OR xid >= pg_snapshot_xmin(pg_current_snapshot())) THEN
        DELETE FROM database_life;
        RETURN NULL;
    END IF;
    SELECT xid INTO newest FROM deleted ORDER BY xid DESC LIMIT 1;
    IF newest IS NOT NULL THEN
        UPDATE database_life SET written_by = pg_current_xact_id(),
            retained_from = greatest(retained_from, (newest::text::bigint + 1)::text::xid8)
        WHERE xmin = written_by::xid;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER revocation_log_note_pruning AFTER DELETE ON revocation_log
    REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION sessiond_note_pruning();

CREATE FUNCTION sessiond_end_life() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM database_life;
    RETURN NULL;
END
$$;
CREATE TRIGGER revocation_log_end_life AFTER UPDATE OR TRUNCATE ON revocation_log
    FOR EACH STATEMENT EXECUTE FUNCTION sessiond_end_life();

CREATE FUNCTION sessiond_await_peers_v1(observer uuid, wait_ms integer)
RETURNS TABLE (system bigint, database oid, life bigint, node uuid, max_staleness_ms integer, heartbeats bigint, is_caught_up boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    target   pg_snapshot := pg_current_snapshot();
    deadline timestamptz := clock_timestamp() + wait_ms * interval '1 millisecond';
    reported text;
    seen     text := '';
    lag      boolean;
BEGIN
    LOOP
        -- A peer that has not reported since needs no second look.
        SELECT string_agg(l.node || ' ' || l.heartbeats, ',' ORDER BY l.node) INTO reported
        FROM node_lease l WHERE l.node <> observer;
        IF reported IS DISTINCT FROM seen THEN
            seen := reported;
            SELECT coalesce(bool_or(NOT sessiond_is_caught_up(l.applied, l.applied_life, target)), false) INTO lag
            FROM node_lease l WHERE l.node <> observer;
        END IF;
        EXIT WHEN NOT lag OR clock_timestamp() >= deadline;
        PERFORM pg_sleep(0.005);
    END LOOP;
    RETURN QUERY
        SELECT d.system, d.database, d.life, l.node, l.max_staleness_ms, l.heartbeats,
            sessiond_is_caught_up(l.applied, l.applied_life, target)
        FROM (SELECT 1) AS one
        LEFT JOIN database_life d ON d.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND d.sessions_table = 'sessions'::regclass AND d.server_started = pg_postmaster_start_time()
            AND d.xmin = d.written_by::xid
        LEFT JOIN node_lease l ON l.node <> observer;
END
$$;
COMMENT ON FUNCTION sessiond_await_peers_v1 IS
    'the other nodes, as soon as all have merged every entry that was in the log when it was called, at the latest after wait_ms';

CREATE FUNCTION sessiond_is_caught_up(applied pg_snapshot, applied_life bigint, target pg_snapshot)
RETURNS boolean LANGUAGE sql STABLE SET enable_seqscan = off AS $$
    SELECT EXISTS (SELECT FROM database_life WHERE life = applied_life AND xmin = written_by::xid
            AND retained_from <= pg_snapshot_xmin(applied))
        AND NOT EXISTS (SELECT FROM revocation_log
            WHERE xid >= pg_snapshot_xmax(applied) AND pg_visible_in_snapshot(xid, target))
        AND NOT EXISTS (SELECT FROM revocation_log
            WHERE xid IN (SELECT pg_snapshot_xip(applied)) AND pg_visible_in_snapshot(xid, target))
$$;

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
    FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'revocation_log'::regclass AND NOT tgisinternal LOOP
        EXECUTE format('ALTER TABLE revocation_log ENABLE ALWAYS TRIGGER %I', name);
    END LOOP;
END
$$;
DELETE FROM revocation_log;
SELECT sessiond_begin_life_v1(1);

UPDATE sessiond_schema SET version = 11;
";
