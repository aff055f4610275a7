//! Any request to any route: an error of the caller's is reported to the caller, and
//! changes nothing.

use axum::body::Body;
use axum::http::{Method, Request};
use domain::{Actor, Session};
use futures_util::FutureExt;
use serde_json::{Value, json};
use sessiond::http::gateway::paths as gateway_paths;
use sessiond::http::public::paths as public_paths;
use sessiond::http::service::{open_paths as open_service_paths, paths as service_paths};
use testkit::fixtures;

use crate::fixture::{Fixture, READ_KEY, Reply, SERVICE_KEY, WRITE_KEY, bearer};
use crate::routes::is_stream;

const SESSIONS: &str = "/service/v1/sessions";

/// Bodies that are no request of any route.
fn wrong_bodies() -> Vec<String> {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(5_000), close.repeat(5_000));
    let id = fixtures::session().id;
    let mut bodies: Vec<String> = [
        "[]",
        "[null]",
        "[null,true,null]",
        "[null,true,\"x\"]",
        "[\"positional\"]",
        "[[]]",
        "[{}]",
        "null",
        "true",
        "7",
        "-1e400",
        "\"text\"",
        "{",
        "}",
        "{}{}",
        "{\"reason\":}",
        "{'reason':'x'}",
        "{\"reason\":\"x\",}",
        "nonsense",
        " [] ",
        "\t[null, true]",
        "{\"reason\":\"\u{0}\"}",
        "{\"reason\":\"\\ud800\"}",
        "{\"__proto__\":{}}",
        "{\"\":1}",
    ]
    .map(str::to_owned)
    .to_vec();
    bodies.push(format!("[\"{}\"]", fixtures::session().user_id));
    bodies.push(format!("[\"{}\",null,null,null,null,null]", fixtures::session().user_id));
    bodies.push(format!("[[\"{id}\"],false,null]"));
    bodies.push(deep("[", "]"));
    bodies.push(deep("{\"a\":", "}"));
    bodies.push(format!("{{\"metadata\":{}}}", deep("[", "]")));
    bodies.push(format!("{{\"reason\":\"{}\"}}", "x".repeat(100_000)));
    bodies.push("x".repeat(1 << 20));
    let values = [
        "null",
        "true",
        "7",
        "-1",
        "1.5",
        "1e400",
        "\"x\"",
        "\"\"",
        "[]",
        "[null]",
        "{}",
        "{\"a\":1,\"a\":2}",
    ];
    let fields = [
        "user_id",
        "issuer",
        "subject",
        "ip_address",
        "user_agent",
        "expires_at",
        "max_sessions",
        "metadata",
        "name",
        "reason",
        "except_session_id",
        "ids",
        "all",
        "unknown",
    ];
    for field in fields {
        for value in values {
            // Together with what no route knows, so that none of them is a good request.
            bodies.push(format!("{{\"{field}\":{value},\"zzz\":1}}"));
        }
        bodies.push(format!("{{\"{field}\":null,\"{field}\":null}}"));
    }
    bodies
}

/// Words that would say how sessiond is made.
const INSIDE: [&str; 8] = ["struct", "Body", "u32", "u64", "NonZero", "Option<", "serde", "Uuid"];

async fn everything(fixture: &Fixture) -> Value {
    let mut all = Vec::new();
    for n in 1..=3 {
        all.push(
            fixture
                .service_get(&format!("{SESSIONS}/{}", fixtures::session_number(n).id))
                .await
                .json(),
        );
    }
    let list = fixture
        .service_get(&format!("/service/v1/users/{}/sessions", fixtures::session().user_id))
        .await
        .json();
    json!([all, list])
}

/// Every route with every method that it has, of both listeners.
async fn calls(fixture: &Fixture) -> Vec<(bool, Method, String)> {
    let id = fixtures::session_number(2).id.to_string();
    let user = fixtures::session().user_id.to_string();
    let public = public_paths().into_iter().map(|path| (true, path));
    let service = service_paths().into_iter().chain(open_service_paths()).chain(gateway_paths());
    let service = service.map(|path| (false, path));
    let mut calls = Vec::new();
    for (is_public, path) in public.chain(service) {
        let request =
            Request::builder().method(Method::TRACE).uri(path).body(Body::empty()).unwrap();
        let response =
            if is_public { fixture.public(request).await } else { fixture.service(request).await };
        for method in response.header("allow").split(',') {
            let path = path.replace("{id}", &id).replace("{user_id}", &user);
            if !is_stream(&path) {
                calls.push((is_public, method.trim().parse().unwrap(), path));
            }
        }
    }
    calls
}

async fn call(
    fixture: &Fixture,
    (is_public, method, path): &(bool, Method, String),
    body: Body,
) -> Reply {
    let own = fixtures::session_number(1);
    let is_end_user = *is_public || gateway_paths().contains(&path.split('?').next().unwrap());
    let authorization =
        if is_end_user { bearer(own.user_id, own.id) } else { format!("Bearer {SERVICE_KEY}") };
    let form = "application/x-www-form-urlencoded";
    let content_type = if path.ends_with("/introspect") { form } else { "application/json" };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", authorization)
        .header("content-type", content_type)
        .body(body)
        .unwrap();
    if *is_public { fixture.public(request).await } else { fixture.service(request).await }
}

async fn with_sessions() -> Fixture {
    let fixture = Fixture::new();
    for n in 1..=3 {
        fixture.store(&fixtures::session_number(n)).await;
    }
    fixture
}

#[tokio::test]
async fn wrong_body_is_refused_by_every_route_and_changes_nothing() {
    let fixture = with_sessions().await;
    let before = everything(&fixture).await;
    let bodies = wrong_bodies();
    let calls = calls(&fixture).await;
    assert!(calls.len() >= 25, "{calls:?}");
    for call_of in &calls {
        let is_read = matches!(call_of.1, Method::GET | Method::HEAD);
        for body in &bodies {
            let response = call(&fixture, call_of, Body::from(body.clone())).await;
            let status = response.status.as_u16();
            let shown = &body[..body.len().min(120)];
            if is_read {
                // A read has no body: what is sent is passed over, unless it is too large.
                assert!([200, 204, 413].contains(&status), "{call_of:?} {shown}: {status}");
                continue;
            }
            assert!([400, 413, 422].contains(&status), "{call_of:?} {shown}: {status}");
            let text = response.json().to_string();
            let leak = INSIDE.iter().find(|word| text.contains(**word) && !shown.contains(**word));
            assert_eq!(leak, None, "{call_of:?} {shown}: {text}");
        }
    }
    assert_eq!(everything(&fixture).await, before);
}

#[tokio::test]
async fn wrong_parameters_are_refused_by_every_route_and_never_5xx() {
    let fixture = with_sessions().await;
    let before = everything(&fixture).await;
    let names = ["user_id", "session_id", "after", "limit", "cursor", "active_only", "unknown"];
    let values = [
        "x",
        "-1",
        "%2B1",
        "1e2",
        "18446744073709551616",
        "%00",
        "%FF",
        "[]",
        "{}",
        "true&limit=2&limit=2",
        "9000000000000000%2B",
        "8000000000000000ffffffffffffffffffffffffffffffff",
        "900000000000000000000000000000000000000000000000",
        "7fffffffffffffff00000000000000000000000000000000",
        "urn:uuid:01900000-0000-4000-8000-0000000000aa",
        "%7B01900000-0000-4000-8000-0000000000aa%7D",
        "01900000000040008000000000000000aa",
    ];
    for call_of in calls(&fixture).await.iter().filter(|call| call.1 == Method::GET) {
        for name in names {
            for value in values {
                let with = (call_of.0, call_of.1.clone(), format!("{}?{name}={value}", call_of.2));
                let response = call(&fixture, &with, Body::empty()).await;
                // Some routes take no parameters at all.
                assert!(
                    [200, 204, 400].contains(&response.status.as_u16()),
                    "{with:?}: {}",
                    response.status
                );
                if response.status == 400 {
                    let text = response.json().to_string();
                    assert!(INSIDE.iter().all(|word| !text.contains(word)), "{with:?}: {text}");
                }
            }
        }
    }
    assert_eq!(everything(&fixture).await, before);
}

#[tokio::test]
async fn id_has_one_spelling_wherever_it_stands() {
    let fixture = with_sessions().await;
    let id = fixtures::session().user_id.0;
    for spelling in
        [id.simple().to_string(), id.braced().to_string(), id.urn().to_string(), "alice".to_owned()]
    {
        let body = json!({ "user_id": spelling }).to_string();
        let ids = json!({ "ids": [spelling] }).to_string();
        let encoded = spelling.replace('{', "%7B").replace('}', "%7D");
        for (response, field) in [
            (fixture.service_post(SESSIONS, body).await, "user_id"),
            (fixture.service_post(&format!("{SESSIONS}/revoke"), ids).await, "ids[0]"),
            (fixture.service_get(&format!("{SESSIONS}/{encoded}")).await, "id"),
            (
                fixture.service_get(&format!("/service/v1/users/{encoded}/sessions")).await,
                "user_id",
            ),
            (
                fixture.service_get(&format!("/service/v1/events?user_id={encoded}")).await,
                "user_id",
            ),
        ] {
            assert_eq!(
                (response.problem().0, response.bad_field().as_str()),
                (400, field),
                "{spelling}"
            );
            let message = response.json()["errors"][0]["message"].as_str().unwrap().to_owned();
            assert_eq!(message, "must be a UUID, hyphenated", "{spelling}");
        }
    }
}

#[tokio::test]
async fn empty_body_is_no_body_however_it_is_framed() {
    let chunked =
        || Body::from_stream(futures_util::stream::empty::<Result<Vec<u8>, std::io::Error>>());
    for content_type in [None, Some("application/json"), Some("text/plain")] {
        let fixture = with_sessions().await;
        let own = fixtures::session_number(1);
        let send = async |method: Method, path: String, is_public: bool| {
            let authorization = if is_public {
                bearer(own.user_id, own.id)
            } else {
                format!("Bearer {SERVICE_KEY}")
            };
            let mut request =
                Request::builder().method(method).uri(path).header("authorization", authorization);
            if let Some(value) = content_type {
                request = request.header("content-type", value);
            }
            let request = request.body(chunked()).unwrap();
            if is_public { fixture.public(request).await } else { fixture.service(request).await }
        };
        let other = fixtures::session_number(2).id;
        let third = fixtures::session_number(3).id;
        let user = own.user_id;
        for (method, path, is_public, status) in [
            (Method::POST, format!("{SESSIONS}/{third}/activity"), false, 204),
            (Method::DELETE, format!("{SESSIONS}/{third}"), false, 204),
            (Method::DELETE, format!("/api/v1/sessions/{other}"), true, 204),
            (Method::DELETE, "/api/v1/sessions".into(), true, 200),
            (Method::DELETE, "/api/v1/sessions/current".into(), true, 204),
            (Method::DELETE, format!("/service/v1/users/{user}/sessions"), false, 200),
            (Method::POST, SESSIONS.into(), false, 400),
        ] {
            let response = send(method.clone(), path.clone(), is_public).await;
            assert_eq!(response.status, status, "{method} {path} {content_type:?}");
        }
    }
}

/// A body may take longer than the work: it is not an outage, and nothing is done before it is
/// there.
#[tokio::test(start_paused = true)]
async fn slow_body_is_waited_for_and_one_that_does_not_come_is_408() {
    let fixture = with_sessions().await;
    let session = fixtures::session_number(2);
    let body = |after: u64, text: &'static str| {
        Body::from_stream(futures_util::stream::once(async move {
            tokio::time::sleep(std::time::Duration::from_secs(after)).await;
            Ok::<_, std::io::Error>(text)
        }))
    };
    let path = (false, Method::PATCH, format!("{SESSIONS}/{}", session.id));
    let response = call(&fixture, &path, body(8, r#"{"name": "slow"}"#)).await;
    assert_eq!((response.status.as_u16(), &response.json()["name"]), (200, &json!("slow")));
    let response = call(&fixture, &path, body(11, r#"{"name": "late"}"#)).await;
    assert_eq!(response.problem(), (408, "request_timeout".into()));
    assert_eq!(response.header("connection"), "close");
    assert_eq!(
        testkit::find_session(&*fixture.repository, session.id).await.unwrap().name.as_deref(),
        Some("slow")
    );
}

#[tokio::test]
async fn more_ids_than_a_call_takes_are_named() {
    let fixture = with_sessions().await;
    let ids = |count: u64| {
        let id = |n| fixtures::session_number(n).id.to_string();
        json!({ "ids": (0..count).map(id).collect::<Vec<_>>() })
    };
    let post = async |count: u64| {
        fixture.service_post(&format!("{SESSIONS}/revoke"), ids(count).to_string()).await
    };
    for count in [401, 500, 1_000, 1_500] {
        let response = post(count).await;
        assert_eq!((response.problem().0, response.bad_field().as_str()), (422, "ids"), "{count}");
    }
    assert_eq!(everything(&fixture).await[1]["active_count"], 3);
    assert_eq!(post(400).await.json(), json!({ "revoked_count": 3 }));
}

#[tokio::test]
async fn addresses_are_stored_in_one_spelling_and_refuse_no_sign_in() {
    let fixture = Fixture::new();
    for (text, expected) in [
        (json!("::ffff:203.0.113.9"), json!("203.0.113.9")),
        (json!("203.0.113.9:4711"), json!("203.0.113.9")),
        (json!("[2001:db8::7]"), json!("2001:db8::7")),
        (json!("fe80::1%eth0"), json!("fe80::1")),
        (json!("203.0.113.9 "), json!("203.0.113.9")),
        (json!(""), Value::Null),
        (json!("unknown"), Value::Null),
        (json!("192.0.2.0/24"), Value::Null),
    ] {
        let body =
            json!({ "user_id": fixtures::session().user_id.to_string(), "ip_address": text });
        let response = fixture.service_post(SESSIONS, body.to_string()).await;
        assert_eq!(
            (response.status.as_u16(), &response.json()["ip_address"]),
            (201, &expected),
            "{text}"
        );
    }
}

#[tokio::test]
async fn user_can_be_named_by_issuer_and_subject() {
    let fixture = Fixture::new();
    let issuer = "https://tenant.eu.auth0.com/";
    let subject = "auth0|5f7c8ec7c33c6c004bbafe82";
    let response = fixture
        .service_post(SESSIONS, json!({ "issuer": issuer, "subject": subject }).to_string())
        .await;
    assert_eq!(response.status, 201);
    assert_eq!(response.json()["user_id"], domain::UserId::of_subject(issuer, subject).to_string());
    let user_id = fixtures::session().user_id.to_string();
    for (body, status, field) in [
        (json!({ "issuer": issuer }), 400, "subject"),
        (json!({ "subject": subject }), 400, "issuer"),
        (json!({ "user_id": user_id, "issuer": issuer, "subject": subject }), 400, "user_id"),
        (json!({ "user_id": user_id, "subject": subject }), 400, "user_id"),
        (json!({ "issuer": issuer, "subject": "" }), 422, "subject"),
        (json!({ "issuer": "", "subject": subject }), 422, "issuer"),
        (json!({ "issuer": issuer, "subject": "x".repeat(1025) }), 422, "subject"),
    ] {
        let response = fixture.service_post(SESSIONS, body.to_string()).await;
        assert_eq!(
            (response.problem().0, response.bad_field().as_str()),
            (status, field),
            "{body}"
        );
    }
}

#[tokio::test]
async fn idempotency_key_is_for_one_request() {
    let fixture = Fixture::new();
    let sign_in = async |body: Value| {
        let request = Request::post(SESSIONS)
            .header("authorization", format!("Bearer {SERVICE_KEY}"))
            .header("content-type", "application/json")
            .header("idempotency-key", "one");
        fixture.service(request.body(Body::from(body.to_string())).unwrap()).await
    };
    let user_id = fixtures::session().user_id.to_string();
    let first = sign_in(json!({ "user_id": user_id, "ip_address": "192.0.2.1" })).await;
    assert_eq!(first.status, 201);
    for other in [
        json!({ "user_id": user_id, "ip_address": "192.0.2.2" }),
        json!({ "user_id": user_id, "ip_address": "192.0.2.1", "metadata": {} }),
        json!({ "user_id": user_id }),
    ] {
        let response = sign_in(other).await;
        assert_eq!((response.problem().0, response.bad_field().as_str()), (422, "Idempotency-Key"));
    }
    let again = sign_in(json!({ "user_id": user_id, "ip_address": "192.0.2.1" })).await;
    assert_eq!((again.status.as_u16(), again.bytes), (201, first.bytes));
}

#[tokio::test]
async fn no_update_is_lost_between_two_editors() {
    let fixture = with_sessions().await;
    let path = format!("{SESSIONS}/{}", fixtures::session_number(1).id);
    let patch = async |condition: &str, body: Value| {
        let request = Request::patch(&path)
            .header("authorization", format!("Bearer {SERVICE_KEY}"))
            .header("content-type", "application/json")
            .header("if-match", condition);
        fixture.service(request.body(Body::from(body.to_string())).unwrap()).await
    };
    let tag = fixture.service_get(&path).await.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 10, "{tag}");
    let edited = patch(&tag, json!({ "metadata": { "n": 1 } })).await;
    assert_eq!(edited.status, 200);
    let next = edited.header("etag").to_owned();
    assert_ne!(next, tag);
    for stale in [tag.as_str(), &format!("W/{next}"), "\"x\"", "x", ""] {
        let response = patch(stale, json!({ "metadata": { "n": 2 } })).await;
        assert_eq!(response.problem(), (412, "precondition_failed".into()), "{stale}");
    }
    assert_eq!(fixture.service_get(&path).await.json()["metadata"], json!({ "n": 1 }));
    for good in [format!("{tag}, {next}"), "*".to_owned()] {
        assert_eq!(patch(&good, json!({})).await.status, 200, "{good}");
    }
    // Activity is no edit.
    fixture.service_post(&format!("{path}/activity"), "").await;
    assert_eq!(fixture.service_get(&path).await.header("etag"), next);
    let unknown = format!("{SESSIONS}/{}", fixtures::session_number(404).id);
    assert_eq!(fixture.service_patch(&unknown, "{}").await.problem().0, 404);
}

#[tokio::test]
async fn key_does_what_its_scopes_allow_under_its_name() {
    let fixture = with_sessions().await;
    let send = async |key: &str, method: Method, path: &str, body: &str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        fixture.service(request.body(Body::from(body.to_owned())).unwrap()).await
    };
    let one = format!("{SESSIONS}/{}", fixtures::session_number(2).id);
    let revoke = format!("{SESSIONS}/revoke");
    assert_eq!(send(READ_KEY, Method::GET, &one, "").await.status, 200);
    for (key, method, path, body) in [
        (READ_KEY, Method::POST, SESSIONS, "{}"),
        (READ_KEY, Method::PATCH, one.as_str(), "{}"),
        (READ_KEY, Method::DELETE, one.as_str(), ""),
        (READ_KEY, Method::POST, revoke.as_str(), r#"{"all": true}"#),
        (WRITE_KEY, Method::POST, revoke.as_str(), r#"{"all": true}"#),
    ] {
        let response = send(key, method, path, body).await;
        assert_eq!(
            (response.problem(), response.bad_field().as_str()),
            ((403, "forbidden".into()), "scope"),
            "{key} {path}"
        );
    }
    assert_eq!(everything(&fixture).await[1]["active_count"], 3);
    assert_eq!(send(WRITE_KEY, Method::DELETE, &one, "").await.status, 204);
    let stored =
        testkit::find_session(&*fixture.repository, fixtures::session_number(2).id).await.unwrap();
    assert_eq!(stored.revocation.unwrap().actor, Some(Actor::NamedService("billing".into())));
    let events = fixture.service_get("/service/v1/events").await.json();
    let actors: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| event["actor"].clone()).collect();
    assert!(actors.contains(&json!("service:billing")), "{actors:?}");
}

#[tokio::test]
async fn path_of_the_other_listener_says_so() {
    let fixture = Fixture::new();
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    for (response, wanted) in [
        (fixture.public(get("/service/v1/sessions")).await, "server.service_listen"),
        (fixture.public(get("/readyz")).await, "server.service_listen"),
        (fixture.service(get("/api/v1/sessions")).await, "server.listen"),
    ] {
        assert_eq!(response.problem(), (404, "not_found".into()));
        assert!(response.json().to_string().contains(wanted));
    }
    assert!(fixture.public(get("/")).await.json().get("errors").is_none());
}

#[tokio::test]
async fn head_responds_like_get_without_a_body() {
    let fixture = with_sessions().await;
    let own = fixtures::session_number(1);
    for (is_public, path) in [
        (true, "/api/v1/sessions/current".to_owned()),
        (true, format!("/api/v1/sessions/{}", own.id)),
        (true, "/api/v1/sessions".to_owned()),
        (false, format!("{SESSIONS}/{}", own.id)),
        (false, "/service/v1/events".to_owned()),
        (false, "/livez".to_owned()),
    ] {
        let get = call(&fixture, &(is_public, Method::GET, path.clone()), Body::empty()).await;
        let head = call(&fixture, &(is_public, Method::HEAD, path.clone()), Body::empty()).await;
        assert_eq!((head.status, head.bytes.len()), (get.status, 0), "{path}");
        assert_eq!(head.header("content-length"), get.bytes.len().to_string(), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

#[tokio::test]
async fn stream_passes_through_a_proxy_and_takes_no_limit() {
    let fixture = with_sessions().await;
    let get = |path: &str| {
        let request = Request::get(path).header("authorization", format!("Bearer {SERVICE_KEY}"));
        request.body(Body::empty()).unwrap()
    };
    let stream = fixture.service_stream(get("/service/v1/events/stream")).now_or_never().unwrap();
    assert_eq!(
        (stream.status().as_u16(), &stream.headers()["x-accel-buffering"]),
        (200, &"no".parse().unwrap())
    );
    let response = fixture.service(get("/service/v1/events/stream?limit=5")).await;
    assert_eq!((response.problem().0, response.bad_field().as_str()), (400, "limit"));
    // An empty parameter is an absent one.
    assert_eq!(
        fixture.service_get("/service/v1/events?after=&limit=&session_id=&user_id=").await.status,
        200
    );
}

/// What is beyond a limit is refused with the time to wait; what is not counted is served.
#[tokio::test]
async fn limits_respond_with_429_and_503_with_retry_after() {
    use sessiond::config::LimitSettings;

    use crate::fixture::UNLIMITED;

    let fixture = Fixture::with_limits(LimitSettings { user_rate: 1, user_burst: 3, ..UNLIMITED });
    let own = fixtures::session_number(1);
    let other = Session { user_id: fixtures::another_user(), ..fixtures::session_number(2) };
    fixture.store(&own).await;
    fixture.store(&other).await;
    let unknown = format!("/api/v1/sessions/{}", fixtures::session_number(404).id);
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(fixture.get_in(&own, &unknown).await.status.as_u16());
    }
    assert_eq!(statuses, [404, 404, 404, 429, 429]);
    let limited = fixture.get_in(&own, &unknown).await;
    assert_eq!(limited.problem(), (429, "too_many_requests".into()));
    assert!(limited.header("retry-after").parse::<u64>().unwrap() >= 1);
    // A read of the caller's own session costs no more than its refusal, and others have limits of
    // their own.
    assert_eq!(fixture.get_in(&own, "/api/v1/sessions/current").await.status, 200);
    assert_eq!(fixture.get_in(&other, &unknown).await.status, 404);

    let fixture = Fixture::with_limits(LimitSettings {
        peer_failure_rate: 1,
        peer_failure_burst: 3,
        ..UNLIMITED
    });
    fixture.store(&own).await;
    let forged =
        async || fixture.get_from("192.0.2.7", "/api/v1/sessions/current", "Bearer nonsense").await;
    for _ in 0..3 {
        assert_eq!(forged().await.status, 401);
    }
    assert_eq!(forged().await.problem(), (429, "too_many_requests".into()));
    let good = bearer(own.user_id, own.id);
    assert_eq!(fixture.get_from("192.0.2.8", "/api/v1/sessions/current", &good).await.status, 200);
    // A token that was verified before is let through from there too.
    assert_eq!(fixture.get_from("192.0.2.7", "/api/v1/sessions/current", &good).await.status, 200);
}
