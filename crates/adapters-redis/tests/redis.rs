//! What only Redis can show: keys, expiry, poisoned values, a server that dies, hangs or refuses,
//! and a cluster.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use adapters_redis::{OpenError, RedisSessionCache};
use chrono::TimeDelta;
use domain::Session;
use domain::ports::{HealthCheck, Layer, PortError, SessionCache, SessionKey};
use testkit::servers::{RedisCluster, RedisSentinel, RedisServer, free_port};
use testkit::{TemporaryDir, fixtures};

async fn open(url: &str) -> RedisSessionCache {
    RedisSessionCache::open(url, "sess:", &[7; 32], fixtures::clock()).await.unwrap()
}

async fn hits(cache: &RedisSessionCache, session: &Session) -> bool {
    cache.get(session.id, session.user_id).await.is_some()
}

/// Waits until the cache has the session, setting it repeatedly as reads do.
async fn assert_used_again(cache: &RedisSessionCache, session: &Arc<Session>, within: Duration) {
    let started = Instant::now();
    while !hits(cache, session).await {
        assert!(started.elapsed() < within, "not used again within {within:?}");
        cache.set(session, &fixtures::read_version()).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_entry_is_small_and_expires_with_its_session_or_after_ten_minutes() {
    let server = RedisServer::start();
    let cache = open(&server.url()).await;
    let long = Arc::new(fixtures::session());
    cache.set(&long, &fixtures::read_version()).await;
    let ttl: i64 = server
        .cli(&["EVAL", "return redis.call('PTTL', redis.call('KEYS', 'sess:*')[1])", "0"])
        .parse()
        .unwrap();
    assert!((540_000..=600_000).contains(&ttl), "{ttl}");
    let bytes =
        server.cli(&["EVAL", "return redis.call('STRLEN', redis.call('KEYS', 'sess:*')[1])", "0"]);
    assert!(bytes.parse::<usize>().unwrap() <= 512, "{bytes}");
    assert_eq!(cache.get(long.id, long.user_id).await.unwrap().layer, Layer::Shared);

    server.cli(&["FLUSHALL"]);
    cache
        .set(
            &Arc::new(Session {
                expires_at: fixtures::now() + TimeDelta::seconds(5),
                ..fixtures::session()
            }),
            &fixtures::read_version(),
        )
        .await;
    let ttl: i64 = server
        .cli(&["EVAL", "return redis.call('PTTL', redis.call('KEYS', 'sess:*')[1])", "0"])
        .parse()
        .unwrap();
    assert!((4_000..=5_000).contains(&ttl), "{ttl}");

    server.cli(&["FLUSHALL"]);
    cache
        .set(
            &Arc::new(Session { expires_at: fixtures::now(), ..fixtures::session() }),
            &fixtures::read_version(),
        )
        .await;
    assert_eq!(server.cli(&["DBSIZE"]), "0");
}

#[tokio::test]
async fn poisoned_values_are_misses() {
    let server = RedisServer::start();
    let cache = open(&server.url()).await;
    let session = Arc::new(fixtures::session());
    cache.set(&session, &fixtures::read_version()).await;
    let poison = "local key = redis.call('KEYS', 'sess:*')[1] redis.call('DEL', key) ";
    for value in [
        "redis.call('SET', key, '')",
        "redis.call('SET', key, '{\"is_revoked\": false}')",
        "redis.call('SET', key, '\\1' .. string.rep('\\255', 200))",
        "redis.call('SET', key, string.rep('x', 1000000))",
        "redis.call('LPUSH', key, 'wrong type')",
    ] {
        cache.set(&session, &fixtures::read_version()).await;
        server.cli(&["EVAL", &format!("{poison} {value}"), "0"]);
        assert!(!hits(&cache, &session).await, "{value}");
        // It is no reason to distrust Redis: the next response is accepted again.
        server.cli(&["FLUSHALL"]);
        cache.set(&session, &fixtures::read_version()).await;
        assert!(hits(&cache, &session).await, "{value}");
    }
}

#[tokio::test]
async fn a_killed_server_is_a_miss_at_once_and_used_again() {
    let server = RedisServer::start();
    let port = server.port();
    let cache = open(&server.url()).await;
    let session = Arc::new(fixtures::session());
    cache.set(&session, &fixtures::read_version()).await;
    assert!(hits(&cache, &session).await);

    server.signal("KILL");
    let mut slow = 0;
    for _ in 0..50 {
        let started = Instant::now();
        assert!(!hits(&cache, &session).await);
        cache.set(&session, &fixtures::read_version()).await;
        slow += u32::from(started.elapsed() > Duration::from_millis(60));
    }
    // What a busy machine adds.
    assert!(slow <= 5, "{slow} of 50 calls waited");
    assert!(cache.check().await.is_err());

    let _back = RedisServer::start_on(port, &[]);
    assert_used_again(&cache, &session, Duration::from_secs(5)).await;
    assert!(cache.check().await.is_ok());
}

#[tokio::test]
async fn a_stopped_server_costs_one_budget_until_the_breaker_opens_and_then_nothing() {
    let server = RedisServer::start();
    let cache = open(&server.url()).await;
    let session = Arc::new(fixtures::session());
    cache.set(&session, &fixtures::read_version()).await;

    server.signal("STOP");
    let mut slow = 0;
    let mut too_slow = 0;
    for _ in 0..200 {
        let started = Instant::now();
        assert!(!hits(&cache, &session).await);
        cache.set(&session, &fixtures::read_version()).await;
        slow += u32::from(started.elapsed() > Duration::from_millis(20));
        too_slow += u32::from(started.elapsed() > Duration::from_millis(60));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Five until the breaker opens, a probe each 250 ms of the second or so that this takes, and
    // what a busy machine adds.
    assert!(slow <= 40, "{slow} of 200 calls waited");
    assert!(too_slow <= 10, "{too_slow} of 200 calls waited for longer than their budget");

    server.signal("CONT");
    assert_used_again(&cache, &session, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_redis_that_is_not_there_yet_is_used_when_it_comes() {
    let port = free_port();
    let cache = open(&format!("redis://127.0.0.1:{port}")).await;
    let session = Arc::new(fixtures::session());
    assert!(!hits(&cache, &session).await);
    assert!(cache.check().await.is_err());

    let _server = RedisServer::start_on(port, &[]);
    assert_used_again(&cache, &session, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_full_server_refuses_writes_and_reads_go_on() {
    let server = RedisServer::start();
    let cache = open(&server.url()).await;
    let first = Arc::new(fixtures::session());
    let second = Arc::new(fixtures::session_number(2));
    cache.set(&first, &fixtures::read_version()).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    for _ in 0..10 {
        cache.set(&second, &fixtures::read_version()).await;
        assert!(hits(&cache, &first).await);
    }
    assert!(!hits(&cache, &second).await);
}

/// Runs an `ACL SETUSER` line without these rights, and returns the URL of its user.
fn set_user(server: &RedisServer, line: &str, without: &[&str]) -> String {
    let words: Vec<_> = line.split_whitespace().filter(|word| !without.contains(word)).collect();
    assert_eq!(server.cli(&words), "OK", "{line}");
    format!("redis://{}:secret@127.0.0.1:{}/0", words[2], server.port())
}

/// The line of the manual that sets the rights.
fn documented_rights() -> String {
    let manual =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md"))
            .unwrap();
    let line = manual.split('`').find(|code| code.starts_with("ACL SETUSER")).unwrap();
    assert!(manual.contains("`redis://user:password@host:6379/0`"), "the URL that this test uses");
    line.to_owned()
}

#[tokio::test]
async fn it_needs_no_more_rights_than_the_manual_says() {
    let server = RedisServer::start();
    let cache = open(&set_user(&server, &documented_rights(), &[])).await;
    let session = Arc::new(fixtures::session());
    cache.set(&session, &fixtures::read_version()).await;
    assert!(hits(&cache, &session).await);
    assert!(cache.check().await.is_ok());
    assert!(cache.inspect().await.unwrap().mget);
    cache.remove(&[SessionKey { id: session.id, user_id: session.user_id }]).await;
    assert!(!hits(&cache, &session).await);
    // fred also asks who it is; what the cache needs is not refused.
    let refused = server.cli(&["ACL", "LOG"]);
    let objects = refused
        .lines()
        .zip(refused.lines().skip(1))
        .filter(|(name, _)| *name == "object")
        .map(|(_, object)| object);
    assert!(objects.clone().all(|object| ["info", "client|id"].contains(&object)), "{refused}");
}

#[tokio::test]
async fn missing_right_stops_the_start_and_is_named() {
    let server = RedisServer::start();
    for right in ["+get", "+set", "+unlink"] {
        let url = set_user(&server, &documented_rights(), &[right]);
        let error = RedisSessionCache::open(&url, "sess:", &[7; 32], fixtures::clock())
            .await
            .err()
            .unwrap();
        assert!(matches!(error, OpenError::Rights(_)), "{right}: {error}");
        let command = right.trim_start_matches('+').to_uppercase();
        assert!(
            error.to_string().contains(&command) && !error.to_string().contains("secret"),
            "{right}: {error}"
        );
        server.cli(&["ACL", "DELUSER", "sessiond"]);
    }
    let url = set_user(&server, &documented_rights(), &["~sess:*"]);
    let error =
        RedisSessionCache::open(&url, "sess:", &[7; 32], fixtures::clock()).await.err().unwrap();
    assert!(matches!(error, OpenError::Rights(_)), "without its keys: {error}");
}

#[tokio::test]
async fn right_that_is_taken_away_makes_the_cache_unready() {
    let server = RedisServer::start();
    let cache = open(&set_user(&server, &documented_rights(), &[])).await;
    assert!(cache.check().await.is_ok());
    server.cli(&["ACL", "SETUSER", "sessiond", "-set"]);
    let error = cache.check().await.unwrap_err();
    assert!(matches!(error, PortError::Corrupt(_)), "it is refused, and not silent: {error}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("SET") && source.contains("NOPERM"), "{source}");
}

/// Concurrent reads, of which many are one `MGET` where there is one.
async fn hits_at_once(cache: &Arc<RedisSessionCache>, count: u64) -> usize {
    let reads: Vec<_> = (0..count)
        .map(|n| {
            let cache = cache.clone();
            let session = fixtures::session_number(n);
            tokio::spawn(async move { hits(&cache, &session).await })
        })
        .collect();
    let mut found = 0;
    for read in reads {
        found += usize::from(read.await.unwrap());
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_mget_concurrent_reads_are_pipelines() {
    let server = RedisServer::start();
    let url = set_user(&server, &documented_rights(), &["+mget"]);
    let refused = Arc::new(open(&url).await);
    // Taken away while it runs: the first batch finds out, and is served all the same.
    let later = Arc::new(open(&server.url()).await);
    server.cli(&["ACL", "SETUSER", "default", "-mget"]);
    for cache in [refused, later] {
        for n in 0..50 {
            cache.set(&Arc::new(fixtures::session_number(n)), &fixtures::read_version()).await;
        }
        for _ in 0..5 {
            assert_eq!(hits_at_once(&cache, 50).await, 50);
        }
        assert!(cache.check().await.is_ok() && !cache.inspect().await.unwrap().mget);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_of_a_healthy_server_opens_no_breaker() {
    let server = RedisServer::start();
    let cache = Arc::new(open(&server.url()).await);
    for n in 0..200 {
        cache.set(&Arc::new(fixtures::session_number(n)), &fixtures::read_version()).await;
    }
    assert_eq!(hits_at_once(&cache, 200).await, 200);
    let connections = || {
        server
            .cli(&["INFO", "stats"])
            .lines()
            .find(|line| line.starts_with("total_connections"))
            .unwrap()
            .to_owned()
    };
    let before: u64 = connections().split(':').nth(1).unwrap().trim().parse().unwrap();
    for _ in 0..5 {
        server.cli(&["CLIENT", "PAUSE", "45", "ALL"]);
        hits_at_once(&cache, 200).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(
            hits(&cache, &fixtures::session()).await
                || hits(&cache, &fixtures::session_number(3)).await
        );
        assert_eq!(hits_at_once(&cache, 50).await, 50, "used again at once");
    }
    let after: u64 = connections().split(':').nth(1).unwrap().trim().parse().unwrap();
    // One for each call of redis-cli here, and none of the cache's.
    assert!(after - before <= 7, "{}", after - before);
}

#[tokio::test]
async fn closing_takes_no_time_where_there_is_no_redis() {
    let absent = open(&format!("redis://127.0.0.1:{}", free_port())).await;
    let server = RedisServer::start();
    let stopped = open(&server.url()).await;
    server.signal("STOP");
    for cache in [absent, stopped] {
        let started = Instant::now();
        cache.close().await;
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
    server.signal("CONT");
}

/// Concurrent look-ups are batched, and each caller gets the session that it asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batched_look_ups_return_the_session_that_each_caller_asked_for() {
    let server = RedisServer::start();
    let cache = Arc::new(open(&server.url()).await);
    for n in 0..50 {
        cache.set(&Arc::new(fixtures::session_number(n)), &fixtures::read_version()).await;
    }
    let mut reads = Vec::new();
    // Each session that is there, and each that is not, several times.
    for n in (0..100).cycle().take(1000) {
        let cache = cache.clone();
        let session = fixtures::session_number(n);
        reads.push((
            n,
            session.id,
            tokio::spawn(async move { cache.get(session.id, session.user_id).await }),
        ));
    }
    for (n, id, read) in reads {
        let found = read.await.unwrap();
        assert_eq!(found.map(|cached| cached.session.id), (n < 50).then_some(id));
    }
}

#[tokio::test]
async fn permanent_errors_stop_the_start() {
    let open = async |url: String| {
        RedisSessionCache::open(&url, "sess:", &[7; 32], fixtures::clock()).await.err()
    };
    assert!(matches!(open("http://127.0.0.1".into()).await, Some(OpenError::Url(_))));
    assert!(matches!(open("nonsense".into()).await, Some(OpenError::Url(_))));

    let server = RedisServer::start_with(&["--requirepass", "right"]);
    for url in [server.url(), format!("redis://:wr0ng@127.0.0.1:{}", server.port())] {
        let error = open(url.clone()).await.unwrap_or_else(|| panic!("{url} was let in"));
        assert!(matches!(error, OpenError::Credentials(_)), "{error}");
        assert!(
            !error.to_string().contains("wr0ng") && !error.to_string().contains('\n'),
            "{error}"
        );
    }
    assert!(open(format!("redis://:right@127.0.0.1:{}", server.port())).await.is_none());
}

/// A password is rotated: the cache connects with the new one, and keeps what it has if that fails.
#[tokio::test]
async fn another_url_is_connected_to_before_the_old_connections_are_closed() {
    let server = RedisServer::start_with(&["--requirepass", "first"]);
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}", server.port());
    let cache = open(&url("first")).await;
    let session = Arc::new(fixtures::session());
    assert_used_again(&cache, &session, Duration::from_secs(5)).await;
    server.cli(&["-a", "first", "CONFIG", "SET", "requirepass", "second"]);

    let error = cache.set_url(&url("wrong")).await.unwrap_err();
    assert!(matches!(error, OpenError::Credentials(_)), "{error}");
    assert_used_again(&cache, &session, Duration::from_secs(5)).await;

    cache.set_url(&url("second")).await.unwrap();
    let clients = || server.cli(&["-a", "second", "CLIENT", "LIST"]);
    let started = Instant::now();
    // Two connections of the pool, and the one that lists them.
    while clients().lines().filter(|line| line.starts_with("id=")).count() > 3 {
        assert!(started.elapsed() < Duration::from_secs(5), "{}", clients());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.cli(&["-a", "second", "CLIENT", "KILL", "TYPE", "normal"]);
    assert_used_again(&cache, &session, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn cluster_of_three_masters_caches_sessions_of_every_slot() {
    let cluster = RedisCluster::start();
    let cache = open(&cluster.url()).await;
    let sessions: Vec<_> = (1..=60).map(|n| Arc::new(fixtures::session_number(n))).collect();
    for session in &sessions {
        assert_used_again(&cache, session, Duration::from_secs(5)).await;
    }
    for node in cluster.nodes() {
        assert_ne!(node.cli(&["DBSIZE"]), "0");
    }
}

#[tokio::test]
async fn a_sentinel_is_asked_for_the_master() {
    let sentinel = RedisSentinel::start();
    let cache = open(&sentinel.url()).await;
    let session = Arc::new(fixtures::session());
    cache.set(&session, &fixtures::read_version()).await;
    assert!(hits(&cache, &session).await);
    assert_eq!(sentinel.master().cli(&["DBSIZE"]), "1");
}

#[tokio::test]
async fn a_unix_socket_serves_too() {
    let dir = TemporaryDir::new();
    let socket = dir.path().join("redis.sock").display().to_string();
    let _server = RedisServer::start_with(&["--unixsocket", &socket]);
    let cache = open(&format!("redis+unix://{socket}")).await;
    let session = Arc::new(fixtures::session());
    cache.set(&session, &fixtures::read_version()).await;
    assert!(hits(&cache, &session).await);
}
