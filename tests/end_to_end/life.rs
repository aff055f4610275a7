//! The life of a session, on both stores.

use serde_json::json;
use testkit::servers::{PostgresServer, RedisServer};

use crate::node::{ALICE, BOB, Node};

/// Signed in on three devices, listed, signed out one by one; a stranger is about all the while.
async fn a_whole_life(node: &Node) {
    let mut devices = Vec::new();
    for _ in 0..3 {
        devices.push(node.create(ALICE).await);
    }
    let [phone, laptop, tablet] = &devices[..] else { panic!("three devices") };
    let token = |session: &str| node.mint(ALICE, session);
    let (on_phone, on_laptop, on_tablet) = (token(phone), token(laptop), token(tablet));
    let stranger = node.create(BOB).await;
    let strangers = node.mint(BOB, &stranger);

    // Whatever caches there are have seen all of them.
    for (session, token) in [(phone, &on_phone), (laptop, &on_laptop), (tablet, &on_tablet)] {
        for _ in 0..2 {
            assert_eq!(node.read(session, token).await.status, 200);
        }
    }
    let list = node.read("", &on_laptop).await.body;
    assert_eq!((&list["total_count"], &list["active_count"]), (&json!(3), &json!(3)));
    assert_eq!(list["sessions"][0]["id"], tablet.as_str());
    assert_eq!(list["sessions"][1]["is_current"], true);

    // The laptop signs the phone out.
    assert_eq!(node.delete(phone, &strangers).await, 404);
    assert_eq!(node.delete(phone, &on_laptop).await, 204);
    assert_eq!(node.read("current", &on_phone).await.body["code"], "session_ended");
    assert_eq!(node.read(phone, &on_laptop).await.body["status"], "revoked");
    assert_eq!(node.delete(phone, &on_laptop).await, 204);

    // All others, then itself.
    assert_eq!(node.delete("", &on_laptop).await, 200);
    assert_eq!(node.read("current", &on_tablet).await.status, 401);
    assert_eq!(node.read("current", &on_laptop).await.status, 200);
    assert_eq!(node.delete("current", &on_laptop).await, 204);
    assert_eq!(node.read("current", &on_laptop).await.status, 401);
    assert_eq!(node.read("current", &strangers).await.status, 200);
    assert_eq!(node.service_read(phone, ALICE).await.body["status"], "revoked");
}

#[tokio::test]
async fn embedded() {
    a_whole_life(&Node::start(&[]).await).await;
}

#[tokio::test]
async fn on_postgres_and_redis() {
    let (database, redis) = (PostgresServer::shared().database(), RedisServer::start());
    let urls = [("SESSIOND_STORE__URL", database.url()), ("SESSIOND_CACHE__URL", redis.url())];
    let node = Node::start(&urls.each_ref().map(|(name, url)| (*name, url.as_str()))).await;
    a_whole_life(&node).await;
    let ended = "SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL AND revoked_by = 'user:";
    assert_eq!(database.psql(&format!("{ended}{ALICE}'")), "3");
}
