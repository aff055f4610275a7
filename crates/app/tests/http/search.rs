//! The operators' search, and what is revoked by it.

use axum::body::Body;
use axum::http::Request;
use chrono::TimeDelta;
use domain::{Revocation, Session};
use serde_json::{Value, json};
use testkit::fixtures;

use crate::fixture::{Fixture, READ_KEY, Reply, WRITE_KEY};

const SESSIONS: &str = "/service/v1/sessions";
const REVOKE: &str = "/service/v1/sessions/revoke";

/// Five sessions of two users, the first the newest; the last is revoked.
async fn fixture() -> (Fixture, Vec<Session>) {
    let fixture = Fixture::new();
    let mut sessions: Vec<_> = (1..=5).map(fixtures::session_number).collect();
    for (age, session) in (0..).zip(&mut sessions) {
        session.created_at = fixtures::now() - TimeDelta::minutes(age);
    }
    sessions[1].user_id = fixtures::another_user();
    sessions[2].ip_address = Some([198, 51, 100, 7].into());
    sessions[3].device_info = Some("Safari on iOS".into());
    let at = fixtures::now();
    sessions[4].revocation = Some(Revocation { at, reason: None, actor: None }.into());
    for session in &sessions {
        fixture.store(session).await;
    }
    (fixture, sessions)
}

async fn found(fixture: &Fixture, query: &str) -> (Vec<String>, Option<String>) {
    let reply = fixture.service_get(&format!("{SESSIONS}{query}")).await;
    assert_eq!(reply.status, 200, "{query}: {}", reply.text());
    let body = reply.json();
    let ids = body["sessions"].as_array().unwrap().iter();
    let ids = ids.map(|session| session["id"].as_str().unwrap().to_owned()).collect();
    (ids, body["next_cursor"].as_str().map(str::to_owned))
}

async fn with_key(fixture: &Fixture, key: &str, method: &str, path: &str, body: Value) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json");
    let body = if method == "GET" { Body::empty() } else { Body::from(body.to_string()) };
    fixture.service(request.body(body).unwrap()).await
}

#[tokio::test]
async fn search_finds_sessions_of_all_users_newest_first() {
    let (fixture, sessions) = fixture().await;
    let ids: Vec<_> = sessions.iter().map(|session| session.id.to_string()).collect();
    assert_eq!(found(&fixture, "").await, (ids.clone(), None));
    let (first, cursor) = found(&fixture, "?limit=2").await;
    assert_eq!(first, ids[..2]);
    let (second, cursor) = found(&fixture, &format!("?limit=2&cursor={}", cursor.unwrap())).await;
    assert_eq!(second, ids[2..4]);
    let last = found(&fixture, &format!("?limit=2&cursor={}", cursor.unwrap())).await;
    assert_eq!(last, (ids[4..].to_vec(), None));

    let user = fixtures::another_user();
    for (query, expected) in [
        (format!("?user_id={user}"), vec![1]),
        ("?status=revoked".to_owned(), vec![4]),
        ("?status=live&device=chrome".to_owned(), vec![0, 1, 2]),
        ("?ip=198.51.100.7".to_owned(), vec![2]),
        ("?ip=::ffff:198.51.100.7".to_owned(), vec![2]),
        ("?device=IOS".to_owned(), vec![3]),
        ("?created_before=2026-01-02T03:03:05.123456Z".to_owned(), vec![2, 3, 4]),
        ("?created_after=2026-01-02T03:03:05.123456Z&status=".to_owned(), vec![0, 1]),
        ("?active_after=2030-01-01T00:00:00Z".to_owned(), vec![]),
    ] {
        let expected: Vec<_> =
            expected.into_iter().map(|index: usize| ids[index].clone()).collect();
        assert_eq!(found(&fixture, &query).await.0, expected, "{query}");
    }
    // What an operator sees of a session, never a secret.
    let reply = fixture.service_get(&format!("{SESSIONS}?limit=1")).await;
    let session = &reply.json()["sessions"][0];
    assert!(session["user_agent"].is_string() && session["metadata"].is_object());
    assert!(!reply.text().contains("token") && !reply.text().contains("hash"));
    assert_eq!(with_key(&fixture, READ_KEY, "GET", SESSIONS, json!({})).await.status, 200);
}

#[tokio::test]
async fn wrong_conditions_are_named() {
    let (fixture, _) = fixture().await;
    for (query, field) in [
        ("user_id=alice", "user_id"),
        ("status=dead", "status"),
        ("ip=localhost", "ip"),
        ("device=%00", "device"),
        ("created_after=yesterday", "created_after"),
        ("limit=201", "limit"),
        ("cursor=zz", "cursor"),
        ("name=x", "name"),
    ] {
        let reply = fixture.service_get(&format!("{SESSIONS}?{query}")).await;
        assert_eq!((reply.status.as_u16(), reply.bad_field().as_str()), (400, field), "{query}");
    }
    for (body, field) in [
        (json!({ "filter": {} }), "filter"),
        (json!({ "filter": { "status": "dead" } }), "filter.status"),
        (json!({ "filter": { "name": "x" } }), "filter.name"),
        (json!({ "filter": [] }), "filter"),
        (json!({ "filter": [null, "live", null, null, null, null, null] }), "filter"),
        (json!({ "filter": { "status": "live" }, "all": true }), "all"),
        (json!({ "filter": { "status": "live" }, "ids": [] }), "filter"),
        (json!({ "dry_run": true }), "ids"),
    ] {
        let reply = fixture.service_post(REVOKE, body.to_string()).await;
        assert_eq!((reply.status.as_u16(), reply.bad_field().as_str()), (400, field), "{body}");
    }
}

#[tokio::test]
async fn matching_sessions_are_counted_first_and_then_revoked() {
    let (fixture, sessions) = fixture().await;
    let revoke = async |body: Value| {
        let reply = fixture.service_post(REVOKE, body.to_string()).await;
        assert_eq!(reply.status, 200, "{body}: {}", reply.text());
        reply.json()["revoked_count"].as_u64().unwrap()
    };
    let device = json!({ "device": "chrome" });
    let ids: Vec<_> = sessions.iter().map(|session| session.id.to_string()).collect();
    assert_eq!(revoke(json!({ "filter": device, "dry_run": true })).await, 3);
    assert_eq!(revoke(json!({ "all": true, "dry_run": true })).await, 4);
    let twice = [&ids[0], &ids[0], &ids[4], &fixtures::session_number(99).id.to_string()];
    assert_eq!(revoke(json!({ "ids": twice, "dry_run": true })).await, 1);
    assert_eq!(found(&fixture, "?status=live").await.0, ids[..4], "nothing was revoked");

    let reply = with_key(&fixture, WRITE_KEY, "POST", REVOKE, json!({ "filter": device })).await;
    assert_eq!(reply.problem(), (403, "forbidden".into()), "it needs the scope `operate`");
    assert_eq!(revoke(json!({ "filter": device, "reason": "attack" })).await, 3);
    assert_eq!(found(&fixture, "?status=live").await.0, ids[3..4]);
    assert_eq!(revoke(json!({ "filter": device })).await, 0);
    let read = fixture.service_get(&format!("{SESSIONS}/{}", ids[0])).await;
    assert_eq!(read.json()["revoked_reason"], "attack");
}

#[tokio::test]
async fn search_of_a_store_that_is_down_is_503() {
    let (fixture, _) = fixture().await;
    fixture.take_database_down();
    let reply = fixture.service_get(SESSIONS).await;
    assert_eq!(reply.problem(), (503, "dependency_unavailable".into()));
}
