//! An acknowledged revocation is final, on every node, even while Redis fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use testkit::servers::{PostgresServer, RedisServer, TestDatabase};

use sessiond_tests::node::{ALICE, Node};

/// `coherence.max_staleness_ms`, as it is by default.
const DELTA: Duration = Duration::from_millis(500);

async fn nodes<const N: usize>(database: &TestDatabase, redis: Option<&RedisServer>) -> [Node; N] {
    let store = database.url();
    let cache = redis.map_or("none".to_owned(), RedisServer::url);
    let settings =
        [("SESSIOND_STORE__URL", store.as_str()), ("SESSIOND_CACHE__URL", cache.as_str())];
    let mut nodes = Vec::new();
    for _ in 0..N {
        nodes.push(Node::start(&settings).await);
    }
    nodes.try_into().unwrap_or_else(|_| panic!("{N} nodes"))
}

/// Ends a session on this node; how long the acknowledgement took.
async fn revoke(node: &Node, session: &str) -> Duration {
    let started = Instant::now();
    assert_eq!(
        node.service(Method::DELETE, &format!("sessions/{session}"), json!({})).await.0,
        204
    );
    started.elapsed()
}

async fn status_of(node: &Node, session: &str) -> String {
    node.service_read(session, ALICE).await.body["status"].as_str().unwrap_or_default().to_owned()
}

/// Both nodes have it in the process and in Redis; whichever revokes it, the other one's next read
/// knows.
#[tokio::test]
async fn no_node_serves_a_revoked_session_as_live_after_the_acknowledgement() {
    let database = PostgresServer::shared().database();
    let redis = RedisServer::start();
    let nodes: [Node; 2] = nodes(&database, Some(&redis)).await;
    let mut hits = 0;
    let mut fast = 0;
    for trial in 0..100 {
        let one = &nodes[trial % 2];
        let other = &nodes[(trial + 1) % 2];
        let session = one.create(ALICE).await;
        for node in [one, other, one, other] {
            let reply = node.service_read(&session, ALICE).await;
            assert_eq!(reply.body["status"], "live");
            hits += usize::from(reply.cache_status.contains("hit"));
        }
        let took = revoke(one, &session).await;
        assert_eq!(status_of(other, &session).await, "revoked", "trial {trial}");
        assert_eq!(status_of(one, &session).await, "revoked", "trial {trial}");
        fast += usize::from(took < DELTA);
    }
    assert!(hits >= 250, "caches served {hits} of 400 reads");
    assert!(fast >= 50, "{fast} of 100 were acknowledged as soon as both nodes knew");
}

/// What broke the original: a node that is paused in the middle of a read goes on after another has
/// revoked the session, and puts what it has read into its caches. A thousand sessions, each of
/// them being read at a random time when the node is paused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_node_does_not_serve_what_it_read_before_a_revocation() {
    const PAUSES: u64 = 25;
    const SESSIONS: usize = 40;
    let database = PostgresServer::shared().database();
    let redis = RedisServer::start();
    let nodes: [Node; 2] = nodes(&database, Some(&redis)).await;
    let nodes = Arc::new(nodes);
    let mut caught = 0;
    for pause in 0..PAUSES {
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            sessions.push(nodes[0].create(ALICE).await);
        }
        let reading = |session: &String| {
            let nodes = nodes.clone();
            let session = session.clone();
            tokio::spawn(async move {
                let started = Instant::now();
                for _ in 0..3 {
                    nodes[1].service_read(&session, ALICE).await;
                }
                started.elapsed()
            })
        };
        let readings: Vec<_> = sessions.iter().map(reading).collect();
        // Somewhere in those reads.
        tokio::time::sleep(Duration::from_micros(pause * 937 % 20_000)).await;
        nodes[1].signal("STOP");
        let (status, _) =
            nodes[0].service(Method::POST, "sessions/revoke", json!({ "ids": sessions })).await;
        assert_eq!(status, 200);
        nodes[1].signal("CONT");
        for session in &sessions {
            for node in nodes.iter().rev() {
                assert_eq!(status_of(node, session).await, "revoked", "pause {pause}");
            }
        }
        for reading in readings {
            caught += u32::from(reading.await.unwrap() > DELTA);
        }
        for session in &sessions {
            assert_eq!(status_of(&nodes[1], session).await, "revoked", "pause {pause}");
        }
    }
    assert!(caught > 250, "{caught} of 1000 reads were in flight when the node was paused");
}

/// Redis brings back what it had before: from a dump, from a replica that was behind.
#[tokio::test]
async fn redis_cannot_bring_a_revoked_session_back() {
    let database = PostgresServer::shared().database();
    let redis = RedisServer::start();
    let nodes: [Node; 2] = nodes(&database, Some(&redis)).await;
    let session = nodes[0].create(ALICE).await;
    assert_eq!(status_of(&nodes[0], &session).await, "live");
    let copy = "local key = redis.call('KEYS', 'sess:*')[1] redis.call('SET', 'key', key)
        redis.call('SET', 'copy', redis.call('GET', key)) return redis.call('STRLEN', 'copy')";
    assert_ne!(redis.cli(&["EVAL", copy, "0"]), "0");
    revoke(&nodes[0], &session).await;
    let bring_back =
        "redis.call('SET', redis.call('GET', 'key'), redis.call('GET', 'copy')) return 1";
    for _ in 0..5 {
        assert_eq!(redis.cli(&["EVAL", bring_back, "0"]), "1");
        for node in &nodes {
            assert_eq!(status_of(node, &session).await, "revoked");
        }
    }
    let metrics = nodes[1].page("/metrics").await.1;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let metrics = metrics + &nodes[1].page("/metrics").await.1;
    let refused = metrics
        .lines()
        .rfind(|line| line.starts_with("sessiond_cache_refused_total{reason=\"revoked\"}"));
    assert!(refused.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
}

/// A node that is gone is waited for, at most the maximum staleness; one that left in order is not;
/// and one that is killed is removed in the end.
#[tokio::test]
async fn revocation_waits_for_a_silent_node_at_most_max_staleness_and_not_for_one_that_left() {
    let database = PostgresServer::shared().database();
    let [node, mut leaving, silent]: [Node; 3] = nodes(&database, None).await;
    let end = async || revoke(&node, &node.create(ALICE).await).await;
    // Sooner than by waiting, at least once: this machine may be busy.
    let soon = async || {
        for _ in 0..10 {
            if end().await < DELTA {
                return true;
            }
        }
        false
    };
    assert!(soon().await);
    leaving.stop();
    assert_eq!(database.psql("SELECT count(*) FROM node_lease"), "2");

    silent.signal("STOP");
    let took = end().await;
    assert!(took > DELTA && took < 6 * DELTA, "{took:?}");
    drop(silent);
    let killed = Instant::now();
    while database.psql("SELECT count(*) FROM node_lease") != "1" {
        assert!(killed.elapsed() < Duration::from_secs(15));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(soon().await, "alone again");
}

/// Direct SQL revokes sessions too: within the maximum staleness no node serves them as live.
#[tokio::test]
async fn revocation_by_direct_sql_is_effective_max_staleness_after_its_commit() {
    let database = PostgresServer::shared().database();
    let [node]: [Node; 1] = nodes(&database, None).await;
    for sql in [
        "UPDATE sessions SET revoked_at = now()",
        "UPDATE sessions SET expires_at = created_at + interval '1 microsecond'",
        "DELETE FROM sessions",
        "TRUNCATE sessions",
    ] {
        let session = node.create(ALICE).await;
        assert_eq!(status_of(&node, &session).await, "live");
        node.read_from_cache(&session, ALICE, "near").await;
        database.psql(sql);
        tokio::time::sleep(Duration::from_millis(520)).await;
        assert_ne!(status_of(&node, &session).await, "live", "{sql}");
    }
}

/// Without the database a node serves from memory for the maximum staleness at most, then says that
/// it cannot know.
#[tokio::test]
async fn node_that_cannot_poll_stops_serving_from_memory() {
    let server = Arc::new(PostgresServer::start());
    let database = server.database();
    let [node]: [Node; 1] = nodes(&database, None).await;
    let session = node.create(ALICE).await;
    assert_eq!(status_of(&node, &session).await, "live");
    server.signal("STOP");
    tokio::time::sleep(Duration::from_millis(600)).await;
    let reply = node.service_read(&session, ALICE).await;
    assert_eq!((reply.status, &reply.body["code"]), (503, &json!("dependency_unavailable")));
    server.signal("CONT");
    let healed = Instant::now();
    loop {
        let reply = node.service_read(&session, ALICE).await;
        if reply.status == 200 && reply.cache_status.contains("near") {
            break;
        }
        assert!(healed.elapsed() < Duration::from_secs(10), "{}", node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A commit that waits for a standby which never responds: the server has the revocation, and does
/// not say so.
#[tokio::test]
async fn revocation_of_unknown_outcome_is_no_success_and_can_be_repeated() {
    let server = Arc::new(PostgresServer::start());
    let database = server.database();
    let [node, other]: [Node; 2] = nodes(&database, None).await;
    let session = node.create(ALICE).await;
    let set_standby = |name: &str| {
        database.psql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"));
        database.psql("SELECT pg_reload_conf()");
    };
    set_standby("absent");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (status, body) =
        node.service_once(Method::DELETE, &format!("sessions/{session}"), json!({})).await;
    assert_eq!((status, &body["code"]), (503, &json!("outcome_unknown")));
    // It is not waited for any more, and now it is committed.
    database.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
    );
    set_standby("");
    revoke(&node, &session).await;
    for node in [&node, &other] {
        assert_eq!(status_of(node, &session).await, "revoked");
    }
}

/// The database is not there at all: nothing was done, and that is what is said.
#[tokio::test]
async fn revocation_that_never_reached_the_database_is_not_of_unknown_outcome() {
    let server = Arc::new(PostgresServer::start());
    let database = server.database();
    let [node]: [Node; 1] = nodes(&database, None).await;
    let session = node.create(ALICE).await;
    server.signal("KILL");
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..2 {
        let (status, body) =
            node.service_once(Method::DELETE, &format!("sessions/{session}"), json!({})).await;
        assert_eq!((status, &body["code"]), (503, &json!("dependency_unavailable")));
    }
}

/// A caller that does not wait learns from when on it is effective, and so it is.
#[tokio::test]
async fn revocation_without_waiting_reports_from_when_on_it_is_effective() {
    let database = PostgresServer::shared().database();
    let [node, other]: [Node; 2] = nodes(&database, None).await;
    let session = node.create(ALICE).await;
    assert_eq!(status_of(&other, &session).await, "live");
    let (status, body) = node.revoke_without_waiting(&session).await;
    assert_eq!(status, 202);
    let effective_by = body["effective_by"].as_str().unwrap();
    let left = database.psql(&format!(
        "SELECT extract(epoch FROM '{effective_by}'::timestamptz - clock_timestamp())"
    ));
    let left: f64 = left.parse().unwrap();
    assert!(left > -0.5 && left < 0.51, "{left}");
    tokio::time::sleep(Duration::from_secs_f64(left.max(0.0))).await;
    assert_eq!(status_of(&other, &session).await, "revoked");
}
