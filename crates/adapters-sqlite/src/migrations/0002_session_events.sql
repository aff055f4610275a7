-- The event outbox. Triggers write it, so that every change of a session writes its event in the
-- same transaction, for any statement that makes it. An id is never used again (AUTOINCREMENT),
-- and is the event's position in the feed.
CREATE TABLE session_events (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    session_id  BLOB    NOT NULL,
    user_id     BLOB    NOT NULL,
    reason      TEXT,
    actor       TEXT,
    recorded_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;
CREATE INDEX session_events_by_session ON session_events (session_id, id);
CREATE INDEX session_events_by_user ON session_events (user_id, id);

CREATE TRIGGER sessions_record_creation AFTER INSERT ON sessions
BEGIN
    INSERT INTO session_events (kind, at, session_id, user_id)
    VALUES ('created', NEW.created_at, NEW.id, NEW.user_id);
    INSERT INTO session_events (kind, at, session_id, user_id, reason, actor)
    SELECT 'revoked', NEW.revoked_at, NEW.id, NEW.user_id, NEW.revoked_reason, NEW.revoked_by
    WHERE NEW.revoked_at IS NOT NULL;
END;

CREATE TRIGGER sessions_record_revocation AFTER UPDATE ON sessions
WHEN OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL
BEGIN
    INSERT INTO session_events (kind, at, session_id, user_id, reason, actor) VALUES (
        CASE WHEN NEW.revoked_by IS 'system' AND NEW.revoked_reason IS 'session_limit'
            THEN 'evicted' ELSE 'revoked' END,
        NEW.revoked_at, NEW.id, NEW.user_id, NEW.revoked_reason, NEW.revoked_by);
END;

CREATE TRIGGER sessions_record_expiry AFTER UPDATE ON sessions
WHEN OLD.expired_at IS NULL AND NEW.expired_at IS NOT NULL
BEGIN
    INSERT INTO session_events (kind, at, session_id, user_id, reason, actor) VALUES (
        'expired', NEW.expired_at, NEW.id, NEW.user_id,
        CASE WHEN NEW.expired_at >= NEW.expires_at THEN 'lifetime' ELSE 'idle_timeout' END,
        'system');
END;

CREATE TRIGGER sessions_record_renewal AFTER UPDATE ON sessions
WHEN NEW.expires_at > OLD.expires_at
BEGIN
    INSERT INTO session_events (kind, at, session_id, user_id)
    VALUES ('renewed', NEW.last_activity_at, NEW.id, NEW.user_id);
END;

CREATE TRIGGER sessions_record_token_reuse AFTER UPDATE OF token_reused_at ON sessions
WHEN OLD.token_reused_at IS NULL AND NEW.token_reused_at IS NOT NULL
BEGIN
    INSERT INTO session_events (kind, at, session_id, user_id)
    VALUES ('token_reused', NEW.token_reused_at, NEW.id, NEW.user_id);
END;

UPDATE sessiond_schema SET version = 2, oldest_able = 2;
