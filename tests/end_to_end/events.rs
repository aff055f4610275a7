//! The event feed: in order and complete.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use testkit::TemporaryDir;
use testkit::servers::PostgresServer;

use sessiond_tests::node::{ALICE, BOB, Node};

/// Sign-ins and revocations that were acknowledged before the process was killed are in the feed of
/// the next one.
async fn nothing_is_lost_by_a_kill(store: &str, key: Option<&TemporaryDir>) {
    let start = async || {
        let node = Node::start(&[("SESSIOND_STORE__URL", store)]).await;
        match key {
            // The development key is beside the file.
            Some(dir) => {
                let key =
                    std::fs::read_to_string(dir.path().join("sessiond-dev-service-key")).unwrap();
                node.with_service_key(key.trim())
            }
            None => node,
        }
    };
    let mut acknowledged = BTreeSet::new();
    for round in 0..5 {
        let node = start().await;
        for n in 0..10 {
            let session = node.create(if n % 2 == 0 { ALICE } else { BOB }).await;
            if n % 3 == 0 {
                let path = format!("sessions/{session}");
                assert_eq!(
                    node.service(Method::DELETE, &path, json!({ "reason": "round" })).await.0,
                    204
                );
                acknowledged.insert((session.clone(), "revoked"));
            }
            acknowledged.insert((session, "created"));
        }
        // SIGKILL, with the last response just read.
        drop(node);
        assert_eq!(acknowledged.len(), (round + 1) * 14);
    }
    let node = start().await;
    let mut seen = BTreeSet::new();
    let mut after = 0;
    loop {
        let (_, page) =
            node.service(Method::GET, &format!("events?limit=7&after={after}"), Value::Null).await;
        for event in page["events"].as_array().unwrap() {
            assert!(event["id"].as_u64().unwrap() > after);
            after = event["id"].as_u64().unwrap();
            let kind = if event["type"] == "created" { "created" } else { "revoked" };
            assert!(
                seen.insert((event["session_id"].as_str().unwrap().to_owned(), kind)),
                "listed twice: {event}"
            );
        }
        if page["events"].as_array().unwrap().is_empty() {
            break;
        }
    }
    assert_eq!(seen, acknowledged);
}

#[tokio::test]
async fn a_kill_after_the_commit_loses_no_event_embedded() {
    let dir = TemporaryDir::new();
    nothing_is_lost_by_a_kill(
        &format!("sqlite://{}/sessions.db", dir.path().display()),
        Some(&dir),
    )
    .await;
}

#[tokio::test]
async fn a_kill_after_the_commit_loses_no_event_on_postgres() {
    let database = PostgresServer::shared().database();
    nothing_is_lost_by_a_kill(&database.url(), None).await;
}

/// What a stream has sent, once it has sent this many events.
async fn read_events(stream: &mut Response, count: usize) -> Vec<Value> {
    let mut text = String::new();
    while text.matches("data: ").count() < count || !text.ends_with("\n\n") {
        let chunk = tokio::time::timeout(Duration::from_secs(10), stream.chunk())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// Two nodes, one feed: a stream that is broken off at one goes on at the other, and an open one
/// does not keep a node from stopping.
#[tokio::test]
async fn a_stream_resumes_at_another_node_and_ends_with_its_own() {
    let database = PostgresServer::shared().database();
    let url = database.url();
    let settings = [("SESSIOND_STORE__URL", url.as_str())];
    let mut node = Node::start(&settings).await;
    let other = Node::start(&settings).await;
    let mut stream = node.event_stream(None).await;
    let mut sessions = Vec::new();
    for n in 0..6 {
        sessions.push(if n % 2 == 0 { node.create(ALICE).await } else { other.create(BOB).await });
    }
    let seen = read_events(&mut stream, 6).await;
    let ids: Vec<_> = seen.iter().map(|event| event["session_id"].as_str().unwrap()).collect();
    assert_eq!(ids, sessions);

    // It stays open, and so does the connection it is on.
    assert!(node.stop() < Duration::from_secs(3));
    assert!(stream.chunk().await.unwrap().is_none());

    let last = seen[3]["id"].to_string();
    let mut resumed = other.event_stream(Some(&last)).await;
    assert_eq!(read_events(&mut resumed, 2).await, seen[4..]);
    let phone = &sessions[0];
    assert_eq!(
        other
            .service(Method::DELETE, &format!("sessions/{phone}"), json!({ "reason": "lost" }))
            .await
            .0,
        204
    );
    let ended = read_events(&mut resumed, 1).await.remove(0);
    assert_eq!(
        (&ended["type"], &ended["reason"], &ended["actor"]),
        (&json!("revoked"), &json!("lost"), &json!("service"))
    );
}

#[tokio::test]
async fn audit_trail_says_who_revoked_which_session_when_and_why() {
    let node = Node::start(&[("SESSIOND_SESSIONS__MAX_PER_USER", "2")]).await;
    let [phone, laptop, tablet] =
        [node.create(ALICE).await, node.create(ALICE).await, node.create(ALICE).await];
    assert_eq!(node.delete(&laptop, &node.mint(ALICE, &tablet)).await, 204);
    node.command(&["session", "revoke", &tablet, "--reason", "account closed"]);

    let trail = |session: &str| node.command(&["events", "--session", session, "--json"]);
    let last = |session: &str| {
        let page: Value = serde_json::from_str(&trail(session)).unwrap();
        let events = page["events"].as_array().unwrap();
        assert_eq!(events.len(), 2, "{page}");
        assert!(events[1]["at"].as_str().is_some());
        ["type", "actor", "reason"].map(|field| events[1][field].as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(last(&phone), ["evicted", "system", "session_limit"]);
    assert_eq!(last(&laptop), ["revoked", &format!("user:{ALICE}"), "-"]);
    assert_eq!(last(&tablet), ["revoked", "service", "account closed"]);
    let table = node.command(&["events", "--user", ALICE]);
    assert_eq!(table.lines().count(), 7, "{table}");
}
