-- The revocation log: what the process polls before it serves sessions from its caches
-- (docs/coherence.md). Triggers write it in the transaction of the change. An entry is about a
-- session, about all sessions of a user, or, with neither, about all sessions.
CREATE TABLE revocation_log (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id  BLOB,
    user_id     BLOB,
    recorded_at INTEGER NOT NULL DEFAULT (unixepoch())
) STRICT;

-- A rotation is logged like a revocation: caches hold the token that it replaces.
CREATE TRIGGER sessions_log_update AFTER UPDATE ON sessions
WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL) OR NEW.user_id <> OLD.user_id
    OR NEW.token_hash IS NOT OLD.token_hash
    OR min(NEW.expires_at, coalesce(NEW.last_activity_at + NEW.idle_timeout, NEW.expires_at))
        < min(OLD.expires_at, coalesce(OLD.last_activity_at + OLD.idle_timeout, OLD.expires_at))
BEGIN
    INSERT INTO revocation_log (session_id) VALUES (OLD.id);
END;

-- Terminated sessions were logged when they were revoked, or are past their own time.
CREATE TRIGGER sessions_log_deletion AFTER DELETE ON sessions
WHEN OLD.revoked_at IS NULL AND OLD.expired_at IS NULL
BEGIN
    INSERT INTO revocation_log (session_id) VALUES (OLD.id);
END;

-- cache: the key that signs values in Redis.
CREATE TABLE sessiond_secret (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL CHECK (length(value) = 32)
) STRICT;
INSERT INTO sessiond_secret (name, value) VALUES ('cache', randomblob(32));

UPDATE sessiond_schema SET version = 3, oldest_able = 3;
