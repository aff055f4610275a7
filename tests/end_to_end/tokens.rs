//! Session tokens on two nodes with PostgreSQL and Redis, and on one with SQLite; and that no log
//! line shows one.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sessiond_tests::node::{ALICE, Node, run, sessiond};
use testkit::servers::{PostgresServer, RedisServer};

fn text(body: &Value, field: &str) -> String {
    body[field].as_str().unwrap_or_else(|| panic!("no {field} in {body}")).to_owned()
}

async fn sign_in(node: &Node) -> Value {
    let body = json!({ "user_id": ALICE, "issue_token": true });
    let (status, created) = node.service(Method::POST, "sessions", body).await;
    assert_eq!(status, 201, "{created}");
    created
}

/// Rotates at one node; then reads at both, by the token before and by the new one.
async fn rotate_and_read(nodes: [&Node; 2]) {
    let token = text(&sign_in(nodes[0]).await, "token");
    for node in nodes {
        for _ in 0..2 {
            assert_eq!(node.read("current", &token).await.status, 200);
        }
    }
    let url = format!("{}/api/v1/sessions/current/rotate", nodes[0].public);
    let rotated = nodes[0].http.post(url).bearer_auth(&token).send().await.unwrap();
    assert_eq!(rotated.status(), 200);
    let new = text(&rotated.json().await.unwrap(), "token");
    for node in nodes {
        assert_eq!(node.read("current", &new).await.status, 200, "the new token");
        let before = node.read("current", &token).await;
        assert_eq!((before.status, &before.body["code"]), (401, &json!("unauthenticated")));
    }
    // The log-out of the one is that of the other.
    assert_eq!(nodes[1].delete("current", &new).await, 204);
    for node in nodes {
        assert_eq!(node.read("current", &new).await.body["code"], "session_ended");
        let (_, verified) =
            node.service(Method::POST, "sessions/verify", json!({ "token": new })).await;
        assert_eq!(verified["status"], "revoked");
    }
    let (_, page) =
        nodes[0].service(Method::GET, &format!("events?user_id={ALICE}"), Value::Null).await;
    let kinds: Vec<_> =
        page["events"].as_array().unwrap().iter().map(|event| text(event, "type")).collect();
    let reused = kinds.iter().filter(|kind| *kind == "token_reused").count();
    assert_eq!(reused, 1, "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_and_revoked_tokens_are_accepted_by_no_node() {
    let database = PostgresServer::shared().database();
    let redis = RedisServer::start();
    let store = database.url();
    let cache = redis.url();
    let settings = [
        ("SESSIOND_STORE__URL", store.as_str()),
        ("SESSIOND_CACHE__URL", &cache),
        ("SESSIOND_AUTH__ROTATION_GRACE", "0s"),
    ];
    let a = Node::start(&settings).await;
    let b = Node::start(&settings).await;
    rotate_and_read([&a, &b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_and_revoked_tokens_are_not_accepted_on_sqlite() {
    let node = Node::start(&[("SESSIOND_AUTH__ROTATION_GRACE", "0s")]).await;
    rotate_and_read([&node, &node]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reused_token_revokes_its_session_where_that_is_configured() {
    let settings =
        [("SESSIOND_AUTH__ROTATION_GRACE", "0s"), ("SESSIOND_AUTH__ON_TOKEN_REUSE", "revoke")];
    let node = Node::start(&settings).await;
    let created = sign_in(&node).await;
    let path = format!("sessions/{}/rotate", text(&created, "id"));
    let (status, rotated) = node.service(Method::POST, &path, json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(node.read("current", &text(&rotated, "token")).await.status, 200);
    assert_eq!(node.read("current", &text(&created, "token")).await.status, 401);
    let ended = node.read("current", &text(&rotated, "token")).await;
    assert_eq!(ended.body["code"], "session_ended");
    let (_, seen) =
        node.service(Method::GET, &format!("sessions/{}", text(&created, "id")), Value::Null).await;
    assert_eq!(seen["revoked_reason"], "token_reused");
}

/// At the most talkative level, through everything that is done with a token, and by what is wrong
/// with one: neither the log nor the metrics nor a list shows its secret.
#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_metric_or_list_shows_a_token() {
    let node = Node::start(&[("SESSIOND_LOG__LEVEL", "trace")]).await;
    let created = sign_in(&node).await;
    let first = text(&created, "token");
    let path = format!("sessions/{}/rotate", text(&created, "id"));
    let (_, rotated) = node.service(Method::POST, &path, json!({})).await;
    let second = text(&rotated, "token");
    for token in [&first, &second] {
        for path in ["current", "", "x"] {
            node.read(path, token).await;
        }
        for body in [json!({ "token": token }), json!({ "token": token, "x": 1 })] {
            node.service(Method::POST, "sessions/verify", body).await;
        }
        // Where it has no business: as a service key, in a path and in a query.
        node.get(&format!("{}/service/v1/events?after={token}", node.service), token).await;
        node.get(&format!("{}/api/v1/sessions?cursor={token}", node.public), token).await;
        node.get(&format!("{}/api/v1/sessions/{token}", node.public), token).await;
        let cookie = format!("__Host-session={token}");
        let url = format!("{}/api/v1/sessions/current", node.public);
        node.http.delete(url).header("cookie", cookie).send().await.unwrap();
    }
    let metrics = node.http.get(format!("{}/metrics", node.service)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let (_, list) =
        node.service(Method::GET, &format!("users/{ALICE}/sessions"), Value::Null).await;
    // What is logged is written a little later.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let log = node.log();
    assert!(log.contains("responded"), "it logs every request: {log}");
    for token in [&first, &second] {
        let secret = &token[46..];
        for shown in [&log, &metrics, &list.to_string()] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn command_line_issues_a_token_and_inspects_it_without_showing_it() {
    let node = Node::start(&[]).await;
    let create =
        ["session", "create", "--user", ALICE, "--token", "--json", "--url", &node.service];
    let created = run(sessiond(node.dir.path(), &[]).args(create));
    assert!(created.status.success(), "{created:?}");
    let created: Value = serde_json::from_slice(&created.stdout).unwrap();
    let token = text(&created, "token");
    assert_eq!(node.read("current", &token).await.status, 200);
    let inspected = run(sessiond(node.dir.path(), &[]).args(["token", "inspect", &token]));
    let shown = String::from_utf8(inspected.stdout).unwrap();
    assert!(inspected.status.success() && shown.contains(&text(&created, "id")), "{shown}");
    assert!(!shown.contains(&token[46..]), "{shown}");
    let cut = run(sessiond(node.dir.path(), &[]).args(["token", "inspect", &token[..70]]));
    assert_eq!(cut.status.code(), Some(1));
}
