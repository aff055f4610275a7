//! PostgreSQL and Redis, by configuration alone; and what happens when they fail.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use testkit::TemporaryDir;
use testkit::servers::{PostgresServer, RedisCluster, RedisServer, TestDatabase, free_port};

use crate::openssl;
use sessiond_tests::node::{ALICE, Node, Reply, but_for_use, run, sessiond};

const MISS: &str = "sessiond; fwd=miss; detail=database";
const HIT: &str = "sessiond; hit; detail=redis";

async fn start(database: &TestDatabase, redis: &str) -> Node {
    // Without the near cache, so that what Redis does is seen.
    let near = ("SESSIOND_CACHE__NEAR_ENTRIES", "0");
    Node::start(&[("SESSIOND_STORE__URL", &database.url()), ("SESSIOND_CACHE__URL", redis), near])
        .await
}

/// Reads as the end user until Redis serves it.
async fn read_from_redis(node: &Node, session: &str, token: &str) -> Reply {
    let started = Instant::now();
    loop {
        let reply = node.read(session, token).await;
        assert_eq!(reply.status, 200);
        if reply.cache_status == HIT {
            return reply;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "Redis is not used");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn outcome(reply: &Reply) -> (u16, &str) {
    (reply.status, &reply.cache_status)
}

#[tokio::test]
async fn the_first_read_asks_the_database_and_the_second_redis() {
    let database = PostgresServer::shared().database();
    let redis = RedisServer::start();
    let node = start(&database, &redis.url()).await;
    let session = node.create(ALICE).await;
    let token = node.mint(ALICE, &session);

    let first = node.read(&session, &token).await;
    assert_eq!(outcome(&first), (200, MISS));
    let by_service = node.read_from_cache(&session, ALICE, "redis").await;
    assert_eq!(by_service.body["id"], session.as_str());
    let second = read_from_redis(&node, &session, &token).await;
    assert_eq!(but_for_use(first.body), but_for_use(second.body));
    assert_eq!(
        database.psql("SELECT host(ip_address), user_agent FROM sessions"),
        "192.0.2.7|curl/8.0"
    );
}

/// What a read is authorised by.
#[derive(Clone, Copy)]
enum By {
    ServiceKey,
    Jwt,
    SessionToken,
}

/// How often the table of sessions was scanned by a node that served the same read this many times,
/// without what writes of activity scan.
async fn scans(reads: usize, near_entries: &str, by: By) -> u64 {
    let database = PostgresServer::shared().database();
    let near = ("SESSIOND_CACHE__NEAR_ENTRIES", near_entries);
    let never = ("SESSIOND_CLEANUP__INTERVAL", "0s");
    // However busy this machine is, a poll is served within this.
    let staleness = ("SESSIOND_COHERENCE__MAX_STALENESS_MS", "10000");
    let mut node =
        Node::start(&[("SESSIOND_STORE__URL", &database.url()), near, never, staleness]).await;
    let body = json!({ "user_id": ALICE, "ip_address": "127.0.0.1", "issue_token": true });
    let (_, created) = node.service(Method::POST, "sessions", body).await;
    let text = |field: &str| created[field].as_str().unwrap().to_owned();
    let session = text("id");
    for _ in 0..reads {
        let read = match by {
            By::ServiceKey => node.service_read(&session, ALICE).await,
            By::Jwt => node.read("current", &node.mint(ALICE, &session)).await,
            By::SessionToken => node.read("current", &text("token")).await,
        };
        assert_eq!(read.status, 200);
    }
    // PostgreSQL counts what a connection did when that ends, at the latest.
    node.stop();
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND application_name = 'sessiond'";
    let stopped = Instant::now();
    while database.psql(connections) != "0" {
        assert!(stopped.elapsed() < Duration::from_secs(10), "connections outlive their node");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Activity is written now or at the end, once or twice; each write of it scans the table twice.
    let scans = "SELECT seq_scan + coalesce(idx_scan, 0) - 2 * n_tup_upd FROM pg_stat_user_tables \
        WHERE relname = 'sessions'";
    database.psql(scans).parse().unwrap()
}

#[tokio::test]
async fn read_is_one_database_query_by_any_credential_and_none_while_it_is_cached() {
    for by in [By::ServiceKey, By::Jwt, By::SessionToken] {
        let one = scans(1, "0", by).await;
        assert_eq!(scans(11, "0", by).await, one + 10);
        assert_eq!(scans(11, "1000", by).await, one);
    }
}

#[tokio::test]
async fn a_cluster_of_three_masters_serves_the_same() {
    let database = PostgresServer::shared().database();
    let cluster = RedisCluster::start();
    let node = start(&database, &cluster.url()).await;
    for _ in 0..20 {
        let session = node.create(ALICE).await;
        assert_eq!(outcome(&node.service_read(&session, ALICE).await), (200, MISS));
        node.read_from_cache(&session, ALICE, "redis").await;
    }
    assert!(cluster.nodes().iter().all(|node| node.cli(&["DBSIZE"]) != "0"));
}

#[tokio::test]
async fn redis_is_spoken_to_over_tls_where_its_certificate_is_trusted_and_not_where_it_is_not() {
    let (database, dir, port) =
        (PostgresServer::shared().database(), TemporaryDir::new(), free_port());
    let certificates = openssl::certificates(dir.path());
    let port_text = port.to_string();
    let settings = ["--tls-port", &port_text, "--tls-auth-clients", "no"];
    let files = ["--tls-cert-file", &certificates.certificate, "--tls-key-file", &certificates.key];
    let _redis = RedisServer::start_with(&[&settings[..], &files].concat());
    let store = database.url();
    let cache = format!("rediss://127.0.0.1:{port}");
    let urls = [
        ("SESSIOND_STORE__URL", store.as_str()),
        ("SESSIOND_CACHE__URL", cache.as_str()),
        ("SESSIOND_CACHE__NEAR_ENTRIES", "0"),
    ];

    let node =
        Node::start(&[&urls[..], &[("SSL_CERT_FILE", &certificates.authority)]].concat()).await;
    let session = node.create(ALICE).await;
    assert_eq!(outcome(&node.service_read(&session, ALICE).await), (200, MISS));
    node.read_from_cache(&session, ALICE, "redis").await;

    let refused = run(&mut sessiond(dir.path(), &urls));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(message.contains("error: cache.url: no trusted TLS connection to Redis"), "{message}");
}

/// `kill -STOP` of Redis under load: every read is served all the while, and from Redis again
/// afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_redis_is_a_slower_response_and_never_an_error() {
    let database = PostgresServer::shared().database();
    let redis = RedisServer::start();
    let node = Arc::new(start(&database, &redis.url()).await);
    let session = node.create(ALICE).await;
    let token = node.mint(ALICE, &session);
    read_from_redis(&node, &session, &token).await;

    redis.signal("STOP");
    let until = Instant::now() + Duration::from_secs(3);
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let node = node.clone();
            let session = session.clone();
            let token = token.clone();
            tokio::spawn(async move {
                let mut took = Vec::new();
                while Instant::now() < until {
                    let started = Instant::now();
                    assert_eq!(outcome(&node.read(&session, &token).await), (200, MISS));
                    took.push(started.elapsed());
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for reader in readers {
        took.extend(reader.await.unwrap());
    }
    took.sort();
    assert!(took.len() > 100, "{} reads", took.len());
    // 30 ms of Redis and a query of the database; the rest is room for a busy machine.
    let p95 = took[took.len() * 95 / 100];
    let slowest = took[took.len() - 1];
    assert!(
        p95 < Duration::from_millis(500),
        "95 % took less than {p95:?}, the slowest {slowest:?}"
    );
    let metrics = node.page("/metrics").await.1;
    assert!(metrics.contains("sessiond_cache_up 0"), "{metrics}");
    let ready = node.page("/readyz").await;
    assert!(ready.0 == 200 && ready.1.contains("\"cache\":\"down\""), "{ready:?}");

    redis.signal("CONT");
    read_from_redis(&node, &session, &token).await;
    assert!(node.page("/metrics").await.1.contains("sessiond_cache_up 1"));
}

#[tokio::test]
async fn a_killed_redis_is_used_again_without_a_restart() {
    let database = PostgresServer::shared().database();
    let redis = RedisServer::start();
    let node = start(&database, &redis.url()).await;
    let session = node.create(ALICE).await;
    let token = node.mint(ALICE, &session);
    redis.signal("KILL");
    for _ in 0..20 {
        assert_eq!(outcome(&node.read(&session, &token).await), (200, MISS));
    }
    let _back = RedisServer::start_on(redis.port(), &[]);
    read_from_redis(&node, &session, &token).await;
}

/// A database that hangs, and one that is gone: 503 with `Retry-After`, never 401 or 404, and well
/// again by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_database_is_503_and_neither_logged_out_nor_not_found() {
    let server = Arc::new(PostgresServer::start());
    let redis = RedisServer::start();
    let database = server.database();
    let node = start(&database, &redis.url()).await;
    let cached = node.create(ALICE).await;
    let uncached = node.create(ALICE).await;
    let cached_token = node.mint(ALICE, &cached);
    let uncached_token = node.mint(ALICE, &uncached);
    node.read(&cached, &cached_token).await;

    server.signal("STOP");
    // Whether cached sessions were revoked meanwhile is known for max_staleness; then it is not.
    tokio::time::sleep(Duration::from_millis(600)).await;
    for _ in 0..2 {
        for (session, token) in
            [(&cached, &cached_token), (&uncached, &uncached_token), (&uncached, &cached_token)]
        {
            let started = Instant::now();
            let reply = node.read(session, token).await;
            assert_eq!(
                (reply.status, reply.body["code"].as_str()),
                (503, Some("dependency_unavailable"))
            );
            assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
        }
    }
    let (status, readiness) = node.page("/readyz").await;
    assert!(
        status == 503 && readiness.contains("\"cached_sessions\":\"poll_too_old\""),
        "{readiness}"
    );
    assert_eq!(node.page("/livez").await.0, 200);
    let address = node.service.trim_start_matches("http://");
    let settings =
        [("SESSIOND_SERVER__SERVICE_LISTEN", address), ("SESSIOND_STORE__URL", &database.url())];
    let mut doctor = sessiond(node.dir.path(), &settings);
    let text = String::from_utf8(run(doctor.arg("doctor")).stdout).unwrap();
    assert!(
        text.contains("FAILED  caches") && text.contains("cannot poll the revocation log"),
        "{text}"
    );

    server.signal("CONT");
    let healed = Instant::now();
    while node.read(&uncached, &uncached_token).await.status != 200 {
        assert!(healed.elapsed() < Duration::from_secs(5), "not well again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let log = node.log();
    assert!(log.contains("a dependency is unavailable"), "{log}");
    assert!(!log.contains(&cached_token), "a token in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_start_at_once_on_an_empty_database() {
    let database = PostgresServer::shared().database();
    let url = database.url();
    let nodes: Vec<_> = (0..5)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { Node::start(&[("SESSIOND_STORE__URL", &url)]).await })
        })
        .collect();
    let mut started = Vec::new();
    for node in nodes {
        started.push(node.await.unwrap());
    }
    let session = started[0].create(ALICE).await;
    for node in &started {
        assert_eq!(outcome(&node.service_read(&session, ALICE).await), (200, MISS));
        node.read_from_cache(&session, ALICE, "near").await;
    }
}

/// An alert on a rate sees nothing of a counter that appears with the first error. Only requests
/// are counted from the first one on: their labels are not known before.
#[tokio::test]
async fn every_documented_metric_is_there_before_anything_has_happened() {
    let database = PostgresServer::shared().database();
    let redis = RedisServer::start();
    let node = start(&database, &redis.url()).await;
    let manual = sessiond_tests::repository::read("docs/operating.md");
    let documented = manual.lines().filter_map(|line| line.strip_prefix("| `sessiond_"));
    let names = documented.map(|row| row.split(['`', '{']).next().unwrap().to_owned());
    let names: BTreeSet<_> = names.filter(|name| !name.starts_with("http_request")).collect();
    assert!(names.len() > 15, "{names:?}");
    // Gauges of what is not known yet: an issuer's keys, and the first cleanup.
    let unknown = ["cleanup_backlog", "jwks_age_seconds"];
    let missing = async || {
        let metrics = node.page("/metrics").await.1;
        let is_missing = |name: &&String| {
            let plain = format!("\nsessiond_{name} ");
            let labelled = format!("\nsessiond_{name}{{");
            !metrics.contains(&plain)
                && !metrics.contains(&labelled)
                && !unknown.contains(&name.as_str())
        };
        names.iter().filter(is_missing).cloned().collect::<Vec<_>>()
    };
    let started = Instant::now();
    while !missing().await.is_empty() {
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", missing().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
