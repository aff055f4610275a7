//! The life of a session: activity, idle time-out, names, metadata, events.

use axum::body::Body;
use axum::http::Request;
use chrono::TimeDelta;
use domain::{Metadata, Session};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use testkit::fixtures;

use crate::fixture::{Fixture, SERVICE_KEY};

fn path(session: &Session) -> String {
    format!("/service/v1/sessions/{}", session.id)
}

fn own_path(session: &Session) -> String {
    format!("/api/v1/sessions/{}", session.id)
}

#[tokio::test]
async fn idle_timeout_applies_to_the_millisecond_whichever_layer_serves() {
    let fixture = Fixture::new();
    let [resting, other] = [1, 2].map(|n| Session {
        idle_timeout: Some(TimeDelta::minutes(15)),
        ..fixtures::session_number(n)
    });
    fixture.store(&Session { idle_timeout: None, ..other.clone() }).await;
    fixture.store(&resting).await;
    let status = async || {
        let seen_by_other = fixture.get_in(&other, &own_path(&resting)).await;
        let by_service = fixture.service_get(&path(&resting)).await;
        assert_eq!(by_service.json()["status"], seen_by_other.json()["status"]);
        (
            seen_by_other.json()["status"].as_str().unwrap().to_owned(),
            seen_by_other.header("cache-status").to_owned(),
        )
    };
    // Once from the database, then from the cache.
    assert_eq!(status().await, ("live".into(), "sessiond; fwd=miss; detail=database".into()));
    assert_eq!(status().await, ("live".into(), "sessiond; hit; detail=near".into()));
    fixture.clock.advance(TimeDelta::minutes(15) - TimeDelta::milliseconds(1));
    assert_eq!(status().await.0, "live");
    fixture.clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(status().await, ("idle".into(), "sessiond; fwd=miss; detail=database".into()));
    let list = fixture
        .service_get(&format!("/service/v1/users/{}/sessions", resting.user_id))
        .await
        .json();
    assert_eq!((&list["total_count"], &list["active_count"]), (&json!(2), &json!(1)));

    let response = fixture.get_in(&resting, "/api/v1/sessions/current").await;
    assert_eq!(response.problem(), (401, "session_ended".into()));
}

#[tokio::test]
async fn requests_of_a_user_are_activity_and_reads_of_the_backend_are_not() {
    let fixture = Fixture::new();
    let session = Session { idle_timeout: Some(TimeDelta::minutes(10)), ..fixtures::session() };
    fixture.store(&session).await;
    for _ in 0..5 {
        fixture.clock.advance(TimeDelta::minutes(9));
        // Nothing of it is written yet, and the session is not idle.
        assert_eq!(
            fixture.get_in(&session, "/api/v1/sessions/current").await.json()["status"],
            "live"
        );
    }
    fixture.clock.advance(TimeDelta::minutes(6));
    assert_eq!(fixture.service_get(&path(&session)).await.json()["status"], "live");
    fixture.clock.advance(TimeDelta::minutes(6));
    assert_eq!(fixture.service_get(&path(&session)).await.json()["status"], "idle");
    fixture.application.activity_writer.write_all().await.unwrap();
    assert_eq!(fixture.service_get(&path(&session)).await.json()["status"], "idle");
}

#[tokio::test]
async fn backend_reports_activity_with_an_address() {
    let fixture = Fixture::new();
    let session = fixtures::session();
    fixture.store(&session).await;
    let activity = format!("{}/activity", path(&session));
    fixture.clock.advance(TimeDelta::seconds(90));
    assert_eq!(
        fixture.service_post(&activity, r#"{"ip_address": "198.51.100.9"}"#).await.status,
        204
    );
    let read = fixture.service_get(&path(&session)).await.json();
    assert_eq!(read["last_activity_at"], "2026-01-02T03:05:35.123456Z");
    assert_eq!(read["last_ip_address"], "198.51.100.9");
    assert_eq!(read["ip_address"], "192.0.2.7");
    fixture.application.activity_writer.write_due().await.unwrap();
    let stored = testkit::find_session(&*fixture.repository, session.id).await.unwrap();
    assert_eq!(stored.last_activity_at, fixtures::now() + TimeDelta::seconds(90));
    // Without a body; then it is revoked.
    assert_eq!(fixture.service_post(&activity, Body::empty()).await.status, 204);
    assert_eq!(fixture.service_delete(&path(&session), "").await.status, 204);
    let response = fixture.service_post(&activity, Body::empty()).await;
    assert_eq!(response.problem(), (409, "session_ended".into()));
    let unknown = format!("{}/activity", path(&fixtures::session_number(404)));
    assert_eq!(
        fixture.service_post(&unknown, "{}").await.problem(),
        (404, "session_not_found".into())
    );
    let response = fixture.service_post(&activity, r#"{"ip_address": 7}"#).await;
    assert_eq!((response.problem().0, response.bad_field()), (400, "ip_address".into()));
}

#[tokio::test]
async fn an_owner_names_a_device_and_takes_the_name_away() {
    let fixture = Fixture::new();
    let [own, strangers] = [1, 2].map(fixtures::session_number);
    let strangers = Session { user_id: fixtures::another_user(), ..strangers };
    fixture.store(&own).await;
    fixture.store(&strangers).await;
    let name = async |body: Value| fixture.patch_in(&own, &own_path(&own), &body.to_string()).await;

    // Every cache of the session has seen it.
    fixture.get_in(&own, &own_path(&own)).await;
    let response = name(json!({ "name": "  Küche 📱 " })).await;
    assert_eq!((response.status.as_u16(), &response.json()["name"]), (200, &json!("Küche 📱")));
    assert_eq!(response.json()["is_current"], true);
    assert_eq!(fixture.get_in(&own, &own_path(&own)).await.json()["name"], "Küche 📱");
    assert_eq!(name(json!({ "name": null })).await.json()["name"], Value::Null);

    for (body, status, field) in [
        (json!({}), 400, "name"),
        (json!({ "name": 7 }), 400, "name"),
        (json!({ "name": "x", "metadata": {} }), 400, "metadata"),
        (json!({ "name": "" }), 422, "name"),
        (json!({ "name": "   " }), 422, "name"),
        (json!({ "name": "é".repeat(65) }), 422, "name"),
        (json!({ "name": "a\u{0}b" }), 422, "name"),
        (json!({ "name": "two\nlines" }), 422, "name"),
    ] {
        let response = name(body.clone()).await;
        assert_eq!((response.problem().0, response.bad_field()), (status, field.into()), "{body}");
    }
    assert_eq!(name(json!({ "name": "é".repeat(64) })).await.status, 200);

    let response = fixture.patch_in(&own, &own_path(&strangers), r#"{"name": "mine"}"#).await;
    let unknown = fixture
        .patch_in(&own, &own_path(&fixtures::session_number(404)), r#"{"name": "mine"}"#)
        .await;
    assert_eq!(response.problem(), (404, "session_not_found".into()));
    assert_eq!(response.bytes, unknown.bytes);
    assert_eq!(fixture.service_get(&path(&strangers)).await.json()["name"], "work laptop");
}

#[tokio::test]
async fn the_backend_keeps_metadata_which_users_do_not_see() {
    let fixture = Fixture::new();
    let sign_in = json!({
        "user_id": fixtures::session().user_id.to_string(),
        "metadata": { "plan": "pro", "n": [1, null] }
    });
    let created = fixture.service_post("/service/v1/sessions", sign_in.to_string()).await.json();
    assert_eq!(created["metadata"], sign_in["metadata"]);
    let path = format!("/service/v1/sessions/{}", created["id"].as_str().unwrap());
    assert_eq!(fixture.service_get(&path).await.json()["metadata"], sign_in["metadata"]);

    let edited = fixture
        .service_patch(&path, r#"{"metadata": {"plan": "free"}, "name": "desk"}"#)
        .await
        .json();
    assert_eq!(
        (&edited["metadata"], &edited["name"]),
        (&json!({ "plan": "free" }), &json!("desk"))
    );
    let edited = fixture.service_patch(&path, r#"{"metadata": null}"#).await.json();
    assert_eq!((&edited["metadata"], &edited["name"]), (&Value::Null, &json!("desk")));
    fixture.service_patch(&path, r#"{"metadata": {"x": 1}}"#).await;
    assert_eq!(fixture.service_patch(&path, "{}").await.json()["metadata"], json!({ "x": 1 }));
    let list = fixture
        .service_get(&format!("/service/v1/users/{}/sessions", fixtures::session().user_id))
        .await
        .json();
    assert_eq!(list["sessions"][0]["metadata"], json!({ "x": 1 }));

    let session = testkit::find_session(
        &*fixture.repository,
        created["id"].as_str().unwrap().parse().unwrap(),
    )
    .await
    .unwrap();
    for response in [
        fixture.get_in(&session, "/api/v1/sessions").await,
        fixture.get_in(&session, "/api/v1/sessions/current").await,
    ] {
        assert!(!response.json().to_string().contains("metadata"));
    }

    // `{"":"..."}` is seven bytes and the text.
    let large = |bytes: usize| Metadata::from_iter([(String::new(), "x".repeat(bytes - 7).into())]);
    for (metadata, status) in [
        (json!(large(2048)), 200),
        (json!(large(2049)), 422),
        (json!({ "a": ["\u{0}"] }), 422),
        (json!({ "a\u{0}": 1 }), 422),
        (json!([1]), 400),
        (json!("x"), 400),
    ] {
        let response =
            fixture.service_patch(&path, &json!({ "metadata": metadata }).to_string()).await;
        assert_eq!(response.status, status, "{metadata}");
        if status != 200 {
            assert_eq!(response.bad_field(), "metadata");
            let mut body = sign_in.clone();
            body["metadata"] = metadata;
            assert_eq!(
                fixture.service_post("/service/v1/sessions", body.to_string()).await.status,
                status
            );
        }
    }
    let unknown = format!("/service/v1/sessions/{}", fixtures::session_number(404).id);
    assert_eq!(
        fixture.service_patch(&unknown, "{}").await.problem(),
        (404, "session_not_found".into())
    );
}

#[tokio::test]
async fn a_sign_in_can_be_repeated_with_its_key() {
    let fixture = Fixture::new();
    let sign_in = async |key: &str| {
        let body = json!({ "user_id": fixtures::session().user_id.to_string(), "max_sessions": 1 });
        let request = Request::post("/service/v1/sessions")
            .header("authorization", format!("Bearer {SERVICE_KEY}"))
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        fixture.service(request.body(Body::from(body.to_string())).unwrap()).await
    };
    sign_in("first").await;
    let second = sign_in("second").await;
    assert_eq!(
        (second.status.as_u16(), second.json()["evicted"].as_array().unwrap().len()),
        (201, 1)
    );
    let again = sign_in("second").await;
    assert_eq!((again.status.as_u16(), &again.bytes), (201, &second.bytes));
    // Both spellings of a key are one key.
    assert_eq!(sign_in("\"second\"").await.bytes, again.bytes);
    // The first one's session has made room since: a sign-in with it would be void.
    assert_eq!(sign_in("first").await.problem(), (409, "session_ended".into()));
    for key in ["", &"x".repeat(256), "é", "two words", "\"open"] {
        let response = sign_in(key).await;
        assert_eq!(
            (response.problem().0, response.bad_field()),
            (400, "Idempotency-Key".into()),
            "{key}"
        );
    }
}

#[tokio::test]
async fn all_sessions_are_revoked_on_request_and_not_by_accident() {
    let fixture = Fixture::new();
    let [a, b] = [1, 2].map(fixtures::session_number);
    let b = Session { user_id: fixtures::another_user(), ..b };
    fixture.store(&a).await;
    fixture.store(&b).await;
    const REVOKE: &str = "/service/v1/sessions/revoke";
    for (body, field) in [
        ("{}", "ids"),
        (r#"{"all": false}"#, "ids"),
        (r#"{"all": true, "ids": []}"#, "all"),
        (r#"{"all": "yes"}"#, "all"),
    ] {
        let response = fixture.service_post(REVOKE, body).await;
        assert_eq!((response.problem().0, response.bad_field()), (400, field.into()), "{body}");
    }
    assert_eq!(fixture.get_in(&a, "/api/v1/sessions/current").await.status, 200);
    let response = fixture.service_post(REVOKE, r#"{"all": true, "reason": "breach"}"#).await;
    assert_eq!(response.json(), json!({ "revoked_count": 2 }));
    for session in [&a, &b] {
        assert_eq!(fixture.get_in(session, "/api/v1/sessions/current").await.status, 401);
        assert_eq!(fixture.service_get(&path(session)).await.json()["revoked_reason"], "breach");
    }
    assert_eq!(
        fixture.service_post(REVOKE, r#"{"all": true}"#).await.json(),
        json!({ "revoked_count": 0 })
    );
}

#[tokio::test]
async fn events_are_returned_page_by_page_and_by_session_and_user() {
    let fixture = Fixture::new();
    let [a, b] = [1, 2].map(fixtures::session_number);
    let b = Session { user_id: fixtures::another_user(), ..b };
    fixture.store(&a).await;
    fixture.store(&b).await;
    fixture.delete_in(&a, &own_path(&a), r#"{"reason": "lost phone"}"#).await;
    let page = fixture.service_get("/service/v1/events?limit=2").await.json();
    let rest = fixture
        .service_get(&format!("/service/v1/events?after={}", page["next_after"]))
        .await
        .json();
    assert_eq!(page["events"].as_array().unwrap().len(), 2);
    assert_eq!(
        rest["events"],
        json!([{
            "id": 3,
            "type": "revoked",
            "at": "2026-01-02T03:04:05.123456Z",
            "session_id": a.id.to_string(),
            "user_id": a.user_id.to_string(),
            "reason": "lost phone",
            "actor": format!("user:{}", a.user_id),
        }])
    );
    let end = fixture
        .service_get(&format!("/service/v1/events?after={}", rest["next_after"]))
        .await
        .json();
    assert_eq!(end, json!({ "events": [], "next_after": 3 }));
    let count = async |parameters: String| {
        let page = fixture.service_get(&format!("/service/v1/events?{parameters}")).await.json();
        page["events"].as_array().unwrap().len()
    };
    assert_eq!(count(format!("session_id={}", a.id)).await, 2);
    assert_eq!(count(format!("user_id={}", b.user_id)).await, 1);
    for (parameters, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("after=-1", "after"),
        ("user_id=x", "user_id"),
        ("x=1", "x"),
    ] {
        let response = fixture.service_get(&format!("/service/v1/events?{parameters}")).await;
        assert_eq!(
            (response.problem().0, response.bad_field()),
            (400, field.into()),
            "{parameters}"
        );
    }
}

/// What a stream has sent so far, once it has sent this.
pub(crate) async fn read_until(body: &mut Body, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let frame =
            tokio::time::timeout(std::time::Duration::from_secs(10), body.frame()).await.unwrap();
        text.push_str(std::str::from_utf8(&frame.unwrap().unwrap().into_data().unwrap()).unwrap());
    }
    text
}

#[tokio::test]
async fn a_stream_of_events_resumes_where_it_was_and_ends_with_the_node() {
    let fixture = Fixture::new();
    let [a, b] = [1, 2].map(fixtures::session_number);
    fixture.store(&a).await;
    let stream = async |last: Option<&str>| {
        let mut request = Request::get("/service/v1/events/stream")
            .header("authorization", format!("Bearer {SERVICE_KEY}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        fixture.service_stream(request.body(Body::empty()).unwrap()).await
    };
    let mut first = stream(None).await;
    assert_eq!(first.headers()["content-type"], "text/event-stream");
    let text = read_until(first.body_mut(), "\n\n").await;
    assert!(
        text.contains("id: 1\n")
            && text.contains("event: created\n")
            && text.contains(&a.id.to_string()),
        "{text}"
    );
    fixture.store(&b).await;
    assert!(read_until(first.body_mut(), "\n\n").await.contains("id: 2\n"));

    let mut second = stream(Some("1")).await;
    let text = read_until(second.body_mut(), "\n\n").await;
    assert!(text.contains("id: 2\n") && !text.contains("id: 1\n"), "{text}");
    assert_eq!(stream(None).await.status(), 429, "there are places for two");
    drop(second);
    assert_eq!(stream(Some("nonsense")).await.status(), 400);

    fixture.shutdown.cancel();
    assert!(first.body_mut().frame().await.is_none());
}

/// Proxies close a connection on which nothing comes for a minute.
#[tokio::test(start_paused = true)]
async fn a_quiet_stream_of_events_sends_a_comment_every_fifteen_seconds() {
    let fixture = Fixture::new();
    let request = Request::get("/service/v1/events/stream")
        .header("authorization", format!("Bearer {SERVICE_KEY}"));
    let mut stream = fixture.service_stream(request.body(Body::empty()).unwrap()).await;
    let started = tokio::time::Instant::now();
    for comments in 1..=5 {
        let frame = stream.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(frame.starts_with(b":"), "{frame:?}");
        assert_eq!(started.elapsed().as_secs(), 15 * comments);
    }
    fixture.store(&fixtures::session()).await;
    assert!(read_until(stream.body_mut(), "\n\n").await.contains("event: created\n"));
}
