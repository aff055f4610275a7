use axum::body::Body;
use axum::http::{Method, Request};
use chrono::TimeDelta;
use domain::{Revocation, Session, UserId};
use serde_json::json;
use testkit::fixtures;
use uuid::Uuid;

use crate::setting::{Answer, Setting, bearer, bearer_of};

/// Two sessions of one user, and one of another's.
struct Sessions {
    own: Session,
    other_device: Session,
    strangers: Session,
}

async fn setting() -> (Setting, Sessions) {
    let setting = Setting::new();
    let sessions = Sessions {
        own: fixtures::session(),
        other_device: fixtures::session_number(2),
        strangers: Session { user_id: fixtures::another_user(), ..fixtures::session_number(3) },
    };
    for session in [&sessions.own, &sessions.other_device, &sessions.strangers] {
        setting.store(session).await;
    }
    (setting, sessions)
}

fn path(session: &Session) -> String {
    format!("/api/v1/sessions/{}", session.id)
}

#[tokio::test]
async fn the_owner_reads_every_field() {
    let (setting, sessions) = setting().await;
    let answer = setting.get_in(&sessions.own, &path(&sessions.own)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(
        answer.json(),
        json!({
            "id": "01900000-0000-7000-8000-000000000001",
            "user_id": "01900000-0000-4000-8000-0000000000aa",
            "device_info": "Chrome on macOS",
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
    let (setting, sessions) = setting().await;
    let current = setting.get_in(&sessions.own, "/api/v1/sessions/current").await;
    let by_id = setting.get_in(&sessions.own, &path(&sessions.own)).await;
    assert_eq!((current.status.as_u16(), current.json()), (200, by_id.json()));

    let other = setting.get_in(&sessions.own, &path(&sessions.other_device)).await;
    assert_eq!(other.json()["is_current"], false);
}

#[tokio::test]
async fn cache_status_names_the_layer_of_the_answered_session() {
    let (setting, sessions) = setting().await;
    let layer = async |session: &Session| -> String {
        setting.get_in(&sessions.own, &path(session)).await.header("cache-status").to_owned()
    };
    assert_eq!(layer(&sessions.own).await, "sessiond; fwd=miss; detail=database");
    assert_eq!(layer(&sessions.own).await, "sessiond; hit; detail=near");
    assert_eq!(layer(&sessions.other_device).await, "sessiond; fwd=miss; detail=database");
    assert_eq!(layer(&sessions.other_device).await, "sessiond; hit; detail=near");
}

#[tokio::test]
async fn anothers_session_and_no_session_are_the_same_answer_to_the_byte() {
    let (setting, sessions) = setting().await;
    let comparable = |mut answer: Answer| {
        assert!(answer.headers.remove("x-request-id").is_some());
        (answer.status, answer.headers, answer.bytes)
    };
    let unknown = Session { id: fixtures::session_number(404).id, ..fixtures::session() };
    for _ in 0..2 {
        let anothers = setting.get_in(&sessions.own, &path(&sessions.strangers)).await;
        assert_eq!(anothers.problem(), (404, "session_not_found".into()));
        let none = setting.get_in(&sessions.own, &path(&unknown)).await;
        assert_eq!(comparable(anothers), comparable(none));
        // Its owner having read it, so that it is cached, makes no difference.
        setting.get_in(&sessions.strangers, &path(&sessions.strangers)).await;
    }
}

#[tokio::test]
async fn an_ended_session_of_ones_own_is_shown_with_its_verdict() {
    let (setting, sessions) = setting().await;
    let at = fixtures::now() - TimeDelta::days(1);
    let revoked = Session {
        revocation: Some(Revocation { at, reason: Some("lost phone".into()) }),
        ..fixtures::session_number(10)
    };
    let expired = Session { created_at: at, expires_at: fixtures::now(), ..fixtures::session_number(11) };
    setting.store(&revoked).await;
    setting.store(&expired).await;

    let body = setting.get_in(&sessions.own, &path(&revoked)).await.json();
    assert_eq!((&body["status"], &body["is_revoked"]), (&json!("revoked"), &json!(true)));
    assert_eq!(body["revoked_at"], "2026-01-01T03:04:05.123456Z");
    assert_eq!(body["revoked_reason"], "lost phone");
    let body = setting.get_in(&sessions.own, &path(&expired)).await.json();
    assert_eq!((&body["status"], &body["is_revoked"]), (&json!("expired"), &json!(false)));
}

#[tokio::test]
async fn whose_own_session_is_over_is_told_so_whatever_is_asked() {
    let (setting, sessions) = setting().await;
    let revocation = Some(Revocation { at: fixtures::now(), reason: None });
    let revoked = Session { revocation, ..fixtures::session_number(10) };
    setting.store(&revoked).await;
    let user = sessions.own.user_id;
    for sid in [revoked.id, sessions.strangers.id, fixtures::session_number(404).id] {
        for path in [path(&sessions.own), "/api/v1/sessions/current".into()] {
            let answer = setting.get(&path, Some(&bearer(user, sid))).await;
            assert_eq!(answer.problem(), (401, "session_ended".into()));
            assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
        }
    }
}

#[tokio::test]
async fn a_session_is_over_at_its_expiry_from_the_cache_too() {
    let setting = Setting::new();
    let session = Session { expires_at: fixtures::now() + TimeDelta::milliseconds(2), ..fixtures::session() };
    setting.store(&session).await;
    let status = async || setting.get_in(&session, "/api/v1/sessions/current").await;
    assert_eq!(status().await.header("cache-status"), "sessiond; fwd=miss; detail=database");
    setting.clock.advance(TimeDelta::milliseconds(1));
    let last = status().await;
    assert_eq!((last.status.as_u16(), last.header("cache-status")), (200, "sessiond; hit; detail=near"));
    setting.clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(status().await.problem(), (401, "session_ended".into()));
}

#[tokio::test]
async fn without_a_good_token_nobody_is_anybody() {
    let (setting, sessions) = setting().await;
    let session = &sessions.own;
    let claims = |sid: serde_json::Value, exp: i64| {
        bearer_of(&json!({ "sub": session.user_id.to_string(), "sid": sid, "exp": fixtures::now().timestamp() + exp }))
    };
    let no_session = bearer_of(&json!({ "sub": session.user_id.to_string(), "exp": fixtures::now().timestamp() + 60 }));
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
        // Whoever it may be is asked before what is asked for is looked at.
        for path in [path(session), "/api/v1/sessions/not-a-uuid".into()] {
            let answer = setting.get(&path, header.as_deref()).await;
            assert_eq!(answer.problem(), (401, "unauthenticated".into()), "{header:?}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
}

#[tokio::test]
async fn a_malformed_id_is_a_bad_request_that_names_the_field() {
    let (setting, sessions) = setting().await;
    for id in ["not-a-uuid", "019000000000700080000000000000001", "%00", "01900000-0000-7000-8000-00000000000g"] {
        let answer = setting.get_in(&sessions.own, &format!("/api/v1/sessions/{id}")).await;
        assert_eq!(answer.problem(), (400, "invalid_request".into()), "{id}");
        assert_eq!(answer.bad_field(), "id");
    }
}

#[tokio::test]
async fn a_dead_database_is_unavailable_and_never_logged_out_or_not_found() {
    let (setting, sessions) = setting().await;
    setting.get_in(&sessions.own, "/api/v1/sessions/current").await;
    setting.take_database_down();

    // What is remembered is still answered; what is not is neither 401 nor 404.
    assert_eq!(setting.get_in(&sessions.own, "/api/v1/sessions/current").await.status, 200);
    for (session, path) in [
        (&sessions.own, path(&sessions.other_device)),
        (&sessions.own, path(&fixtures::session_number(404))),
        (&sessions.strangers, "/api/v1/sessions/current".into()),
    ] {
        let answer = setting.get_in(session, &path).await;
        assert_eq!(answer.problem(), (503, "dependency_unavailable".into()));
        assert_eq!(answer.header("retry-after"), "1");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let (setting, _) = setting().await;
    for path in ["/", "/api", "/api/v1/sessions/a/b", "/metrics", "/readyz", "/service/v1/sessions"] {
        assert_eq!(setting.get(path, None).await.problem(), (404, "not_found".into()), "{path}");
    }
    for method in [Method::PUT, Method::POST, Method::TRACE] {
        let request = Request::builder().method(&method).uri("/api/v1/sessions/current");
        let answer = setting.public(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.problem(), (405, "method_not_allowed".into()), "{method}");
        assert_eq!(answer.header("allow"), "GET,HEAD");
    }
}

#[tokio::test]
async fn a_callers_plain_request_id_is_kept_and_any_other_replaced() {
    let (setting, _) = setting().await;
    let with = async |id: &str| {
        let request = Request::get("/").header("x-request-id", id);
        setting.public(request.body(Body::empty()).unwrap()).await.header("x-request-id").to_owned()
    };
    assert_eq!(with("edge-7.42_a").await, "edge-7.42_a");
    for id in ["", "two words", "{\"a\":1}", &"x".repeat(65)] {
        let made = with(id).await;
        assert!(Uuid::parse_str(&made).is_ok(), "{made}");
    }
}

#[tokio::test]
async fn nobody_owns_the_nil_user() {
    let (setting, sessions) = setting().await;
    let answer = setting.get(&path(&sessions.own), Some(&bearer(UserId(Uuid::nil()), sessions.own.id))).await;
    assert_eq!(answer.problem(), (401, "session_ended".into()));
}
