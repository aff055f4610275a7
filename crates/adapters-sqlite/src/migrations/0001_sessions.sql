-- Sessions, and what holds for each of them however a row is changed. Ids are 16 bytes, addresses
-- are text, times are whole microseconds since 1970, which compare as numbers.

CREATE TABLE sessiond_schema (
    one_row     INTEGER PRIMARY KEY DEFAULT 1 CHECK (one_row = 1),
    version     INTEGER NOT NULL,
    oldest_able INTEGER NOT NULL
) STRICT;
INSERT INTO sessiond_schema (version, oldest_able) VALUES (1, 1);

-- `ends_at` is what `Session::ends_at` returns, for statements and indexes.
CREATE TABLE sessions (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id          BLOB    NOT NULL CHECK (length(user_id) = 16),
    device_info      TEXT    CHECK (length(device_info) <= 255),
    browser          TEXT    CHECK (length(browser) <= 64),
    system           TEXT    CHECK (length(system) <= 64),
    device_type      TEXT    CHECK (length(device_type) <= 16),
    user_agent       TEXT    CHECK (length(CAST(user_agent AS BLOB)) <= 512),
    ip_address       TEXT,
    last_ip_address  TEXT,
    location         TEXT    CHECK (length(location) <= 255),
    name             TEXT    CHECK (length(name) <= 64),
    metadata         TEXT    CHECK (json_type(metadata) = 'object'),
    created_at       INTEGER NOT NULL,
    last_activity_at INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    idle_timeout     INTEGER CHECK (idle_timeout > 0),
    renewal          INTEGER CHECK (renewal > 0),
    expired_at       INTEGER,
    revoked_at       INTEGER,
    revoked_reason   TEXT    CHECK (length(revoked_reason) <= 255),
    revoked_by       TEXT    CHECK (length(revoked_by) <= 64),
    idempotency_key  TEXT    CHECK (length(idempotency_key) <= 255),
    idempotency_hash BLOB    CHECK (length(idempotency_hash) = 32),
    token_hash          BLOB CHECK (length(token_hash) = 32),
    replaced_token_hash BLOB CHECK (length(replaced_token_hash) = 32),
    token_replaced_at   INTEGER,
    token_reused_at     INTEGER,
    ends_at          INTEGER GENERATED ALWAYS AS
        (min(expires_at, coalesce(last_activity_at + idle_timeout, expires_at))) VIRTUAL,
    CHECK (expires_at > created_at),
    CHECK ((replaced_token_hash IS NULL) = (token_replaced_at IS NULL)),
    CHECK (revoked_reason IS NULL OR revoked_at IS NOT NULL),
    CHECK (revoked_by IS NULL OR revoked_at IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_by_user ON sessions (user_id, created_at DESC, id DESC);
-- For the operators' search, newest first.
CREATE INDEX sessions_by_creation ON sessions (created_at DESC, id DESC);
CREATE INDEX sessions_by_ip_address ON sessions (ip_address, created_at DESC, id DESC)
    WHERE ip_address IS NOT NULL;
CREATE INDEX sessions_by_last_ip_address ON sessions (last_ip_address, created_at DESC, id DESC)
    WHERE last_ip_address IS NOT NULL AND last_ip_address IS NOT ip_address;
CREATE UNIQUE INDEX sessions_by_idempotency_key ON sessions (user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX sessions_pending_expiry ON sessions (ends_at)
    WHERE revoked_at IS NULL AND expired_at IS NULL;
CREATE INDEX sessions_pending_deletion ON sessions (coalesce(revoked_at, expired_at))
    WHERE revoked_at IS NOT NULL OR expired_at IS NOT NULL;

CREATE TRIGGER sessions_refuse_unrevoke BEFORE UPDATE ON sessions
WHEN OLD.revoked_at IS NOT NULL AND (NEW.revoked_at IS NOT OLD.revoked_at
    OR NEW.revoked_reason IS NOT OLD.revoked_reason OR NEW.revoked_by IS NOT OLD.revoked_by)
BEGIN
    SELECT RAISE(ABORT, 'a revocation is final');
END;

CREATE TRIGGER sessions_refuse_new_id BEFORE UPDATE OF id ON sessions
WHEN NEW.id IS NOT OLD.id
BEGIN
    SELECT RAISE(ABORT, 'the id of a session is final');
END;

-- A session whose lifetime is extended after it had expired must not be deleted while it is live.
CREATE TRIGGER sessions_revive
AFTER UPDATE OF expires_at, last_activity_at, idle_timeout ON sessions
WHEN OLD.expired_at IS NOT NULL AND NEW.expired_at IS NOT NULL
    AND min(NEW.expires_at, coalesce(NEW.last_activity_at + NEW.idle_timeout, NEW.expires_at))
        > min(OLD.expires_at, coalesce(OLD.last_activity_at + OLD.idle_timeout, OLD.expires_at))
BEGIN
    UPDATE sessions SET expired_at = NULL WHERE id = NEW.id;
END;

-- Where retention is shorter than a lifetime, a session can be revoked and deleted while the system
-- that it was imported from still has it as live. Its id is kept until its own lifetime has passed.
CREATE TABLE revoked_and_deleted (
    id         BLOB PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX revoked_and_deleted_by_expiry ON revoked_and_deleted (expires_at);

CREATE TRIGGER sessions_keep_revoked_ids AFTER DELETE ON sessions
WHEN OLD.revoked_at IS NOT NULL AND OLD.expires_at > unixepoch() * 1000000
BEGIN
    INSERT OR IGNORE INTO revoked_and_deleted (id, expires_at) VALUES (OLD.id, OLD.expires_at);
    DELETE FROM revoked_and_deleted WHERE expires_at <= unixepoch() * 1000000;
END;

CREATE TRIGGER sessions_skip_revoked_ids BEFORE INSERT ON sessions
WHEN EXISTS (SELECT 1 FROM revoked_and_deleted WHERE id = NEW.id)
BEGIN
    SELECT RAISE(IGNORE);
END;
