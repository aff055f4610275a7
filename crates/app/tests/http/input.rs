//! Whatever is sent to whichever route: a mistake of the caller's is the caller's to hear of, and
//! changes nothing.

use axum::body::Body;
use axum::http::{Method, Request};
use domain::{Actor, Session};
use futures_util::FutureExt;
use serde_json::{Value, json};
use sessiond::http::public::paths as public_paths;
use sessiond::http::service::{open_paths as open_service_paths, paths as service_paths};
use testkit::fixtures;

use crate::setting::{Answer, READ_KEY, SERVICE_KEY, Setting, WRITE_KEY, bearer};

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

async fn everything(setting: &Setting) -> Value {
    let mut all = Vec::new();
    for n in 1..=3 {
        all.push(
            setting
                .service_get(&format!("{SESSIONS}/{}", fixtures::session_number(n).id))
                .await
                .json(),
        );
    }
    let list = setting
        .service_get(&format!("/service/v1/users/{}/sessions", fixtures::session().user_id))
        .await
        .json();
    json!([all, list])
}

/// Every route with every method that it has, of both listeners.
async fn calls(setting: &Setting) -> Vec<(bool, Method, String)> {
    let id = fixtures::session_number(2).id.to_string();
    let user = fixtures::session().user_id.to_string();
    let public = public_paths().into_iter().map(|path| (true, path));
    let service = service_paths().into_iter().chain(open_service_paths()).map(|path| (false, path));
    let mut calls = Vec::new();
    for (is_public, path) in public.chain(service) {
        let request =
            Request::builder().method(Method::TRACE).uri(path).body(Body::empty()).unwrap();
        let answer =
            if is_public { setting.public(request).await } else { setting.service(request).await };
        for method in answer.header("allow").split(',') {
            let path = path.replace("{id}", &id).replace("{user_id}", &user);
            // It would not end.
            if !path.ends_with("/stream") {
                calls.push((is_public, method.trim().parse().unwrap(), path));
            }
        }
    }
    calls
}

async fn call(
    setting: &Setting,
    (is_public, method, path): &(bool, Method, String),
    body: Body,
) -> Answer {
    let own = fixtures::session_number(1);
    let authorization =
        if *is_public { bearer(own.user_id, own.id) } else { format!("Bearer {SERVICE_KEY}") };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", authorization)
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    if *is_public { setting.public(request).await } else { setting.service(request).await }
}

async fn with_sessions() -> Setting {
    let setting = Setting::new();
    for n in 1..=3 {
        setting.store(&fixtures::session_number(n)).await;
    }
    setting
}

#[tokio::test]
async fn wrong_body_is_refused_by_every_route_and_changes_nothing() {
    let setting = with_sessions().await;
    let before = everything(&setting).await;
    let bodies = wrong_bodies();
    let calls = calls(&setting).await;
    assert!(calls.len() >= 25, "{calls:?}");
    for call_of in &calls {
        let is_read = matches!(call_of.1, Method::GET | Method::HEAD);
        for body in &bodies {
            let answer = call(&setting, call_of, Body::from(body.clone())).await;
            let (status, shown) = (answer.status.as_u16(), &body[..body.len().min(120)]);
            if is_read {
                // A read has no body: what is sent is passed over, unless it is too large.
                assert!([200, 413].contains(&status), "{call_of:?} {shown}: {status}");
                continue;
            }
            assert!([400, 413, 422].contains(&status), "{call_of:?} {shown}: {status}");
            let text = answer.json().to_string();
            let leak = INSIDE.iter().find(|word| text.contains(**word) && !shown.contains(**word));
            assert_eq!(leak, None, "{call_of:?} {shown}: {text}");
        }
    }
    assert_eq!(everything(&setting).await, before);
}

#[tokio::test]
async fn wrong_parameters_are_refused_by_every_route_and_never_5xx() {
    let setting = with_sessions().await;
    let before = everything(&setting).await;
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
    for call_of in calls(&setting).await.iter().filter(|call| call.1 == Method::GET) {
        for name in names {
            for value in values {
                let with = (call_of.0, call_of.1.clone(), format!("{}?{name}={value}", call_of.2));
                let answer = call(&setting, &with, Body::empty()).await;
                // Some routes take no parameters at all.
                assert!(
                    [200, 400].contains(&answer.status.as_u16()),
                    "{with:?}: {}",
                    answer.status
                );
                if answer.status == 400 {
                    let text = answer.json().to_string();
                    assert!(INSIDE.iter().all(|word| !text.contains(word)), "{with:?}: {text}");
                }
            }
        }
    }
    assert_eq!(everything(&setting).await, before);
}

#[tokio::test]
async fn id_has_one_spelling_wherever_it_stands() {
    let setting = with_sessions().await;
    let id = fixtures::session().user_id.0;
    for spelling in
        [id.simple().to_string(), id.braced().to_string(), id.urn().to_string(), "alice".to_owned()]
    {
        let body = json!({ "user_id": spelling }).to_string();
        let ids = json!({ "ids": [spelling] }).to_string();
        let encoded = spelling.replace('{', "%7B").replace('}', "%7D");
        for (answer, field) in [
            (setting.service_post(SESSIONS, body).await, "user_id"),
            (setting.service_post(&format!("{SESSIONS}/revoke"), ids).await, "ids[0]"),
            (setting.service_get(&format!("{SESSIONS}/{encoded}")).await, "id"),
            (
                setting.service_get(&format!("/service/v1/users/{encoded}/sessions")).await,
                "user_id",
            ),
            (
                setting.service_get(&format!("/service/v1/events?user_id={encoded}")).await,
                "user_id",
            ),
        ] {
            assert_eq!(
                (answer.problem().0, answer.bad_field().as_str()),
                (400, field),
                "{spelling}"
            );
            let message = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
            assert_eq!(message, "must be a UUID, hyphenated", "{spelling}");
        }
    }
}

#[tokio::test]
async fn empty_body_is_no_body_however_it_is_framed() {
    let chunked =
        || Body::from_stream(futures_util::stream::empty::<Result<Vec<u8>, std::io::Error>>());
    for content_type in [None, Some("application/json"), Some("text/plain")] {
        let setting = with_sessions().await;
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
            if is_public { setting.public(request).await } else { setting.service(request).await }
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
            let answer = send(method.clone(), path.clone(), is_public).await;
            assert_eq!(answer.status, status, "{method} {path} {content_type:?}");
        }
    }
}

/// A body may take longer than the work: it is not an outage, and nothing is done before it is
/// there.
#[tokio::test(start_paused = true)]
async fn slow_body_is_waited_for_and_one_that_does_not_come_is_408() {
    let setting = with_sessions().await;
    let session = fixtures::session_number(2);
    let body = |after: u64, text: &'static str| {
        Body::from_stream(futures_util::stream::once(async move {
            tokio::time::sleep(std::time::Duration::from_secs(after)).await;
            Ok::<_, std::io::Error>(text)
        }))
    };
    let path = (false, Method::PATCH, format!("{SESSIONS}/{}", session.id));
    let answer = call(&setting, &path, body(8, r#"{"name": "slow"}"#)).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["name"]), (200, &json!("slow")));
    let answer = call(&setting, &path, body(11, r#"{"name": "late"}"#)).await;
    assert_eq!(answer.problem(), (408, "request_timeout".into()));
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(
        testkit::find_session(&*setting.repository, session.id).await.unwrap().name.as_deref(),
        Some("slow")
    );
}

#[tokio::test]
async fn more_ids_than_a_call_takes_are_named() {
    let setting = with_sessions().await;
    let ids = |count: u64| {
        let id = |n| fixtures::session_number(n).id.to_string();
        json!({ "ids": (0..count).map(id).collect::<Vec<_>>() })
    };
    let post = async |count: u64| {
        setting.service_post(&format!("{SESSIONS}/revoke"), ids(count).to_string()).await
    };
    for count in [401, 500, 1_000, 1_500] {
        let answer = post(count).await;
        assert_eq!((answer.problem().0, answer.bad_field().as_str()), (422, "ids"), "{count}");
    }
    assert_eq!(everything(&setting).await[1]["active_count"], 3);
    assert_eq!(post(400).await.json(), json!({ "revoked_count": 3 }));
}

#[tokio::test]
async fn addresses_are_stored_in_one_spelling_and_refuse_no_sign_in() {
    let setting = Setting::new();
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
        let answer = setting.service_post(SESSIONS, body.to_string()).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["ip_address"]),
            (201, &expected),
            "{text}"
        );
    }
}

#[tokio::test]
async fn user_can_be_named_by_issuer_and_subject() {
    let setting = Setting::new();
    let (issuer, subject) = ("https://tenant.eu.auth0.com/", "auth0|5f7c8ec7c33c6c004bbafe82");
    let answer = setting
        .service_post(SESSIONS, json!({ "issuer": issuer, "subject": subject }).to_string())
        .await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["user_id"], domain::UserId::of_subject(issuer, subject).to_string());
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
        let answer = setting.service_post(SESSIONS, body.to_string()).await;
        assert_eq!((answer.problem().0, answer.bad_field().as_str()), (status, field), "{body}");
    }
}

#[tokio::test]
async fn idempotency_key_is_for_one_request() {
    let setting = Setting::new();
    let sign_in = async |body: Value| {
        let request = Request::post(SESSIONS)
            .header("authorization", format!("Bearer {SERVICE_KEY}"))
            .header("content-type", "application/json")
            .header("idempotency-key", "one");
        setting.service(request.body(Body::from(body.to_string())).unwrap()).await
    };
    let user_id = fixtures::session().user_id.to_string();
    let first = sign_in(json!({ "user_id": user_id, "ip_address": "192.0.2.1" })).await;
    assert_eq!(first.status, 201);
    for other in [
        json!({ "user_id": user_id, "ip_address": "192.0.2.2" }),
        json!({ "user_id": user_id, "ip_address": "192.0.2.1", "metadata": {} }),
        json!({ "user_id": user_id }),
    ] {
        let answer = sign_in(other).await;
        assert_eq!((answer.problem().0, answer.bad_field().as_str()), (422, "Idempotency-Key"));
    }
    let again = sign_in(json!({ "user_id": user_id, "ip_address": "192.0.2.1" })).await;
    assert_eq!((again.status.as_u16(), again.bytes), (201, first.bytes));
}

#[tokio::test]
async fn no_update_is_lost_between_two_editors() {
    let setting = with_sessions().await;
    let path = format!("{SESSIONS}/{}", fixtures::session_number(1).id);
    let patch = async |condition: &str, body: Value| {
        let request = Request::patch(&path)
            .header("authorization", format!("Bearer {SERVICE_KEY}"))
            .header("content-type", "application/json")
            .header("if-match", condition);
        setting.service(request.body(Body::from(body.to_string())).unwrap()).await
    };
    let tag = setting.service_get(&path).await.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 10, "{tag}");
    let edited = patch(&tag, json!({ "metadata": { "n": 1 } })).await;
    assert_eq!(edited.status, 200);
    let next = edited.header("etag").to_owned();
    assert_ne!(next, tag);
    for stale in [tag.as_str(), &format!("W/{next}"), "\"x\"", "x", ""] {
        let answer = patch(stale, json!({ "metadata": { "n": 2 } })).await;
        assert_eq!(answer.problem(), (412, "precondition_failed".into()), "{stale}");
    }
    assert_eq!(setting.service_get(&path).await.json()["metadata"], json!({ "n": 1 }));
    for good in [format!("{tag}, {next}"), "*".to_owned()] {
        assert_eq!(patch(&good, json!({})).await.status, 200, "{good}");
    }
    // Activity is no edit.
    setting.service_post(&format!("{path}/activity"), "").await;
    assert_eq!(setting.service_get(&path).await.header("etag"), next);
    let unknown = format!("{SESSIONS}/{}", fixtures::session_number(404).id);
    assert_eq!(setting.service_patch(&unknown, "{}").await.problem().0, 404);
}

#[tokio::test]
async fn key_does_what_its_scopes_allow_under_its_name() {
    let setting = with_sessions().await;
    let send = async |key: &str, method: Method, path: &str, body: &str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        setting.service(request.body(Body::from(body.to_owned())).unwrap()).await
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
        let answer = send(key, method, path, body).await;
        assert_eq!(
            (answer.problem(), answer.bad_field().as_str()),
            ((403, "forbidden".into()), "scope"),
            "{key} {path}"
        );
    }
    assert_eq!(everything(&setting).await[1]["active_count"], 3);
    assert_eq!(send(WRITE_KEY, Method::DELETE, &one, "").await.status, 204);
    let stored =
        testkit::find_session(&*setting.repository, fixtures::session_number(2).id).await.unwrap();
    assert_eq!(stored.revocation.unwrap().actor, Some(Actor::NamedService("billing".into())));
    let events = setting.service_get("/service/v1/events").await.json();
    let actors: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| event["actor"].clone()).collect();
    assert!(actors.contains(&json!("service:billing")), "{actors:?}");
}

#[tokio::test]
async fn path_of_the_other_listener_says_so() {
    let setting = Setting::new();
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    for (answer, wanted) in [
        (setting.public(get("/service/v1/sessions")).await, "server.service_listen"),
        (setting.public(get("/readyz")).await, "server.service_listen"),
        (setting.service(get("/api/v1/sessions")).await, "server.listen"),
    ] {
        assert_eq!(answer.problem(), (404, "not_found".into()));
        assert!(answer.json().to_string().contains(wanted));
    }
    assert!(setting.public(get("/")).await.json().get("errors").is_none());
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let setting = with_sessions().await;
    let own = fixtures::session_number(1);
    for (is_public, path) in [
        (true, "/api/v1/sessions/current".to_owned()),
        (true, format!("/api/v1/sessions/{}", own.id)),
        (true, "/api/v1/sessions".to_owned()),
        (false, format!("{SESSIONS}/{}", own.id)),
        (false, "/service/v1/events".to_owned()),
        (false, "/livez".to_owned()),
    ] {
        let get = call(&setting, &(is_public, Method::GET, path.clone()), Body::empty()).await;
        let head = call(&setting, &(is_public, Method::HEAD, path.clone()), Body::empty()).await;
        assert_eq!((head.status, head.bytes.len()), (get.status, 0), "{path}");
        assert_eq!(head.header("content-length"), get.bytes.len().to_string(), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

#[tokio::test]
async fn stream_passes_through_a_proxy_and_takes_no_limit() {
    let setting = with_sessions().await;
    let get = |path: &str| {
        let request = Request::get(path).header("authorization", format!("Bearer {SERVICE_KEY}"));
        request.body(Body::empty()).unwrap()
    };
    let stream = setting.service_stream(get("/service/v1/events/stream")).now_or_never().unwrap();
    assert_eq!(
        (stream.status().as_u16(), &stream.headers()["x-accel-buffering"]),
        (200, &"no".parse().unwrap())
    );
    let answer = setting.service(get("/service/v1/events/stream?limit=5")).await;
    assert_eq!((answer.problem().0, answer.bad_field().as_str()), (400, "limit"));
    // An empty parameter is an absent one.
    assert_eq!(
        setting.service_get("/service/v1/events?after=&limit=&session_id=&user_id=").await.status,
        200
    );
}

/// What is beyond a limit is refused with the time to wait; what is not counted is served.
#[tokio::test]
async fn limits_answer_429_and_503_with_retry_after() {
    use sessiond::config::LimitSettings;

    use crate::setting::UNLIMITED;

    let setting = Setting::with_limits(LimitSettings { user_rate: 1, user_burst: 3, ..UNLIMITED });
    let (own, other) = (
        fixtures::session_number(1),
        Session { user_id: fixtures::another_user(), ..fixtures::session_number(2) },
    );
    setting.store(&own).await;
    setting.store(&other).await;
    let unknown = format!("/api/v1/sessions/{}", fixtures::session_number(404).id);
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(setting.get_in(&own, &unknown).await.status.as_u16());
    }
    assert_eq!(statuses, [404, 404, 404, 429, 429]);
    let limited = setting.get_in(&own, &unknown).await;
    assert_eq!(limited.problem(), (429, "too_many_requests".into()));
    assert!(limited.header("retry-after").parse::<u64>().unwrap() >= 1);
    // A read of the caller's own session costs no more than its refusal, and others have limits of
    // their own.
    assert_eq!(setting.get_in(&own, "/api/v1/sessions/current").await.status, 200);
    assert_eq!(setting.get_in(&other, &unknown).await.status, 404);

    let setting = Setting::with_limits(LimitSettings {
        peer_failure_rate: 1,
        peer_failure_burst: 3,
        ..UNLIMITED
    });
    setting.store(&own).await;
    let forged =
        async || setting.get_from("192.0.2.7", "/api/v1/sessions/current", "Bearer nonsense").await;
    for _ in 0..3 {
        assert_eq!(forged().await.status, 401);
    }
    assert_eq!(forged().await.problem(), (429, "too_many_requests".into()));
    let good = bearer(own.user_id, own.id);
    assert_eq!(setting.get_from("192.0.2.8", "/api/v1/sessions/current", &good).await.status, 200);
    // A token that was verified before is let through from there too.
    assert_eq!(setting.get_from("192.0.2.7", "/api/v1/sessions/current", &good).await.status, 200);
}
