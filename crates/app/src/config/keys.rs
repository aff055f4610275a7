//! Every configuration key.

/// One configuration key.
pub struct Key {
    /// Its path, such as `store.url`.
    pub name: &'static str,
    /// Its default; `None`: it is absent unless it is set.
    pub default: Option<&'static str>,
    /// Whether the value may be shown.
    pub shown: Shown,
    /// What it is, in one sentence.
    pub about: &'static str,
}

/// How much of a value `config show` shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// All of it.
    Whole,
    /// All but the password in a URL.
    WithoutPassword,
    /// That it is set.
    Never,
}

const fn key(name: &'static str, default: Option<&'static str>, about: &'static str) -> Key {
    Key { name, default, shown: Shown::Whole, about }
}

const fn url(name: &'static str, default: Option<&'static str>, about: &'static str) -> Key {
    Key { name, default, shown: Shown::WithoutPassword, about }
}

const fn secret(name: &'static str, about: &'static str) -> Key {
    Key { name, default: None, shown: Shown::Never, about }
}

/// Every key there is; any other is an error. `docs/operating.md` has the same table, held to this
/// one by a test.
pub const KEYS: &[Key] = &[
    key(
        "server.listen",
        Some("127.0.0.1:8080"),
        "address of the public listener: end users' tokens",
    ),
    key(
        "server.service_listen",
        Some("127.0.0.1:8081"),
        "address of the service listener: service keys, health, metrics",
    ),
    key(
        "server.shutdown_delay",
        Some("5s"),
        "how long a node that is asked to stop goes on serving, with `/readyz` at 503, so that \
            balancers notice; 0s to 10m",
    ),
    key(
        "server.trusted_proxies",
        None,
        "proxies (networks such as `10.0.0.0/8`, comma separated) whose `X-Forwarded-For` is \
            trusted; none, if not set",
    ),
    key(
        "server.max_connections",
        None,
        "connections of the public listener, 16 to 1000000; if not set, as many as the limit of \
            open files has room for, at most 10000",
    ),
    key(
        "server.idle_timeout",
        Some("75s"),
        "how long a connection may be idle between two requests, 5s to 1h",
    ),
    key(
        "server.cors_origins",
        None,
        "origins such as `https://app.example.com`, comma separated, whose pages may call the \
            public listener, with the session cookie too; none, if not set",
    ),
    url(
        "store.url",
        Some("sqlite://sessiond.db"),
        "the database: `sqlite://FILE`, made if absent, or `postgres://...`",
    ),
    key("store.url_file", None, "a file that holds `store.url`"),
    url(
        "store.direct_url",
        None,
        "PostgreSQL past a transaction pooler, for migrations and the revocation log; \
            `store.url`, if not set",
    ),
    key("store.direct_url_file", None, "a file that holds `store.direct_url`"),
    key(
        "store.prepared",
        Some("true"),
        "`false`: no named prepared statements, for a transaction pooler that does not track them \
            (PgBouncer before 1.21)",
    ),
    key(
        "store.migrate",
        Some("true"),
        "`false`: a node does not bring the schema up to date when it starts, and refuses one \
            that is not",
    ),
    key(
        "store.pool_size",
        Some("16"),
        "database connections of this node, 1 to 1000 (SQLite: reading ones, at most 4)",
    ),
    url(
        "cache.url",
        Some("none"),
        "the shared cache: `redis://`, `rediss://`, `redis-cluster://`, `redis-sentinel://`, or \
            `none`",
    ),
    key("cache.url_file", None, "a file that holds `cache.url`"),
    key("cache.key_prefix", Some("sess:"), "what every key in Redis starts with"),
    key(
        "cache.mac_key_file",
        None,
        "a file with the key that signs values in Redis, at least 32 bytes; a random one in the \
            database, if not set",
    ),
    key("cache.near_entries", Some("100000"), "sessions cached in the process; 0 = none"),
    key(
        "coherence.max_staleness_ms",
        Some("500"),
        "how long after a poll of the revocation log a node serves what it has cached, 50 to \
            10000: what a revocation waits for at most",
    ),
    key(
        "coherence.poll_ms",
        Some("100"),
        "how often a node polls the revocation log, 10 to half of `coherence.max_staleness_ms`",
    ),
    secret("auth.jwt.hs256_secret", "secret of HS256 tokens, at least 32 bytes"),
    key("auth.jwt.hs256_secret_file", None, "a file that holds `auth.jwt.hs256_secret`"),
    key(
        "auth.jwt.public_key_file",
        None,
        "PEM file with the public key of RS256, ES256 or EdDSA tokens",
    ),
    key("auth.jwt.jwks_file", None, "JWK Set file with public keys"),
    url(
        "auth.jwt.jwks_url",
        None,
        "where the issuer publishes its JWK Set: `https://`, or `http://` on loopback",
    ),
    key(
        "auth.jwt.issuer",
        None,
        "accepted `iss`; any, if not set. Several issuers are tables `[[auth.issuers]]`",
    ),
    key("auth.jwt.audience", None, "accepted `aud`, comma separated; any, if not set"),
    key(
        "auth.jwt.subject",
        Some("uuid"),
        "how `sub` names a user: `uuid`, or `uuid5`: any text, made a UUID of together with `iss`",
    ),
    key("auth.jwt.session_claim", Some("sid"), "the claim with the caller's session id"),
    key(
        "auth.jwt.types",
        Some("at+jwt,jwt"),
        "accepted `typ` headers, comma separated; a token without one counts as `jwt`",
    ),
    key(
        "auth.service_keys",
        None,
        "named service keys, as tables with `name`, `sha256` and `scopes`, or as \
            `name:sha256:read+write`, comma separated",
    ),
    key(
        "auth.service_key_hashes",
        None,
        "SHA-256 of each unnamed service key, hex, comma separated; all scopes",
    ),
    key(
        "auth.cookie.name",
        Some("__Host-session"),
        "name of the cookie that holds a session token",
    ),
    key(
        "auth.rotation_grace",
        Some("10s"),
        "how long a session token is still good after it was replaced, 0s to 1h",
    ),
    key(
        "auth.on_token_reuse",
        Some("report"),
        "what happens when a replaced token is used after that, beside the event: `report`: \
            nothing, or `revoke`: the session is revoked",
    ),
    key(
        "sessions.preset",
        None,
        "time-outs of an assurance level of NIST SP 800-63B: `aal1`, `aal2` or `aal3`",
    ),
    key("sessions.lifetime", Some("30d"), "how long a session lives at most"),
    key("sessions.idle_timeout", None, "idle time-out; none, if not set, or `none`"),
    key(
        "sessions.sliding",
        Some("false"),
        "`true`: sliding expiration: activity extends the lifetime, once less than half is left",
    ),
    key(
        "sessions.max_per_user",
        None,
        "live sessions a user may have, 1 to 1000, unless `max_sessions` of a sign-in says \
            otherwise; no limit, if not set",
    ),
    key(
        "sessions.on_limit",
        Some("evict-oldest"),
        "what happens at the limit: `evict-oldest` or `deny`",
    ),
    key(
        "limits.user_rate",
        Some("200"),
        "requests a second of one user, beside reads of their own session; 0: no limit",
    ),
    key("limits.user_burst", Some("2000"), "requests of one user at once, after a pause"),
    key(
        "limits.peer_failure_rate",
        Some("50"),
        "failed authentications a second of one address; 0: no limit",
    ),
    key(
        "limits.peer_failure_burst",
        Some("1000"),
        "failed authentications of one address at once, after a pause",
    ),
    key(
        "limits.in_flight",
        Some("2048"),
        "requests that a listener works on at a time; 0: no limit",
    ),
    key(
        "limits.connections_per_address",
        None,
        "connections of one address to the public listener, 1 to 1000000, but of trusted proxies; \
            half of all, if not set",
    ),
    key(
        "activity.window",
        Some("60s"),
        "how long the use of a session is kept before it is written, at most",
    ),
    key(
        "cleanup.interval",
        Some("1h"),
        "how often expired and revoked sessions are purged; `0s`: never",
    ),
    key("cleanup.retention", Some("30d"), "how long terminated sessions, and events, are kept"),
    key(
        "enrich.geoip_file",
        None,
        "file in the MaxMind DB format with the locations of addresses; no locations, if not set",
    ),
    secret("client.service_key", "service key that the command line uses"),
    key("client.service_key_file", None, "a file that holds `client.service_key`"),
    key(
        "log.level",
        Some("info"),
        "`error`, `warn`, `info`, `debug`, `trace`, or a filter such as \
            `info,sessiond::http=debug`",
    ),
    key("log.format", Some("text"), "`text` or `json`"),
];

/// What stands in front of the keys of one issuer, which a table `[[auth.issuers]]` has without it.
pub(super) const ISSUER: &str = "auth.jwt.";

/// The time-outs of an assurance level, NIST SP 800-63B-4: the overall time-out (a lifetime) and
/// the inactivity time-out.
pub(super) struct Preset {
    /// The value of `sessions.preset`.
    pub(super) name: &'static str,
    /// What `sessions.lifetime` is then, at most.
    pub(super) lifetime: &'static str,
    /// What `sessions.idle_timeout` is then, at most.
    pub(super) idle_timeout: Option<&'static str>,
}

/// Sections 2.1.3, 2.2.3 and 2.3.3 there.
pub(super) const PRESETS: &[Preset] = &[
    Preset { name: "aal1", lifetime: "30d", idle_timeout: None },
    Preset { name: "aal2", lifetime: "24h", idle_timeout: Some("1h") },
    Preset { name: "aal3", lifetime: "12h", idle_timeout: Some("15m") },
];
