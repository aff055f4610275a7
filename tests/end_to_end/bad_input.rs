//! What is wrong is said in one line that names it and what to do, with exit status 1 or 2, and
//! without secrets.

use std::path::Path;
use std::sync::Arc;

use testkit::TemporaryDir;
use testkit::servers::{PostgresServer, RedisServer, free_port};

use sessiond_tests::node::{ALICE, Node, run, sessiond};

/// Runs a command that must fail, and returns its one line.
fn fails(dir: &Path, settings: &[(&str, &str)], arguments: &[&str]) -> String {
    let output = run(sessiond(dir, settings).args(arguments));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{:?}: {text}", output.status);
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!text.contains("panicked") && !text.contains("backtrace"), "{text}");
    // The log may have said what happened before.
    let errors: Vec<_> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert_eq!(text.lines().last(), errors.last().copied(), "{text}");
    errors[0].to_owned()
}

fn serve_fails(settings: &[(&str, &str)]) -> String {
    fails(TemporaryDir::new().path(), settings, &[])
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
}

#[test]
fn configuration() {
    assert_says(
        &serve_fails(&[("SESSIOND_STORE__UTL", "x")]),
        &["store.utl", "SESSIOND_STORE__UTL", "did you mean SESSIOND_STORE__URL?"],
    );
    assert_says(
        &serve_fails(&[("SESSIOND_SERVER__LISTEN", "8080")]),
        &["server.listen", "such as 127.0.0.1:8080"],
    );
    assert_says(
        &serve_fails(&[("SESSIOND_STORE__POOL_SIZE", "0")]),
        &["store.pool_size", "from 1 to 1000"],
    );
    assert_says(
        &serve_fails(&[("SESSIOND_SESSIONS__LIFETIME", "soon")]),
        &["sessions.lifetime", "such as 30d"],
    );
    assert_says(
        &serve_fails(&[("SESSIOND_SESSIONS__ON_LIMIT", "ask")]),
        &["sessions.on_limit", "evict-oldest or deny"],
    );
    assert_says(&serve_fails(&[("SESSIOND_LOG__FORMAT", "xml")]), &["log.format", "text or json"]);
    assert_says(
        &serve_fails(&[("SESSIOND_STORE__URL", "mysql://u:s3cret@h/d")]),
        &["store.url", "postgres://"],
    );
    assert_says(
        &serve_fails(&[("SESSIOND_CACHE__URL", "memcached://h")]),
        &["cache.url", "redis-cluster"],
    );
    let message = serve_fails(&[("SESSIOND_AUTH__JWT__HS256_SECRET", "s3cret")]);
    assert_says(&message, &["auth.jwt.hs256_secret", "32 bytes", "openssl rand"]);
    assert!(!message.contains("s3cret"), "{message}");
    assert_says(
        &serve_fails(&[("SESSIOND_AUTH__SERVICE_KEY_HASHES", "abc")]),
        &["auth.service_key_hashes", "sha256sum"],
    );
    assert_says(
        &serve_fails(&[("SESSIOND_AUTH__JWT__JWKS_URL", "http://id.example/keys")]),
        &["auth.jwt.jwks_url", "https://"],
    );

    let dir = TemporaryDir::new();
    assert_says(
        &fails(dir.path(), &[], &["--config", "absent.toml"]),
        &["absent.toml", "No such file"],
    );
    std::fs::write(dir.path().join("sessiond.toml"), "[server]\nlisten = \n").unwrap();
    assert_says(
        &fails(dir.path(), &[], &["config", "show"]),
        &["cannot read the configuration", "sessiond.toml"],
    );
}

#[test]
fn policies() {
    for (settings, says) in [
        (
            &[("SESSIOND_SESSIONS__PRESET", "aal4")][..],
            &["sessions.preset", "aal1, aal2 or aal3"][..],
        ),
        (
            &[("SESSIOND_SESSIONS__PRESET", "aal2"), ("SESSIOND_SESSIONS__LIFETIME", "25h")],
            &["sessions.lifetime", "at most 24h"],
        ),
        (
            &[("SESSIOND_SESSIONS__PRESET", "aal3"), ("SESSIOND_SESSIONS__IDLE_TIMEOUT", "none")],
            &["sessions.idle_timeout", "at most 15m"],
        ),
        (
            &[("SESSIOND_SESSIONS__PRESET", "aal1"), ("SESSIOND_SESSIONS__SLIDING", "true")],
            &["sessions.sliding", "must be false"],
        ),
        (&[("SESSIOND_SESSIONS__IDLE_TIMEOUT", "soon")], &["sessions.idle_timeout", "such as 30d"]),
        (&[("SESSIOND_CLEANUP__RETENTION", "-1d")], &["cleanup.retention", "such as 30d"]),
        (
            &[("SESSIOND_SERVER__TRUSTED_PROXIES", "10.0.0.0/33")],
            &["server.trusted_proxies", "must be networks"],
        ),
        (&[("SESSIOND_ENRICH__GEOIP_FILE", "absent.mmdb")], &["enrich.geoip_file", "absent.mmdb"]),
    ] {
        assert_says(&serve_fails(settings), says);
    }
    let dir = TemporaryDir::new();
    let output = run(
        sessiond(dir.path(), &[("SESSIOND_SESSIONS__PRESET", "aal3")]).args(["config", "show"])
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |key: &str| {
        text.lines()
            .find(|line| line.starts_with(key))
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
    };
    assert_eq!(row("sessions.lifetime"), ["sessions.lifetime", "12h", "(sessions.preset)"]);
    assert_eq!(row("sessions.idle_timeout"), ["sessions.idle_timeout", "15m", "(sessions.preset)"]);
}

#[test]
fn key_files() {
    let dir = TemporaryDir::new();
    std::fs::write(dir.path().join("text"), "nothing of a key").unwrap();
    for (name, key) in [
        ("SESSIOND_AUTH__JWT__PUBLIC_KEY_FILE", "auth.jwt.public_key_file"),
        ("SESSIOND_AUTH__JWT__JWKS_FILE", "auth.jwt.jwks_file"),
        ("SESSIOND_AUTH__JWT__HS256_SECRET_FILE", "auth.jwt.hs256_secret"),
    ] {
        assert_says(&fails(dir.path(), &[(name, "absent")], &[]), &[key, "absent", "No such file"]);
        assert_says(&fails(dir.path(), &[(name, "text")], &[]), &[key]);
    }
    assert_says(
        &fails(dir.path(), &[], &["token", "mint", "--user", ALICE, "--session", ALICE]),
        &["no development key"],
    );
}

#[test]
fn development_keys_stay_on_loopback() {
    let secret = ("SESSIOND_AUTH__JWT__HS256_SECRET", "0123456789abcdef0123456789abcdef");
    for setting in [("SESSIOND_SERVER__LISTEN", "0.0.0.0:0"), ("SESSIOND_SERVER__LISTEN", "[::]:0")]
    {
        assert_says(&serve_fails(&[setting]), &["server.listen", "not loopback", "auth.jwt"]);
    }
    let service = ("SESSIOND_SERVER__SERVICE_LISTEN", "0.0.0.0:0");
    assert_says(
        &serve_fails(&[secret, service]),
        &["server.service_listen", "not loopback", "auth.service_keys"],
    );
}

#[tokio::test]
async fn a_port_in_use() {
    let node = Node::start(&[]).await;
    let taken = node.public.trim_start_matches("http://");
    assert_says(
        &serve_fails(&[("SESSIOND_SERVER__LISTEN", taken)]),
        &["server.listen", taken, "in use"],
    );
}

#[tokio::test]
async fn databases() {
    let server = Arc::new(PostgresServer::start());
    let database = server.database();
    let url = |url: &str| serve_fails(&[("SESSIOND_STORE__URL", url)]);

    let message = url(&database.tcp_url("tr0ub4dor"));
    assert_says(&message, &["store.url", "password authentication failed"]);
    assert!(!message.contains("tr0ub4dor"), "{message}");
    assert_says(
        &url(&format!("postgres://127.0.0.1:{}/x", free_port())),
        &["store.url", "cannot connect", "refused"],
    );
    assert_says(
        &url(&format!("{}_absent", database.tcp_url_with_password())),
        &["store.url", "does not exist"],
    );
    assert_says(&url("postgres://h:nonsense/x"), &["store.url", "not a PostgreSQL URL"]);
    assert_says(&url("sqlite://absent/sessiond.db"), &["store.url", "no folder absent", "make it"]);

    let migrate =
        run(sessiond(TemporaryDir::new().path(), &[("SESSIOND_STORE__URL", &database.url())])
            .arg("migrate"));
    assert!(migrate.status.success());
    let version = database.psql("SELECT version FROM sessiond_schema");
    let expected = format!("schema version {version} (the database was empty)\n");
    assert_eq!(String::from_utf8_lossy(&migrate.stdout), expected);
    database.psql("UPDATE sessiond_schema SET version = 99, oldest_able = 99");
    let store = [("SESSIOND_STORE__URL", database.url())];
    let store = [(store[0].0, store[0].1.as_str())];
    for arguments in [&[][..], &["migrate"]] {
        let dir = TemporaryDir::new();
        assert_says(
            &fails(dir.path(), &store, arguments),
            &["store.url", "schema version 99", "install a newer sessiond"],
        );
    }
}

#[tokio::test]
async fn redis_credentials() {
    let redis = RedisServer::start_with(&["--requirepass", "right"]);
    let url = format!("redis://:wr0ng@127.0.0.1:{}", redis.port());
    let message = serve_fails(&[("SESSIOND_CACHE__URL", &url)]);
    assert_says(&message, &["cache.url", "refused the credentials"]);
    assert!(!message.contains("wr0ng"), "{message}");
}

#[test]
fn usage() {
    let dir = TemporaryDir::new();
    for arguments in [
        &["nonsense"][..],
        &["session", "get"],
        &["session", "get", "no-uuid"],
        &["serve", "--port", "1"],
    ] {
        let output = run(sessiond(dir.path(), &[]).args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "{arguments:?}");
    }
    // A word about how to go on where there is no node.
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    std::fs::write(dir.path().join("key"), "x".repeat(32)).unwrap();
    let settings = [("SESSIOND_CLIENT__SERVICE_KEY_FILE", "key")];
    let message = fails(dir.path(), &settings, &["session", "get", ALICE, "--url", &url]);
    assert_says(&message, &["no sessiond responds", &url, "sessiond serve"]);
}

#[test]
fn doctor_finds_what_is_wrong() {
    let dir = TemporaryDir::new();
    let store = format!("postgres://u:s3cret@127.0.0.1:{}/x", free_port());
    let cache = format!("redis://:s3cret@127.0.0.1:{}", free_port());
    let settings =
        [("SESSIOND_STORE__URL", store.as_str()), ("SESSIOND_CACHE__URL", cache.as_str())];
    let output = run(sessiond(dir.path(), &settings).arg("doctor"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_says(&text, &["FAILED  database", "refused", "FAILED  redis"]);
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn config_show_hides_secrets() {
    let dir = TemporaryDir::new();
    let settings = [
        ("SESSIOND_STORE__URL", "postgres://user:s3cret@host/db"),
        ("SESSIOND_CACHE__URL", "redis://:s3cret@host"),
        ("SESSIOND_AUTH__JWT__HS256_SECRET", "s3cret-s3cret-s3cret-s3cret-s3cret"),
        ("SESSIOND_CLIENT__SERVICE_KEY", "s3cret"),
    ];
    for arguments in [&["config", "show"][..], &["config", "show", "--json"]] {
        let output = run(sessiond(dir.path(), &settings).args(arguments));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert!(!text.contains("s3cret"), "{text}");
        assert_says(
            &text,
            &["postgres://user:(hidden)@host/db", "SESSIOND_STORE__URL", "sessions.lifetime"],
        );
    }
}
