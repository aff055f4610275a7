//! Watches: streams that end with the caller's session, and say what changes.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use chrono::TimeDelta;
use domain::ports::SessionRepository;
use domain::{Revocation, Session, Touch};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use testkit::fixtures;

use crate::fixture::{Fixture, bearer, bearer_of};
use crate::lifecycle::read_until;

const OWN: &str = "/api/v1/sessions/current/watch";
const LIST: &str = "/api/v1/sessions/watch";

async fn watch(fixture: &Fixture, session: &Session, path: &str) -> Response {
    watch_with(fixture, &bearer(session.user_id, session.id), path).await
}

async fn watch_with(fixture: &Fixture, authorization: &str, path: &str) -> Response {
    let request = Request::get(path).header("authorization", authorization);
    fixture.public_stream(request.body(Body::empty()).unwrap()).await
}

/// The next event of a stream: its name and its data.
async fn next(stream: &mut Response) -> (String, Value) {
    let text = read_until(stream.body_mut(), "\n\n").await;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    (field("event:").to_owned(), serde_json::from_str(field("data:")).unwrap())
}

/// Whether nothing comes for as long as several readings take.
async fn is_quiet(stream: &mut Response) -> bool {
    tokio::time::timeout(Duration::from_secs(9), next(stream)).await.is_err()
}

async fn has_ended(stream: &mut Response) -> bool {
    stream.body_mut().frame().await.is_none()
}

#[tokio::test(start_paused = true)]
async fn watch_says_live_and_then_revoked_and_ends() {
    let fixture = Fixture::new();
    let session = fixtures::session();
    fixture.store(&session).await;
    let mut stream = watch(&fixture, &session, OWN).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert_eq!(stream.headers()["x-accel-buffering"], "no");
    assert_eq!(stream.headers()["cache-control"], "no-store");
    let (event, data) = next(&mut stream).await;
    assert_eq!((event.as_str(), &data["status"]), ("live", &Value::from("live")));
    assert_eq!(data["session_id"], session.id.to_string());

    assert_eq!(fixture.delete_in(&session, "/api/v1/sessions/current", "").await.status, 204);
    let (event, data) = next(&mut stream).await;
    assert_eq!((event.as_str(), &data["status"]), ("revoked", &Value::from("revoked")));
    assert!(has_ended(&mut stream).await);
    assert_eq!(watch(&fixture, &session, OWN).await.status(), 401);
}

/// Another node, or SQL, revokes: this node learns of it from the log.
#[tokio::test(start_paused = true)]
async fn watch_notices_a_revocation_that_another_node_has_written() {
    let fixture = Fixture::new();
    let session = fixtures::session();
    fixture.store(&session).await;
    let mut stream = watch(&fixture, &session, OWN).await;
    next(&mut stream).await;
    let revocation = Revocation { at: fixtures::now(), reason: Some("lost".into()), actor: None };
    fixture.repository.revoke(&[session.id], &revocation).await.unwrap();
    fixture.poll().await;
    let (event, data) = next(&mut stream).await;
    assert_eq!((event.as_str(), &data["revoked_reason"]), ("revoked", &Value::from("lost")));
}

#[tokio::test(start_paused = true)]
async fn watch_ends_with_the_session_and_not_before_it() {
    let fixture = Fixture::new();
    let hour = TimeDelta::hours(1);
    let session = Session {
        idle_timeout: Some(hour),
        expires_at: fixtures::now() + TimeDelta::hours(3),
        ..fixtures::session()
    };
    fixture.store(&session).await;
    let exp = session.expires_at.timestamp();
    let claims = json!({ "sub": session.user_id.0, "sid": session.id.0, "exp": exp });
    let mut stream = watch_with(&fixture, &bearer_of(&claims), OWN).await;
    next(&mut stream).await;
    // Activity that another node has written: the session that was read when the watch began is not
    // idle in truth.
    let at = fixtures::now() + hour / 2;
    let touch = Touch { session_id: session.id, first_at: at, last_at: at, ip_address: None };
    fixture.repository.touch(&[touch]).await.unwrap();
    fixture.clock.advance(hour + TimeDelta::minutes(1));
    fixture.poll().await;
    assert!(is_quiet(&mut stream).await, "it is not idle");
    fixture.clock.advance(hour);
    let (event, data) = next(&mut stream).await;
    assert_eq!((event.as_str(), &data["status"]), ("expired", &Value::from("idle")));
    assert!(has_ended(&mut stream).await);
}

/// The session goes on: the client connects again, with the credential that it has by then.
#[tokio::test(start_paused = true)]
async fn watch_ends_with_the_credential_that_it_was_opened_with() {
    let fixture = Fixture::new();
    let session = fixtures::session();
    fixture.store(&session).await;
    let mut by_jwt = watch(&fixture, &session, OWN).await;
    next(&mut by_jwt).await;
    fixture.clock.advance(TimeDelta::minutes(59));
    fixture.poll().await;
    assert!(is_quiet(&mut by_jwt).await, "its JWT is good for an hour");
    fixture.clock.advance(TimeDelta::minutes(2));
    fixture.poll().await;
    assert!(has_ended(&mut by_jwt).await);

    let rotate = format!("/service/v1/sessions/{}/rotate", session.id);
    let token = async || {
        let rotated = fixture.service_post(&rotate, "").await.json();
        format!("Bearer {}", rotated["token"].as_str().unwrap())
    };
    let mut by_token = watch_with(&fixture, &token().await, LIST).await;
    next(&mut by_token).await;
    assert!(is_quiet(&mut by_token).await, "its token is the session's");
    let new = token().await;
    fixture.poll().await;
    assert!(has_ended(&mut by_token).await, "its token has been replaced");
    let mut by_token = watch_with(&fixture, &new, OWN).await;
    next(&mut by_token).await;
    assert!(is_quiet(&mut by_token).await);
}

/// What cannot be known is not reported as an end.
#[tokio::test(start_paused = true)]
async fn watch_goes_on_through_an_outage() {
    let fixture = Fixture::new();
    let session = fixtures::session();
    fixture.store(&session).await;
    let mut stream = watch(&fixture, &session, LIST).await;
    next(&mut stream).await;
    fixture.take_database_down();
    fixture.clock.advance(TimeDelta::minutes(5));
    assert!(is_quiet(&mut stream).await);
}

#[tokio::test(start_paused = true)]
async fn watch_of_the_list_says_what_changes_for_this_user_only() {
    let fixture = Fixture::new();
    let session = fixtures::session();
    fixture.store(&session).await;
    let mut stream = watch(&fixture, &session, LIST).await;
    assert_eq!(next(&mut stream).await.0, "live");

    let stranger = Session { user_id: fixtures::another_user(), ..fixtures::session_number(7) };
    fixture.store(&stranger).await;
    let other = Session { user_id: session.user_id, ..fixtures::session_number(8) };
    fixture.store(&other).await;
    let (event, data) = next(&mut stream).await;
    assert_eq!((event.as_str(), &data["type"]), ("changed", &Value::from("created")));
    assert_eq!(data["session_id"], other.id.to_string());

    assert_eq!(fixture.delete_in(&session, "/api/v1/sessions", "").await.status, 200);
    let (event, data) = next(&mut stream).await;
    assert_eq!((event.as_str(), &data["type"]), ("changed", &Value::from("revoked")));
    assert_eq!(fixture.delete_in(&session, "/api/v1/sessions/current", "").await.status, 204);
    let mut last = next(&mut stream).await;
    if last.0 == "changed" {
        last = next(&mut stream).await;
    }
    assert_eq!(last.0, "revoked");
    assert!(has_ended(&mut stream).await);
}

#[tokio::test(start_paused = true)]
async fn watch_is_not_activity_and_ends_with_the_node() {
    let fixture = Fixture::new();
    let session = fixtures::session();
    fixture.store(&session).await;
    fixture.clock.advance(TimeDelta::minutes(10));
    let mut stream = watch(&fixture, &session, OWN).await;
    next(&mut stream).await;
    let read = fixture.service_get(&format!("/service/v1/sessions/{}", session.id)).await;
    assert_eq!(read.json()["last_activity_at"], "2026-01-02T03:04:05.123456Z");
    fixture.shutdown.cancel();
    assert!(has_ended(&mut stream).await);
}

#[tokio::test(start_paused = true)]
async fn one_user_has_twenty_watches_and_others_have_theirs() {
    let fixture = Fixture::new();
    let session = fixtures::session();
    let stranger = Session { user_id: fixtures::another_user(), ..fixtures::session_number(7) };
    fixture.store(&session).await;
    fixture.store(&stranger).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(watch(&fixture, &session, OWN).await);
    }
    let refused = watch(&fixture, &session, LIST).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(watch(&fixture, &stranger, OWN).await.status(), 200);
    streams.pop();
    assert_eq!(watch(&fixture, &session, OWN).await.status(), 200);
}
