//! The public listener.

use axum::body::Body;
use axum::http::{Method, Request};
use chrono::TimeDelta;
use domain::{Revocation, Session, UserId};
use serde_json::json;
use testkit::fixtures;
use uuid::Uuid;

use crate::fixture::{Fixture, Reply, bearer, bearer_of};

/// Two sessions of one user, and one of another's.
struct Sessions {
    own: Session,
    other_device: Session,
    strangers: Session,
}

async fn fixture() -> (Fixture, Sessions) {
    let fixture = Fixture::new();
    let sessions = Sessions {
        own: fixtures::session(),
        other_device: fixtures::session_number(2),
        strangers: Session { user_id: fixtures::another_user(), ..fixtures::session_number(3) },
    };
    for session in [&sessions.own, &sessions.other_device, &sessions.strangers] {
        fixture.store(session).await;
    }
    (fixture, sessions)
}

fn path(session: &Session) -> String {
    format!("/api/v1/sessions/{}", session.id)
}

#[tokio::test]
async fn the_owner_reads_every_field() {
    let (fixture, sessions) = fixture().await;
    let response = fixture.get_in(&sessions.own, &path(&sessions.own)).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), "application/json");
    assert_eq!(response.header("cache-control"), "no-store");
    assert_eq!(
        response.json(),
        json!({
            "id": "01900000-0000-7000-8000-000000000001",
            "user_id": "01900000-0000-4000-8000-0000000000aa",
            "device_info": "Chrome on macOS",
            "device": { "browser": "Chrome", "system": "macOS", "type": "desktop" },
            "ip_address": "192.0.2.7",
            "location": "Berlin, DE",
            "created_at": "2026-01-02T03:04:05.123456Z",
            "last_activity_at": "2026-01-02T03:04:05.123456Z",
            "expires_at": "2026-02-01T03:04:05.123456Z",
            "is_revoked": false,
            "is_current": true,
            "status": "live",
            "revoked_at": null,
            "revoked_reason": null,
            "name": "work laptop",
            "last_ip_address": "2001:db8::7",
        })
    );
}

#[tokio::test]
async fn current_is_the_callers_own_session() {
    let (fixture, sessions) = fixture().await;
    let current = fixture.get_in(&sessions.own, "/api/v1/sessions/current").await;
    let by_id = fixture.get_in(&sessions.own, &path(&sessions.own)).await;
    assert_eq!((current.status.as_u16(), current.json()), (200, by_id.json()));

    let other = fixture.get_in(&sessions.own, &path(&sessions.other_device)).await;
    assert_eq!(other.json()["is_current"], false);
}

#[tokio::test]
async fn cache_status_names_the_layer_of_the_returned_session() {
    let (fixture, sessions) = fixture().await;
    let layer = async |session: &Session| -> String {
        fixture.get_in(&sessions.own, &path(session)).await.header("cache-status").to_owned()
    };
    assert_eq!(layer(&sessions.own).await, "sessiond; fwd=miss; detail=database");
    assert_eq!(layer(&sessions.own).await, "sessiond; hit; detail=near");
    assert_eq!(layer(&sessions.other_device).await, "sessiond; fwd=miss; detail=database");
    assert_eq!(layer(&sessions.other_device).await, "sessiond; hit; detail=near");
}

#[tokio::test]
async fn anothers_session_and_no_session_are_the_same_response_to_the_byte() {
    let (fixture, sessions) = fixture().await;
    let comparable = |mut response: Reply| {
        assert!(response.headers.remove("x-request-id").is_some());
        (response.status, response.headers, response.bytes)
    };
    let unknown = Session { id: fixtures::session_number(404).id, ..fixtures::session() };
    for _ in 0..2 {
        let anothers = fixture.get_in(&sessions.own, &path(&sessions.strangers)).await;
        assert_eq!(anothers.problem(), (404, "session_not_found".into()));
        let none = fixture.get_in(&sessions.own, &path(&unknown)).await;
        assert_eq!(comparable(anothers), comparable(none));
        // Its owner having read it, so that it is cached, makes no difference.
        fixture.get_in(&sessions.strangers, &path(&sessions.strangers)).await;
    }
}

#[tokio::test]
async fn terminated_session_of_ones_own_is_shown_with_its_status() {
    let (fixture, sessions) = fixture().await;
    let at = fixtures::now() - TimeDelta::days(1);
    let revoked = Session {
        revocation: Some(Revocation { at, reason: Some("lost phone".into()), actor: None }.into()),
        ..fixtures::session_number(10)
    };
    let expired =
        Session { created_at: at, expires_at: fixtures::now(), ..fixtures::session_number(11) };
    fixture.store(&revoked).await;
    fixture.store(&expired).await;

    let body = fixture.get_in(&sessions.own, &path(&revoked)).await.json();
    assert_eq!((&body["status"], &body["is_revoked"]), (&json!("revoked"), &json!(true)));
    assert_eq!(body["revoked_at"], "2026-01-01T03:04:05.123456Z");
    assert_eq!(body["revoked_reason"], "lost phone");
    let body = fixture.get_in(&sessions.own, &path(&expired)).await.json();
    assert_eq!((&body["status"], &body["is_revoked"]), (&json!("expired"), &json!(false)));
}

#[tokio::test]
async fn caller_whose_own_session_is_terminated_gets_session_ended_on_every_route() {
    let (fixture, sessions) = fixture().await;
    let revocation = Some(Revocation { at: fixtures::now(), reason: None, actor: None }.into());
    let revoked = Session { revocation, ..fixtures::session_number(10) };
    fixture.store(&revoked).await;
    let user = sessions.own.user_id;
    for sid in [revoked.id, sessions.strangers.id, fixtures::session_number(404).id] {
        for path in [path(&sessions.own), "/api/v1/sessions/current".into()] {
            let response = fixture.get(&path, Some(&bearer(user, sid))).await;
            assert_eq!(response.problem(), (401, "session_ended".into()));
            assert_eq!(response.header("www-authenticate"), "Bearer error=\"invalid_token\"");
        }
    }
}

#[tokio::test]
async fn cached_session_expires_too() {
    let fixture = Fixture::new();
    let session =
        Session { expires_at: fixtures::now() + TimeDelta::milliseconds(2), ..fixtures::session() };
    fixture.store(&session).await;
    let status = async || fixture.get_in(&session, "/api/v1/sessions/current").await;
    assert_eq!(status().await.header("cache-status"), "sessiond; fwd=miss; detail=database");
    fixture.clock.advance(TimeDelta::milliseconds(1));
    let last = status().await;
    assert_eq!(
        (last.status.as_u16(), last.header("cache-status")),
        (200, "sessiond; hit; detail=near")
    );
    fixture.clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(status().await.problem(), (401, "session_ended".into()));
}

#[tokio::test]
async fn request_without_a_good_token_is_unauthenticated() {
    let (fixture, sessions) = fixture().await;
    let session = &sessions.own;
    let claims = |sid: serde_json::Value, exp: i64| {
        bearer_of(&json!({
            "sub": session.user_id.to_string(),
            "sid": sid,
            "exp": fixtures::now().timestamp() + exp
        }))
    };
    let no_session = bearer_of(
        &json!({ "sub": session.user_id.to_string(), "exp": fixtures::now().timestamp() + 60 }),
    );
    let headers = [
        None,
        Some("Basic dXNlcjpwYXNz".to_owned()),
        Some("Bearer".to_owned()),
        Some("Bearer nonsense".to_owned()),
        Some(format!("Bearer {}", session.id)),
        Some(claims(json!(session.id.to_string()), -3600)),
        Some(claims(json!("nonsense"), 60)),
        Some(no_session),
    ];
    for header in headers {
        // The caller is authenticated before the request is examined.
        for path in [path(session), "/api/v1/sessions/not-a-uuid".into()] {
            let response = fixture.get(&path, header.as_deref()).await;
            assert_eq!(response.problem(), (401, "unauthenticated".into()), "{header:?}");
            // RFC 6750 section 3.1: no error where nothing was presented.
            let is_token = header.as_ref().is_some_and(|value| value.starts_with("Bearer "));
            let challenge = if is_token { "Bearer error=\"invalid_token\"" } else { "Bearer" };
            assert_eq!(response.header("www-authenticate"), challenge, "{header:?}");
        }
    }
}

#[tokio::test]
async fn a_malformed_id_is_a_bad_request_that_names_the_field() {
    let (fixture, sessions) = fixture().await;
    for id in [
        "not-a-uuid",
        "019000000000700080000000000000001",
        "%00",
        "01900000-0000-7000-8000-00000000000g",
    ] {
        let response = fixture.get_in(&sessions.own, &format!("/api/v1/sessions/{id}")).await;
        assert_eq!(response.problem(), (400, "invalid_request".into()), "{id}");
        assert_eq!(response.bad_field(), "id");
    }
}

#[tokio::test]
async fn a_dead_database_is_unavailable_and_never_logged_out_or_not_found() {
    let (fixture, sessions) = fixture().await;
    fixture.get_in(&sessions.own, "/api/v1/sessions/current").await;
    fixture.take_database_down();

    // What is cached is still served; what is not is neither 401 nor 404.
    assert_eq!(fixture.get_in(&sessions.own, "/api/v1/sessions/current").await.status, 200);
    for (session, path) in [
        (&sessions.own, path(&sessions.other_device)),
        (&sessions.own, path(&fixtures::session_number(404))),
        (&sessions.strangers, "/api/v1/sessions/current".into()),
    ] {
        let response = fixture.get_in(session, &path).await;
        assert_eq!(response.problem(), (503, "dependency_unavailable".into()));
        assert_eq!(response.header("retry-after"), "1");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let (fixture, _) = fixture().await;
    for path in ["/", "/api", "/api/v1/sessions/a/b", "/metrics", "/readyz", "/service/v1/sessions"]
    {
        assert_eq!(fixture.get(path, None).await.problem(), (404, "not_found".into()), "{path}");
    }
    for method in [Method::PUT, Method::POST, Method::TRACE] {
        let request = Request::builder().method(&method).uri("/api/v1/sessions/current");
        let response = fixture.public(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.problem(), (405, "method_not_allowed".into()), "{method}");
        assert_eq!(response.header("allow"), "GET,HEAD,PATCH,DELETE");
    }
}

#[tokio::test]
async fn a_backends_plain_request_id_is_kept_and_any_other_replaced() {
    let (fixture, _) = fixture().await;
    let request =
        |id: &str| Request::get("/").header("x-request-id", id).body(Body::empty()).unwrap();
    let with =
        async |id: &str| fixture.service(request(id)).await.header("x-request-id").to_owned();
    // An end user does not choose what operators find in their logs.
    let of_user = fixture.public(request("edge-7.42_a")).await.header("x-request-id").to_owned();
    assert!(Uuid::parse_str(&of_user).is_ok(), "{of_user}");
    assert_eq!(with("edge-7.42_a").await, "edge-7.42_a");
    for id in ["", "two words", "{\"a\":1}", &"x".repeat(65)] {
        let made = with(id).await;
        assert!(Uuid::parse_str(&made).is_ok(), "{made}");
    }
}

#[tokio::test]
async fn nil_user_is_refused() {
    let (fixture, sessions) = fixture().await;
    let response = fixture
        .get(&path(&sessions.own), Some(&bearer(UserId(Uuid::nil()), sessions.own.id)))
        .await;
    assert_eq!(response.problem(), (401, "session_ended".into()));
}

async fn status(fixture: &Fixture, asker: &Session, session: &Session) -> String {
    fixture.get_in(asker, &path(session)).await.json()["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn signing_out_a_device_revokes_it_at_once_and_again_is_no_error() {
    let (fixture, sessions) = fixture().await;
    // Both are in the cache.
    fixture.get_in(&sessions.own, &path(&sessions.other_device)).await;
    let response = fixture
        .delete_in(&sessions.own, &path(&sessions.other_device), r#"{"reason": "lost phone"}"#)
        .await;
    assert_eq!((response.status.as_u16(), response.bytes.len()), (204, 0));
    let body = fixture.get_in(&sessions.own, &path(&sessions.other_device)).await.json();
    assert_eq!(
        (&body["status"], &body["revoked_reason"]),
        (&json!("revoked"), &json!("lost phone"))
    );
    assert_eq!(body["revoked_at"], "2026-01-02T03:04:05.123456Z");
    let gone = fixture.get_in(&sessions.other_device, "/api/v1/sessions/current").await;
    assert_eq!(gone.problem(), (401, "session_ended".into()));

    fixture.clock.advance(TimeDelta::hours(1));
    let again = fixture
        .delete_in(&sessions.own, &path(&sessions.other_device), r#"{"reason": "again"}"#)
        .await;
    assert_eq!(again.status, 204);
    let after = fixture.get_in(&sessions.own, &path(&sessions.other_device)).await.json();
    assert_eq!(after, body);
    assert_eq!(status(&fixture, &sessions.own, &sessions.own).await, "live");
}

#[tokio::test]
async fn logging_out_needs_no_body_and_no_id() {
    let (fixture, sessions) = fixture().await;
    let request = Request::delete("/api/v1/sessions/current")
        .header("authorization", bearer(sessions.own.user_id, sessions.own.id));
    assert_eq!(fixture.public(request.body(Body::empty()).unwrap()).await.status, 204);
    let gone = fixture.get_in(&sessions.own, "/api/v1/sessions/current").await;
    assert_eq!(gone.problem(), (401, "session_ended".into()));
    assert_eq!(status(&fixture, &sessions.other_device, &sessions.own).await, "revoked");
}

#[tokio::test]
async fn signing_out_all_others_spares_this_one_and_other_people() {
    let (fixture, sessions) = fixture().await;
    for expected in [1, 0] {
        let response = fixture.delete_in(&sessions.own, "/api/v1/sessions", "").await;
        assert_eq!(
            (response.status.as_u16(), response.json()),
            (200, json!({ "revoked_count": expected }))
        );
    }
    assert_eq!(status(&fixture, &sessions.own, &sessions.own).await, "live");
    assert_eq!(status(&fixture, &sessions.own, &sessions.other_device).await, "revoked");
    assert_eq!(status(&fixture, &sessions.strangers, &sessions.strangers).await, "live");
}

#[tokio::test]
async fn stranger_revokes_nothing_and_learns_nothing() {
    let (fixture, sessions) = fixture().await;
    let anothers = fixture.delete_in(&sessions.own, &path(&sessions.strangers), "{}").await;
    let unknown =
        fixture.delete_in(&sessions.own, &path(&fixtures::session_number(404)), "{}").await;
    assert_eq!(anothers.problem(), (404, "session_not_found".into()));
    assert_eq!(anothers.bytes, unknown.bytes);
    assert_eq!(status(&fixture, &sessions.strangers, &sessions.strangers).await, "live");
}

#[tokio::test]
async fn bad_reason_revokes_nothing() {
    let (fixture, sessions) = fixture().await;
    let long = json!({ "reason": "x".repeat(256) }).to_string();
    for (body, status, field) in [
        (long.as_str(), 422, "reason"),
        (r#"{"reason": "a\u0000b"}"#, 422, "reason"),
        (r#"{"reason": 7}"#, 400, "reason"),
        (r#"{"because": "x"}"#, 400, "because"),
        ("nonsense", 400, "body"),
    ] {
        for path in [
            path(&sessions.other_device),
            "/api/v1/sessions".into(),
            "/api/v1/sessions/current".into(),
        ] {
            let response = fixture.delete_in(&sessions.own, &path, body).await;
            assert_eq!(
                (response.status.as_u16(), response.bad_field().as_str()),
                (status, field),
                "{path} {body}"
            );
        }
    }
    assert_eq!(status(&fixture, &sessions.own, &sessions.other_device).await, "live");
}

#[tokio::test]
async fn the_list_is_the_callers_own_newest_first_page_by_page() {
    let (fixture, sessions) = fixture().await;
    for n in 10..15 {
        let created_at = fixtures::now() + TimeDelta::seconds(n as i64);
        fixture.store(&Session { created_at, ..fixtures::session_number(n) }).await;
    }
    fixture.delete_in(&sessions.own, &path(&fixtures::session_number(12)), "{}").await;
    let list = async |query: &str| {
        fixture.get_in(&sessions.own, &format!("/api/v1/sessions{query}")).await.json()
    };

    let whole = list("").await;
    assert_eq!(
        (&whole["total_count"], &whole["active_count"], &whole["next_cursor"]),
        (&json!(7), &json!(6), &json!(null))
    );
    let all = whole["sessions"].as_array().unwrap();
    let ids = |sessions: &[serde_json::Value]| -> Vec<String> {
        sessions.iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect()
    };
    let newest_first = [14, 13, 12, 11, 10].map(|n| fixtures::session_number(n).id.to_string());
    assert_eq!(ids(all)[..5], newest_first);
    assert!(all.iter().all(|session| session.get("user_agent").is_none()));
    let current: Vec<_> = all.iter().filter(|session| session["is_current"] == true).collect();
    assert_eq!(ids(&[current[0].clone()]), [sessions.own.id.to_string()]);
    assert_eq!(current.len(), 1);

    let mut paged = Vec::new();
    let mut query = "?limit=3".to_owned();
    loop {
        let page = list(&query).await;
        paged.extend(ids(page["sessions"].as_array().unwrap()));
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(paged, ids(all));

    let active = list("?active_only=true").await;
    assert_eq!(
        (active["sessions"].as_array().unwrap().len(), &active["total_count"]),
        (6, &json!(7))
    );
    assert!(
        active["sessions"].as_array().unwrap().iter().all(|session| session["status"] == "live")
    );
}

#[tokio::test]
async fn bad_list_parameters_are_named() {
    let (fixture, sessions) = fixture().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("active_only=maybe", "active_only"),
        ("cursor=nonsense", "cursor"),
        ("page=2", "page"),
    ] {
        let response = fixture.get_in(&sessions.own, &format!("/api/v1/sessions?{query}")).await;
        assert_eq!(
            (response.problem(), response.bad_field().as_str()),
            ((400, "invalid_request".into()), field),
            "{query}"
        );
    }
}

#[tokio::test]
async fn nothing_is_revoked_or_listed_while_the_database_is_down() {
    let (fixture, sessions) = fixture().await;
    fixture.get_in(&sessions.own, "/api/v1/sessions/current").await;
    fixture.take_database_down();
    for response in [
        fixture.delete_in(&sessions.own, &path(&sessions.other_device), "").await,
        fixture.delete_in(&sessions.own, "/api/v1/sessions", "").await,
        fixture.get_in(&sessions.own, "/api/v1/sessions").await,
    ] {
        assert_eq!(response.problem(), (503, "dependency_unavailable".into()));
    }
}
