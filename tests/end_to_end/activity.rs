//! The use of sessions: written in batches, seen by all, and lost by no orderly end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::servers::{PostgresServer, TestDatabase};

use sessiond_tests::node::{ALICE, Node};

async fn use_from(node: &Node, session: &str, address: &str) {
    let path = format!("sessions/{session}/activity");
    assert_eq!(node.service(Method::POST, &path, json!({ "ip_address": address })).await.0, 204);
}

fn stored_address(database: &TestDatabase) -> String {
    database.psql("SELECT host(last_ip_address) FROM sessions")
}

async fn wait_for_address(database: &TestDatabase, address: &str) {
    let started = Instant::now();
    while stored_address(database) != address {
        assert!(started.elapsed() < Duration::from_secs(5), "{}", stored_address(database));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn first_activity_is_written_at_once_and_the_last_at_shutdown() {
    let database = PostgresServer::shared().database();
    let mut node = Node::start(&[("SESSIOND_STORE__URL", &database.url())]).await;
    let session = node.create(ALICE).await;
    use_from(&node, &session, "198.51.100.1").await;
    wait_for_address(&database, "198.51.100.1").await;

    // A thousand uses more cost nothing now.
    for _ in 0..1000 {
        use_from(&node, &session, "198.51.100.2").await;
    }
    assert_eq!(stored_address(&database), "198.51.100.1");
    assert!(node.page("/metrics").await.1.contains("sessiond_activity_writes_total 1\n"));
    // This node knows better than the database already.
    assert_eq!(node.service_read(&session, ALICE).await.body["last_ip_address"], "198.51.100.2");
    node.stop();
    assert_eq!(stored_address(&database), "198.51.100.2");
}

/// Activity that the database cannot store is tried again until it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activity_is_kept_while_the_database_does_not_take_it() {
    let server = Arc::new(PostgresServer::start());
    let database = server.database();
    let node = Node::start(&[("SESSIOND_STORE__URL", &database.url())]).await;
    let session = node.create(ALICE).await;
    let token = node.mint(ALICE, &session);
    // The row is locked by another transaction: a write fails, a read does not.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            database.psql("BEGIN; SELECT id FROM sessions FOR UPDATE; SELECT pg_sleep(2); COMMIT")
        });
        std::thread::sleep(Duration::from_millis(500));
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                assert_eq!(node.read("current", &token).await.status, 200);
            });
        });
    });
    wait_for_address(&database, "127.0.0.1").await;
    let metrics = node.page("/metrics").await.1;
    let errors =
        metrics.lines().find_map(|line| line.strip_prefix("sessiond_activity_write_errors_total "));
    assert!(errors.is_some_and(|errors| errors.parse::<u32>().unwrap() > 0), "{metrics}");
    assert_eq!(node.log().matches("cannot write activity").count(), 1);
}

/// Use on one node is use on the other; and when it stops, both say so.
#[tokio::test]
async fn activity_on_one_node_keeps_a_session_from_being_idle_on_another() {
    let database = PostgresServer::shared().database();
    let url = database.url();
    let settings =
        [("SESSIOND_STORE__URL", url.as_str()), ("SESSIOND_SESSIONS__IDLE_TIMEOUT", "2s")];
    let node = Node::start(&settings).await;
    let other = Node::start(&settings).await;
    let session = node.create(ALICE).await;
    let token = node.mint(ALICE, &session);
    let status =
        async |node: &Node| node.service_read(&session, ALICE).await.body["status"].clone();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        assert_eq!(node.read("current", &token).await.status, 200);
        assert_eq!(status(&other).await, "live");
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    tokio::time::sleep(Duration::from_millis(2300)).await;
    assert_eq!((status(&node).await, status(&other).await), (json!("idle"), json!("idle")));
    let reply = node.read("current", &token).await;
    assert_eq!((reply.status, &reply.body["code"]), (401, &json!("session_ended")));
    let path = format!("sessions/{session}/activity");
    let (status, problem) = other.service(Method::POST, &path, json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("session_ended")));
}

/// A sliding session outlives its lifetime while it is used; each renewal is an event.
#[tokio::test]
async fn a_sliding_session_lives_for_as_long_as_it_is_used() {
    let settings = [("SESSIOND_SESSIONS__LIFETIME", "2s"), ("SESSIOND_SESSIONS__SLIDING", "true")];
    let node = Node::start(&settings).await;
    let session = node.create(ALICE).await;
    let token = node.mint(ALICE, &session);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        assert_eq!(node.read("current", &token).await.status, 200);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let (_, page) = node.service(Method::GET, "events", Value::Null).await;
    let renewed = page["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["type"] == "renewed")
        .count();
    assert!((2..=6).contains(&renewed), "{page}");
    tokio::time::sleep(Duration::from_millis(2300)).await;
    assert_eq!(node.read("current", &token).await.body["code"], "session_ended");
}

#[tokio::test]
async fn forwarded_addresses_count_from_trusted_proxies_only() {
    for (trusted, expected) in [("127.0.0.0/8", "198.51.100.7"), ("10.0.0.0/8", "127.0.0.1")] {
        let node = Node::start(&[("SESSIOND_SERVER__TRUSTED_PROXIES", trusted)]).await;
        let session = node.create(ALICE).await;
        let token = node.mint(ALICE, &session);
        let request =
            reqwest::Client::new().get(format!("{}/api/v1/sessions/current", node.public));
        let request = request
            .bearer_auth(&token)
            .header("x-forwarded-for", "203.0.113.1, 198.51.100.7, 127.0.0.9");
        assert_eq!(request.send().await.unwrap().status(), 200);
        assert_eq!(node.service_read(&session, ALICE).await.body["last_ip_address"], expected);
    }
}
