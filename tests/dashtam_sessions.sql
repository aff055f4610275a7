-- The table of the Python original, with 1234 sessions: 617 never expire, 246 are revoked.
CREATE TABLE sessions (
    id uuid PRIMARY KEY, user_id uuid NOT NULL, device_info varchar(255), user_agent text,
    ip_address inet,
    last_ip_address inet, location varchar(255), created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    last_activity_at timestamptz, expires_at timestamptz, is_revoked boolean NOT NULL,
    revoked_at timestamptz,
    revoked_reason varchar(255), is_trusted boolean NOT NULL, refresh_token_id uuid,
    suspicious_activity_count integer NOT NULL, last_provider_accessed varchar(100),
    last_provider_sync_at timestamptz,
    providers_accessed varchar(100)[]);
INSERT INTO sessions SELECT ('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid,
    '00000000-0000-4000-8000-00000000000a', 'Chrome on macOS', repeat('x', 600),
    '192.0.2.7', NULL, 'Berlin, DE',
    now() - interval '1 day', now() - interval '1 hour', NULL,
    CASE WHEN n % 2 = 0 THEN now() + interval '1 day' END,
    n % 5 = 0, CASE WHEN n % 10 = 0 THEN now() - interval '2 hours' END,
    CASE WHEN n % 5 = 0 THEN 'logout' END, true,
    NULL, 3, 'plaid', NULL, '{plaid,schwab}'
FROM generate_series(1, 1234) AS n
