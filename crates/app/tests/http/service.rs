//! The service listener.

use axum::body::Body;
use axum::http::Request;
use chrono::TimeDelta;
use domain::{Actor, Revocation, Session};
use serde_json::{Value, json};
use testkit::fixtures;

use crate::fixture::{Fixture, SERVICE_KEY, bearer};

const SESSIONS: &str = "/service/v1/sessions";

fn sign_in() -> Value {
    json!({
        "user_id": fixtures::session().user_id.to_string(),
        "ip_address": "2001:DB8::1",
        "user_agent": "curl/8.0"
    })
}

#[tokio::test]
async fn a_sign_in_is_created_stored_and_read_back() {
    let fixture = Fixture::new();
    let response = fixture.service_post(SESSIONS, sign_in().to_string()).await;
    assert_eq!(response.status, 201);
    assert_eq!(response.header("cache-control"), "no-store");
    let created = response.json();
    let id = created["id"].as_str().unwrap();
    assert_eq!(response.header("location"), format!("{SESSIONS}/{id}"));
    assert_eq!(
        created,
        json!({
            "id": id,
            "user_id": "01900000-0000-4000-8000-0000000000aa",
            "device_info": "curl",
            "device": { "browser": "curl", "system": null, "type": "other" },
            "ip_address": "2001:db8::1",
            "location": null,
            "created_at": "2026-01-02T03:04:05.123456Z",
            "last_activity_at": "2026-01-02T03:04:05.123456Z",
            "expires_at": "2026-02-01T03:04:05.123456Z",
            "is_revoked": false,
            "is_current": false,
            "status": "live",
            "revoked_at": null,
            "revoked_reason": null,
            "name": null,
            "last_ip_address": "2001:db8::1",
            "user_agent": "curl/8.0",
            "metadata": null,
            "evicted": [],
        })
    );

    let stored = testkit::find_session(&*fixture.repository, id.parse().unwrap()).await.unwrap();
    assert_eq!(stored.user_agent.as_deref(), Some("curl/8.0"));
    let location = response.header("location").to_owned();
    let read = fixture.service_get(&location).await.json();
    assert!(
        read.as_object().unwrap().iter().all(|(name, value)| created[name] == *value),
        "{read}"
    );
    let own =
        fixture.get("/api/v1/sessions/current", Some(&bearer(stored.user_id, stored.id))).await;
    assert_eq!(own.json()["status"], "live");
}

#[tokio::test]
async fn requested_expiry_is_kept_to_the_microsecond_and_within_the_lifetime() {
    let fixture = Fixture::new();
    let expires = async |wish: &str| {
        let body =
            json!({ "user_id": fixtures::session().user_id.to_string(), "expires_at": wish });
        fixture.service_post(SESSIONS, body.to_string()).await
    };
    assert_eq!(
        expires("2026-01-03T00:00:00.1234567+02:00").await.json()["expires_at"],
        "2026-01-02T22:00:00.123456Z"
    );
    assert_eq!(
        expires("2100-01-01T00:00:00Z").await.json()["expires_at"],
        "2026-02-01T03:04:05.123456Z"
    );
    for past in ["2026-01-02T03:04:05.123456Z", "1970-01-01T00:00:00Z"] {
        let response = expires(past).await;
        assert_eq!(response.problem(), (422, "unprocessable_content".into()));
        assert_eq!(response.bad_field(), "expires_at");
    }
}

#[tokio::test]
async fn a_bad_body_is_refused_with_the_field_and_stores_nothing() {
    let fixture = Fixture::new();
    let with = |name: &str, value: Value| {
        let mut body = sign_in();
        body[name] = value;
        body.to_string()
    };
    for (body, field) in [
        (String::new(), "body"),
        ("nonsense".into(), "body"),
        ("[]".into(), "body"),
        (format!("{} trailing", sign_in()), "body"),
        ("{}".into(), "user_id"),
        (with("user_id", json!("nonsense")), "user_id"),
        (with("user_id", json!(7)), "user_id"),
        (with("user_id", Value::Null), "user_id"),
        (with("ip_address", json!(7)), "ip_address"),
        (with("user_agent", json!(["x"])), "user_agent"),
        (with("expires_at", json!("tomorrow")), "expires_at"),
        (with("expires_at", json!(1_800_000_000)), "expires_at"),
        (with("is_revoked", json!(false)), "is_revoked"),
        (with("max_sessions", json!(0)), "max_sessions"),
        (with("max_sessions", json!("2")), "max_sessions"),
        (format!("{{\"user_id\": {0}, \"user_id\": {0}}}", sign_in()["user_id"]), "user_id"),
    ] {
        let response = fixture.service_post(SESSIONS, body.clone()).await;
        assert_eq!(response.problem(), (400, "invalid_request".into()), "{body}");
        assert_eq!(response.bad_field(), field, "{body}");
    }
    let response = fixture.service_post(SESSIONS, with("user_agent", json!("a\u{0}b"))).await;
    assert_eq!(
        (response.problem(), response.bad_field()),
        ((422, "unprocessable_content".into()), "user_agent".into())
    );
    let response =
        fixture.service_post(SESSIONS, with("user_agent", json!("x".repeat(17_000)))).await;
    assert_eq!(response.problem(), (413, "payload_too_large".into()));
    assert!(
        testkit::find_session(&*fixture.repository, fixtures::session_number(1).id).await.is_none()
    );
}

#[tokio::test]
async fn only_json_is_read() {
    let fixture = Fixture::new();
    for content_type in ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
    {
        let request = Request::post(SESSIONS)
            .header("authorization", format!("Bearer {SERVICE_KEY}"))
            .header("content-type", content_type)
            .body(Body::from(sign_in().to_string()));
        assert_eq!(
            fixture.service(request.unwrap()).await.problem(),
            (415, "unsupported_media_type".into())
        );
    }
    let request = Request::post(SESSIONS)
        .header("authorization", format!("Bearer {SERVICE_KEY}"))
        .header("content-type", "Application/JSON; charset=utf-8")
        .body(Body::from(sign_in().to_string()));
    assert_eq!(fixture.service(request.unwrap()).await.status, 201);
}

#[tokio::test]
async fn the_seeds_two_errors_are_kept_apart() {
    let fixture = Fixture::new();
    let session = fixtures::session();
    fixture.store(&session).await;
    let get =
        async |id, user| fixture.service_get(&format!("{SESSIONS}/{id}?user_id={user}")).await;

    let first = get(session.id, session.user_id).await;
    assert_eq!(
        (first.status.as_u16(), first.header("cache-status")),
        (200, "sessiond; fwd=miss; detail=database")
    );
    assert_eq!(
        get(session.id, session.user_id).await.header("cache-status"),
        "sessiond; hit; detail=near"
    );
    assert_eq!(
        get(session.id, fixtures::another_user()).await.problem(),
        (403, "not_session_owner".into())
    );
    let unknown = fixtures::session_number(404).id;
    assert_eq!(get(unknown, session.user_id).await.problem(), (404, "session_not_found".into()));
}

#[tokio::test]
async fn an_operator_reads_any_session_in_any_state() {
    let fixture = Fixture::new();
    let at = fixtures::now();
    let revoked = Session {
        revocation: Some(Revocation { at, reason: None, actor: None }.into()),
        ..fixtures::session()
    };
    fixture.store(&revoked).await;
    let response = fixture.service_get(&format!("{SESSIONS}/{}", revoked.id)).await;
    assert_eq!(
        (response.status.as_u16(), response.header("cache-status")),
        (200, "sessiond; fwd=bypass; detail=database")
    );
    assert_eq!(
        (&response.json()["status"], &response.json()["is_current"]),
        (&json!("revoked"), &json!(false))
    );
    let unknown =
        fixture.service_get(&format!("{SESSIONS}/{}", fixtures::session_number(404).id)).await;
    assert_eq!(unknown.problem(), (404, "session_not_found".into()));
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let fixture = Fixture::new();
    let id = fixtures::session().id;
    for (query, field) in
        [("user_id=nonsense", "user_id"), ("user_id=", "user_id"), ("userid=1", "userid")]
    {
        let response = fixture.service_get(&format!("{SESSIONS}/{id}?{query}")).await;
        assert_eq!(response.problem(), (400, "invalid_request".into()), "{query}");
        assert_eq!(response.bad_field(), field, "{query}");
    }
    let response = fixture.service_get(&format!("{SESSIONS}/nonsense")).await;
    assert_eq!(
        (response.problem(), response.bad_field()),
        ((400, "invalid_request".into()), "id".into())
    );
}

#[tokio::test]
async fn health_and_metrics_want_no_key() {
    let fixture = Fixture::new();
    let get =
        async |path: &str| fixture.service(Request::get(path).body(Body::empty()).unwrap()).await;
    assert_eq!(get("/livez").await.status, 200);
    assert_eq!(get("/metrics").await.status, 200);
    let ready = get("/readyz").await;
    let expected =
        json!({ "ready": true, "store": "up", "cache": "none", "cached_sessions": "used" });
    assert_eq!((ready.status.as_u16(), ready.json()), (200, expected));

    fixture.health.stopping();
    assert_eq!(get("/readyz").await.status, 503);
    assert_eq!(get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_dead_database_makes_the_node_unready_and_every_response_503() {
    let fixture = Fixture::new();
    fixture.take_database_down();
    let get =
        async |path: &str| fixture.service(Request::get(path).body(Body::empty()).unwrap()).await;
    let ready = get("/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.json()["store"].clone()), (503, json!("down")));

    let one = format!("{SESSIONS}/{}", fixtures::session().id);
    let with_user = format!("{one}?user_id={}", fixtures::session().user_id);
    for response in [
        fixture.service_post(SESSIONS, sign_in().to_string()).await,
        fixture.service_get(&one).await,
        fixture.service_get(&with_user).await,
    ] {
        assert_eq!(response.problem(), (503, "dependency_unavailable".into()));
        assert_eq!(response.header("retry-after"), "1");
    }
}

#[tokio::test]
async fn session_expires_at_its_requested_expiry() {
    let fixture = Fixture::new();
    let body = json!({
        "user_id": fixtures::session().user_id.to_string(),
        "expires_at": "2026-01-02T03:04:06.123456Z"
    });
    let location =
        fixture.service_post(SESSIONS, body.to_string()).await.header("location").to_owned();
    assert_eq!(fixture.service_get(&location).await.json()["status"], "live");
    fixture.clock.advance(TimeDelta::seconds(1));
    assert_eq!(fixture.service_get(&location).await.json()["status"], "expired");
}

#[tokio::test]
async fn backend_revokes_one_some_or_all_of_a_users_sessions() {
    let fixture = Fixture::new();
    let sessions: Vec<_> = (1..=6).map(fixtures::session_number).collect();
    for session in &sessions {
        fixture.store(session).await;
    }
    let one = |n: usize| format!("{SESSIONS}/{}", sessions[n].id);
    let revoked =
        async |n: usize| fixture.service_get(&one(n)).await.json()["revoked_reason"].clone();

    for _ in 0..2 {
        assert_eq!(fixture.service_delete(&one(0), r#"{"reason": "fraud"}"#).await.status, 204);
    }
    assert_eq!(revoked(0).await, "fraud");
    let unknown = format!("{SESSIONS}/{}", fixtures::session_number(404).id);
    assert_eq!(
        fixture.service_delete(&unknown, "").await.problem(),
        (404, "session_not_found".into())
    );

    let ids: Vec<_> = sessions[..3].iter().map(|session| session.id.to_string()).collect();
    let body = json!({ "ids": ids, "reason": "batch" }).to_string();
    let response = fixture.service_post(&format!("{SESSIONS}/revoke"), body).await;
    assert_eq!((response.status.as_u16(), response.json()), (200, json!({ "revoked_count": 2 })));
    assert_eq!((revoked(0).await, revoked(2).await), (json!("fraud"), json!("batch")));

    let of_user = format!("/service/v1/users/{}/sessions", sessions[0].user_id);
    let except =
        json!({ "reason": "password reset", "except_session_id": sessions[5].id.to_string() })
            .to_string();
    let response = fixture.service_delete(&of_user, &except).await;
    assert_eq!((response.status.as_u16(), response.json()), (200, json!({ "revoked_count": 2 })));
    assert_eq!((revoked(4).await, revoked(5).await), (json!("password reset"), json!(null)));
    assert_eq!(fixture.service_delete(&of_user, "").await.json(), json!({ "revoked_count": 1 }));

    let listed = fixture.service_get(&of_user).await.json();
    assert_eq!((&listed["total_count"], &listed["active_count"]), (&json!(6), &json!(0)));
    assert!(listed["sessions"][0]["user_agent"].as_str().unwrap().starts_with("Mozilla"));
    let stored = testkit::find_session(&*fixture.repository, sessions[4].id).await.unwrap();
    assert_eq!(stored.revocation.unwrap().actor, Some(Actor::Service));
}

#[tokio::test]
async fn a_bad_user_or_list_of_ids_is_named() {
    let fixture = Fixture::new();
    let response = fixture.service_get("/service/v1/users/nonsense/sessions").await;
    assert_eq!(
        (response.problem(), response.bad_field()),
        ((400, "invalid_request".into()), "user_id".into())
    );
    for (body, field) in
        [("{}", "ids"), (r#"{"ids": ["x"]}"#, "ids[0]"), (r#"{"ids": [], "all": true}"#, "all")]
    {
        let response = fixture.service_post(&format!("{SESSIONS}/revoke"), body).await;
        assert_eq!(
            (response.problem(), response.bad_field().as_str()),
            ((400, "invalid_request".into()), field)
        );
    }
}

#[tokio::test]
async fn a_sign_in_beyond_the_callers_limit_evicts_the_oldest_and_says_whom() {
    let fixture = Fixture::new();
    let mut body = sign_in();
    body["max_sessions"] = json!(2);
    let mut ids = Vec::new();
    for _ in 0..3 {
        fixture.clock.advance(TimeDelta::seconds(1));
        let created = fixture.service_post(SESSIONS, body.to_string()).await.json();
        let evicted: &[Value] = if ids.len() < 2 { &[] } else { &ids[..1] };
        assert_eq!(created["evicted"].as_array().unwrap(), evicted);
        ids.push(created["id"].clone());
    }
    let evicted =
        fixture.service_get(&format!("{SESSIONS}/{}", ids[0].as_str().unwrap())).await.json();
    assert_eq!(
        (&evicted["status"], &evicted["revoked_reason"]),
        (&json!("revoked"), &json!("session_limit"))
    );
}

/// A caller that does not wait learns from when on no node serves the session as live: here at
/// once, since there is no other node.
#[tokio::test]
async fn caller_that_does_not_wait_learns_when_a_revocation_is_effective() {
    let fixture = Fixture::new();
    let session = fixtures::session();
    fixture.store(&session).await;
    let delete = async |path: &str, prefer: &str| {
        let request = Request::delete(path)
            .header("authorization", format!("Bearer {SERVICE_KEY}"))
            .header("prefer", prefer)
            .body(Body::empty());
        fixture.service(request.unwrap()).await
    };
    let path = format!("{SESSIONS}/{}", session.id);
    assert_eq!(delete(&path, "respond-async-please, wait=10").await.status, 204);
    let response = delete(&path, "wait=10, Respond-Async; foo=bar").await;
    assert_eq!(
        (response.status, response.header("preference-applied")),
        (202.try_into().unwrap(), "respond-async")
    );
    assert_eq!(response.json(), json!({ "effective_by": "2026-01-02T03:04:05.123456Z" }));
    let response =
        delete(&format!("/service/v1/users/{}/sessions", session.user_id), "respond-async").await;
    assert_eq!(
        response.json(),
        json!({ "revoked_count": 0, "effective_by": "2026-01-02T03:04:05.123456Z" })
    );
}
