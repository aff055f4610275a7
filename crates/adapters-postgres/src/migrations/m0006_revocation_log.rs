use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait::async_trait};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0006_revocation_log"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(drop)
    }
}

/// What every node has to know before it answers what it remembers (`docs/coherence.md`). Triggers write it in the transaction of
/// the change, so that psql and cascades feed it too.
///
/// A statement that ends many sessions of a user writes one row for the user, one that ends very many one row for everybody: such a
/// row says that what was read before it is not to be trusted, which costs a read of the database and is never wrong.
const SQL: &str = "
CREATE TABLE revocation_log (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid         xid8        NOT NULL DEFAULT pg_current_xact_id(),
    session_id  uuid,
    user_id     uuid,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX revocation_log_by_xid ON revocation_log (xid);
COMMENT ON TABLE revocation_log IS 'sessions that may have ended: one session, one user''s, or, with neither, everybody''s';

CREATE TABLE revocation_log_horizon (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    xid     xid8    NOT NULL
);
INSERT INTO revocation_log_horizon (xid) VALUES ('0');
COMMENT ON COLUMN revocation_log_horizon.xid IS 'entries of this and earlier transactions may have been cleared away';

CREATE TABLE node_lease (
    node     uuid        PRIMARY KEY,
    delta_ms integer     NOT NULL,
    renewals bigint      NOT NULL DEFAULT 0,
    applied  pg_snapshot
);
COMMENT ON COLUMN node_lease.applied IS 'the snapshot of the last look at the log that the node has merged';

CREATE FUNCTION sessiond_log_ends(ended uuid[], owners uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(array_length(ended, 1), 0) > 1000 THEN
        INSERT INTO revocation_log (session_id, user_id) VALUES (NULL, NULL);
        RETURN;
    END IF;
    INSERT INTO revocation_log (session_id, user_id)
    SELECT CASE WHEN count(*) = 1 THEN (array_agg(id))[1] END, CASE WHEN count(*) > 1 THEN owner END
    FROM unnest(ended, owners) AS _(id, owner) GROUP BY owner;
END
$$;

CREATE FUNCTION sessiond_log_updates() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    ended  uuid[];
    owners uuid[];
BEGIN
    SELECT array_agg(before.id), array_agg(before.user_id) INTO ended, owners
    FROM updated AS after JOIN previous AS before USING (id)
    WHERE (before.revoked_at IS NULL AND after.revoked_at IS NOT NULL) OR after.ends_at < before.ends_at
        OR after.user_id <> before.user_id;
    IF ended IS NOT NULL THEN
        PERFORM sessiond_log_ends(ended, owners);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER sessions_log_updates AFTER UPDATE ON sessions
    REFERENCING OLD TABLE AS previous NEW TABLE AS updated
    FOR EACH STATEMENT EXECUTE FUNCTION sessiond_log_updates();

CREATE FUNCTION sessiond_log_deletions() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    ended  uuid[];
    owners uuid[];
BEGIN
    -- Those that had ended were logged when they did.
    SELECT array_agg(id), array_agg(user_id) INTO ended, owners
    FROM deleted WHERE revoked_at IS NULL AND expired_at IS NULL;
    IF ended IS NOT NULL THEN
        PERFORM sessiond_log_ends(ended, owners);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER sessions_log_deletions AFTER DELETE ON sessions
    REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION sessiond_log_deletions();

CREATE FUNCTION sessiond_log_truncation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO revocation_log (session_id, user_id) VALUES (NULL, NULL);
    RETURN NULL;
END
$$;
CREATE TRIGGER sessions_log_truncation AFTER TRUNCATE ON sessions
    FOR EACH STATEMENT EXECUTE FUNCTION sessiond_log_truncation();

CREATE TABLE sessiond_secret (
    name  text  PRIMARY KEY,
    value bytea NOT NULL CHECK (octet_length(value) = 32)
);
COMMENT ON TABLE sessiond_secret IS 'cache: the key that signs what is kept in Redis';
INSERT INTO sessiond_secret (name, value)
VALUES ('cache', decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

UPDATE sessiond_schema SET version = 6;
";
