//! The life of a session, on both stores.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::servers::{PostgresServer, RedisServer};

use sessiond_tests::node::{ALICE, BOB, Node};

/// Signed in on three devices, listed, signed out one by one; a stranger is about all the while.
async fn a_whole_life(node: &Node) {
    let mut devices = Vec::new();
    for _ in 0..3 {
        devices.push(node.create(ALICE).await);
    }
    let [phone, laptop, tablet] = &devices[..] else { panic!("three devices") };
    let token = |session: &str| node.mint(ALICE, session);
    let on_phone = token(phone);
    let on_laptop = token(laptop);
    let on_tablet = token(tablet);
    let stranger = node.create(BOB).await;
    let strangers = node.mint(BOB, &stranger);

    // What the backend and the user add to them.
    let (status, edited) = node
        .service(
            Method::PATCH,
            &format!("sessions/{phone}"),
            json!({ "metadata": { "plan": "pro" } }),
        )
        .await;
    assert_eq!((status, &edited["metadata"]["plan"]), (200, &json!("pro")));
    assert_eq!(node.rename(phone, &on_laptop, "old phone").await, 200);
    assert_eq!(node.rename(phone, &strangers, "mine").await, 404);

    // All caches have seen all of them.
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
    let seen = node.service_read(phone, ALICE).await.body;
    assert_eq!((&seen["status"], &seen["name"]), (&json!("revoked"), &json!("old phone")));
    let (_, page) =
        node.service(Method::GET, &format!("events?user_id={ALICE}"), Value::Null).await;
    let kinds: Vec<_> =
        page["events"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
    assert_eq!(kinds, ["created", "created", "created", "revoked", "revoked", "revoked"]);

    // In the end the operator revokes all sessions.
    let said = node.command(&["session", "revoke-all", "--yes", "--reason", "maintenance"]);
    assert_eq!(said, "sessions revoked: 1\n");
    assert_eq!(node.read("current", &strangers).await.status, 401);
}

/// What a sign-in is recognised by: a common browser, at an address that the test file knows.
#[tokio::test]
async fn device_and_place_are_filled_in() {
    const PLACES: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/adapters-maxmind/tests/places.mmdb");
    const MAC: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, \
        like Gecko) Chrome/140.0.0.0 Safari/537.36";
    let node = Node::start(&[("SESSIOND_ENRICH__GEOIP_FILE", PLACES)]).await;
    let sign_in = json!({ "user_id": ALICE, "ip_address": "192.0.2.7", "user_agent": MAC });
    let (status, session) = node.service(Method::POST, "sessions", sign_in).await;
    assert_eq!(
        (status, &session["device_info"], &session["location"]),
        (201, &json!("Chrome on macOS"), &json!("Berlin, DE"))
    );
    assert_eq!(
        session["device"],
        json!({ "browser": "Chrome", "system": "macOS", "type": "desktop" })
    );
    // What is unknown is no obstacle.
    let (status, session) = node
        .service(Method::POST, "sessions", json!({ "user_id": ALICE, "user_agent": "?" }))
        .await;
    assert_eq!(
        (status, &session["device_info"], &session["location"]),
        (201, &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn embedded() {
    a_whole_life(&Node::start(&[]).await).await;
}

#[tokio::test]
async fn on_postgres_and_redis() {
    let database = PostgresServer::shared().database();
    let redis = RedisServer::start();
    let urls = [("SESSIOND_STORE__URL", database.url()), ("SESSIOND_CACHE__URL", redis.url())];
    let node = Node::start(&urls.each_ref().map(|(name, url)| (*name, url.as_str()))).await;
    a_whole_life(&node).await;
    let ended =
        "SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL AND revoked_by = 'user:";
    assert_eq!(database.psql(&format!("{ended}{ALICE}'")), "3");
}

/// How many sign-ins come at once.
const SIGN_INS: usize = 60;
/// How long a sign-in waits at least for others of the same user, and for a connection.
const TURN: Duration = Duration::from_millis(200);

/// Sixty sign-ins at once at two nodes of one database all succeed and leave exactly two live
/// sessions; and a limit that denies says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_sign_ins_leaves_as_many_as_are_allowed() {
    let database = PostgresServer::shared().database();
    let url = database.url();
    let settings =
        [("SESSIOND_STORE__URL", url.as_str()), ("SESSIOND_SESSIONS__MAX_PER_USER", "2")];
    let nodes = [Arc::new(Node::start(&settings).await), Arc::new(Node::start(&settings).await)];
    let storm: Vec<_> = (0..SIGN_INS)
        .map(|n| {
            let node = nodes[n % 2].clone();
            tokio::spawn(async move {
                let mut started = Instant::now();
                for _ in 0..100 {
                    match node.sign_in(ALICE).await {
                        201 => return,
                        status => assert_eq!(status, 503),
                    }
                    // It is refused only once it has waited for its turn. As every client would, it
                    // tries again.
                    assert!(
                        started.elapsed() > TURN,
                        "a sign-in was refused after {:?}",
                        started.elapsed()
                    );
                    started = Instant::now();
                }
                panic!("a sign-in is refused again and again");
            })
        })
        .collect();
    for sign_in in storm {
        sign_in.await.unwrap();
    }
    let count = |condition: &str| {
        database.psql(&format!("SELECT count(*) FROM sessions WHERE {condition}"))
    };
    // A sign-in whose outcome was unknown may have been stored.
    let stored = count("true").parse::<usize>().unwrap();
    assert!(stored >= SIGN_INS, "{stored} of {SIGN_INS} sign-ins are stored");
    assert_eq!(count("revoked_at IS NULL"), "2");

    let denying = [&settings[..], &[("SESSIOND_SESSIONS__ON_LIMIT", "deny")]].concat();
    let node = Node::start(&denying).await;
    assert_eq!(node.sign_in(ALICE).await, 409);
    assert_eq!(node.sign_in(BOB).await, 201);
    assert_eq!(count("revoked_at IS NULL"), "3");
}
