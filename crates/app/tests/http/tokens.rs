//! Session tokens over HTTP: issued, verified, rotated, in a header and in the cookie.

use axum::body::Body;
use axum::http::Request;
use chrono::TimeDelta;
use domain::Session;
use serde_json::{Value, json};
use testkit::fixtures;

use crate::fixture::{Fixture, ORIGIN, READ_KEY, Reply, SERVICE_KEY, bearer};

const ALICE: &str = "00000000-0000-4000-8000-00000000000a";
const CURRENT: &str = "/api/v1/sessions/current";
const ROTATE: &str = "/api/v1/sessions/current/rotate";

/// Signs in, and returns the response.
async fn sign_in(fixture: &Fixture) -> Value {
    let body = json!({ "user_id": ALICE, "user_agent": "curl/8.0", "issue_token": true });
    let created = fixture.service_post("/service/v1/sessions", body.to_string()).await;
    assert_eq!(created.status, 201, "{:?}", created.json());
    created.json()
}

fn text<'a>(body: &'a Value, field: &str) -> &'a str {
    body[field].as_str().unwrap()
}

/// A request to the public listener with these headers.
async fn call(fixture: &Fixture, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    fixture.public(request.body(Body::empty()).unwrap()).await
}

async fn with_token(fixture: &Fixture, method: &str, path: &str, token: &str) -> Reply {
    call(fixture, method, path, &[("authorization", &format!("Bearer {token}"))]).await
}

async fn verify(fixture: &Fixture, token: &str) -> Value {
    let body = json!({ "token": token }).to_string();
    let verified = fixture.service_post("/service/v1/sessions/verify", body).await;
    assert_eq!(verified.status, 200);
    verified.json()
}

fn cookie_of(token: &str) -> String {
    format!("theme=dark; __Host-session={token}")
}

#[tokio::test]
async fn a_token_is_issued_on_request_and_gives_its_session() {
    let fixture = Fixture::new();
    let created = sign_in(&fixture).await;
    let token = text(&created, "token");
    assert!(token.starts_with("sds_") && token.len() == 79, "{token}");
    let set_cookie = format!(
        "__Host-session={token}; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age={}",
        30 * 24 * 3600
    );
    assert_eq!(text(&created, "set_cookie"), set_cookie);

    let own = with_token(&fixture, "GET", CURRENT, token).await;
    assert_eq!(own.status, 200);
    assert_eq!((&own.json()["id"], &own.json()["is_current"]), (&created["id"], &json!(true)));
    assert_eq!(own.header("cache-status"), "sessiond; fwd=miss; detail=database");
    let again = with_token(&fixture, "GET", CURRENT, token).await;
    assert_eq!(again.header("cache-status"), "sessiond; hit; detail=near");

    // Without a word no token is issued.
    let body = json!({ "user_id": ALICE }).to_string();
    let without = fixture.service_post("/service/v1/sessions", body).await.json();
    assert_eq!((without.get("token"), without.get("set_cookie")), (None, None));
}

#[tokio::test]
async fn a_token_that_is_no_good_is_401() {
    let fixture = Fixture::new();
    let created = sign_in(&fixture).await;
    let token = text(&created, "token");
    let other = sign_in(&fixture).await;
    // The ids of the one session, and the secret of the other.
    let mixed = format!("{}{}", &token[..46], &text(&other, "token")[46..]);
    let unknown = format!("{}BBBB{}", &token[..12], &token[16..]);
    for (bad, code) in [
        (mixed.as_str(), "unauthenticated"),
        (unknown.as_str(), "session_ended"),
        (&token[..78], "unauthenticated"),
        ("sds_", "unauthenticated"),
    ] {
        let refused = with_token(&fixture, "GET", CURRENT, bad).await;
        assert_eq!(refused.problem(), (401, code.to_owned()), "{bad}");
        assert_eq!(verify(&fixture, bad).await, json!({ "status": "invalid", "session": null }));
    }
    // A session without a token has none to be presented.
    let bare =
        Session { expires_at: fixtures::now() + TimeDelta::days(1), ..fixtures::bare_session() };
    fixture.store(&bare).await;
    assert_eq!(fixture.get(CURRENT, Some(&bearer(bare.user_id, bare.id))).await.status, 200);
}

#[tokio::test]
async fn verify_returns_the_session_of_a_token_or_a_jwt_in_any_state() {
    let fixture = Fixture::new();
    let created = sign_in(&fixture).await;
    let token = text(&created, "token");
    let jwt = bearer(ALICE.parse().unwrap(), text(&created, "id").parse().unwrap());
    let jwt = jwt.trim_start_matches("Bearer ");
    for credential in [token, jwt] {
        let verified = verify(&fixture, credential).await;
        assert_eq!(
            (&verified["status"], &verified["session"]["id"]),
            (&json!("live"), &created["id"])
        );
    }
    fixture.service_delete(&format!("/service/v1/sessions/{}", text(&created, "id")), "").await;
    for credential in [token, jwt] {
        let verified = verify(&fixture, credential).await;
        assert_eq!(verified["status"], "revoked");
        assert_eq!(verified["session"]["user_id"], ALICE);
    }
    for bad in ["", "x", "eyJhbGciOiJIUzI1NiJ9.e30.x"] {
        assert_eq!(verify(&fixture, bad).await, json!({ "status": "invalid", "session": null }));
    }
    // A key that may only read may verify too.
    let request = Request::post("/service/v1/sessions/verify")
        .header("authorization", format!("Bearer {READ_KEY}"))
        .header("content-type", "application/json");
    let body = json!({ "token": token }).to_string();
    assert_eq!(fixture.service(request.body(Body::from(body)).unwrap()).await.status, 200);
}

#[tokio::test]
async fn verify_counts_as_activity_of_a_live_session() {
    let fixture = Fixture::new();
    let created = sign_in(&fixture).await;
    fixture.clock.advance(TimeDelta::minutes(5));
    let body = json!({ "token": text(&created, "token"), "ip_address": "192.0.2.9" }).to_string();
    fixture.service_post("/service/v1/sessions/verify", body).await;
    let path = format!("/service/v1/sessions/{}", text(&created, "id"));
    let session = fixture.service_get(&path).await.json();
    assert_eq!(session["last_ip_address"], "192.0.2.9");
    assert_ne!(session["last_activity_at"], session["created_at"]);
}

#[tokio::test]
async fn rotation_replaces_the_token_and_the_one_before_is_good_for_the_grace() {
    let fixture = Fixture::new();
    let created = sign_in(&fixture).await;
    let first = text(&created, "token");
    let rotated = with_token(&fixture, "POST", ROTATE, first).await;
    assert_eq!(rotated.status, 200);
    let second = text(&rotated.json(), "token").to_owned();
    assert_eq!(second[..46], first[..46], "the same session and user");
    assert_ne!(second, first);
    for good in [first, &second] {
        assert_eq!(with_token(&fixture, "GET", CURRENT, good).await.status, 200);
    }
    fixture.clock.advance(TimeDelta::seconds(10));
    assert_eq!(with_token(&fixture, "GET", CURRENT, &second).await.status, 200);
    for _ in 0..2 {
        let reused = with_token(&fixture, "GET", CURRENT, first).await;
        assert_eq!(reused.problem(), (401, "unauthenticated".to_owned()));
        assert_eq!(verify(&fixture, first).await["status"], "invalid");
    }
    let events = fixture.service_get("/service/v1/events").await.json();
    let kinds: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| text(event, "type")).collect();
    assert_eq!(kinds, ["created", "token_reused"]);
}

#[tokio::test]
async fn a_token_that_was_replaced_twice_cannot_be_rotated() {
    let fixture = Fixture::new();
    let created = sign_in(&fixture).await;
    let id = text(&created, "id");
    let path = format!("/service/v1/sessions/{id}/rotate");
    let rotated = fixture.service_post(&path, "").await;
    assert_eq!(rotated.status, 200);
    let second = rotated.json();
    assert!(text(&second, "set_cookie").contains(text(&second, "token")), "{second}");
    fixture.service_post(&path, "").await;
    let refused = with_token(&fixture, "POST", ROTATE, text(&created, "token")).await;
    assert_eq!(refused.problem(), (401, "unauthenticated".to_owned()), "it is unknown by now");

    // A JWT is replaced by who issued it.
    let jwt = bearer(ALICE.parse().unwrap(), id.parse().unwrap());
    let refused = call(&fixture, "POST", ROTATE, &[("authorization", &jwt)]).await;
    assert_eq!(refused.problem(), (400, "invalid_request".to_owned()));

    fixture.service_delete(&format!("/service/v1/sessions/{id}"), "").await;
    let ended = fixture.service_post(&path, "").await;
    assert_eq!(ended.problem(), (409, "session_ended".to_owned()));
    let unknown = fixtures::session_number(404).id;
    let unknown = fixture.service_post(&format!("/service/v1/sessions/{unknown}/rotate"), "").await;
    assert_eq!(unknown.problem(), (404, "session_not_found".to_owned()));
}

#[tokio::test]
async fn the_cookie_reads_and_changes_nothing_from_another_site() {
    let fixture = Fixture::with_origins(&[ORIGIN]);
    let created = sign_in(&fixture).await;
    let cookie = cookie_of(text(&created, "token"));
    assert_eq!(call(&fixture, "GET", CURRENT, &[("cookie", &cookie)]).await.status, 200);
    let others: [&[(&str, &str)]; 6] = [
        &[],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("origin", "https://evil.example")],
        &[("origin", "null"), ("sec-fetch-site", "same-site")],
    ];
    for (method, path) in [("DELETE", CURRENT), ("POST", ROTATE), ("DELETE", "/api/v1/sessions")] {
        for headers in others {
            let headers = [headers, &[("cookie", &cookie)]].concat();
            let refused = call(&fixture, method, path, &headers).await;
            let expected = (403, "cross_site_request".to_owned());
            assert_eq!(refused.problem(), expected, "{method} {path} {headers:?}");
        }
    }
    for headers in [("sec-fetch-site", "same-origin"), ("origin", ORIGIN)] {
        let headers = [headers, ("cookie", &*cookie)];
        let others = call(&fixture, "DELETE", "/api/v1/sessions", &headers).await;
        assert_eq!(others.status, 200, "{headers:?}");
    }
    // A JWT is no value of the cookie, and the header goes before the cookie.
    let jwt = bearer(ALICE.parse().unwrap(), text(&created, "id").parse().unwrap());
    let in_cookie = cookie_of(jwt.trim_start_matches("Bearer "));
    assert_eq!(call(&fixture, "GET", CURRENT, &[("cookie", &in_cookie)]).await.status, 401);
    let both = [("cookie", &*cookie), ("authorization", "Bearer x")];
    assert_eq!(call(&fixture, "GET", CURRENT, &both).await.status, 401);
}

#[tokio::test]
async fn rotation_by_cookie_sets_the_cookie_and_logout_removes_it() {
    let fixture = Fixture::new();
    let created = sign_in(&fixture).await;
    let cookie = cookie_of(text(&created, "token"));
    let headers = [("cookie", &*cookie), ("sec-fetch-site", "same-origin")];
    let rotated = call(&fixture, "POST", ROTATE, &headers).await;
    assert_eq!((rotated.status.as_u16(), rotated.json()), (200, json!({})));
    let set = rotated.header("set-cookie").to_owned();
    assert!(set.starts_with("__Host-session=sds_") && set.contains("; Secure; "), "{set}");
    let cookie = set.split(';').next().unwrap().to_owned();
    assert_eq!(call(&fixture, "GET", CURRENT, &[("cookie", &cookie)]).await.status, 200);

    let headers = [("cookie", &*cookie), ("sec-fetch-site", "same-origin")];
    let ended = call(&fixture, "DELETE", CURRENT, &headers).await;
    assert_eq!(ended.status, 204);
    let cleared = "__Host-session=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0";
    assert_eq!(ended.header("set-cookie"), cleared);
    let after = call(&fixture, "GET", CURRENT, &[("cookie", &cookie)]).await;
    assert_eq!(after.problem(), (401, "session_ended".to_owned()));
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call_and_others_may_not() {
    let fixture = Fixture::with_origins(&[ORIGIN]);
    let preflight = |origin: &'static str| {
        [
            ("origin", origin),
            ("access-control-request-method", "DELETE"),
            ("access-control-request-headers", "authorization"),
        ]
    };
    let allowed = call(&fixture, "OPTIONS", CURRENT, &preflight(ORIGIN)).await;
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.header("access-control-allow-origin"), ORIGIN);
    assert_eq!(allowed.header("access-control-allow-credentials"), "true");
    assert_eq!(allowed.header("access-control-allow-methods"), "GET,POST,PATCH,DELETE");
    let refused = call(&fixture, "OPTIONS", CURRENT, &preflight("https://evil.example")).await;
    assert_eq!(refused.header("access-control-allow-origin"), "");

    let created = sign_in(&fixture).await;
    let token = format!("Bearer {}", text(&created, "token"));
    for (origin, expected) in [(ORIGIN, ORIGIN), ("https://evil.example", "")] {
        let headers = [("origin", origin), ("authorization", &*token)];
        let read = call(&fixture, "GET", CURRENT, &headers).await;
        assert_eq!(
            (read.status.as_u16(), read.header("access-control-allow-origin")),
            (200, expected)
        );
        // Caches must keep the two apart.
        assert!(read.header("vary").contains("origin"), "{:?}", read.headers);
    }
}

/// Neither a read nor a list nor an event nor an error shows a token or what is kept of it.
#[tokio::test]
async fn no_response_but_the_one_that_issues_it_shows_a_token() {
    let fixture = Fixture::new();
    let created = sign_in(&fixture).await;
    let token = text(&created, "token");
    let secret = &token[46..];
    let id = text(&created, "id");
    let mut shown = Vec::new();
    for path in [
        format!("/service/v1/sessions/{id}"),
        format!("/service/v1/sessions/{id}?user_id={ALICE}"),
        format!("/service/v1/users/{ALICE}/sessions"),
        "/service/v1/events".to_owned(),
    ] {
        shown.push(fixture.service_get(&path).await.bytes);
    }
    for path in [CURRENT, "/api/v1/sessions", "/api/v1/sessions/x"] {
        shown.push(with_token(&fixture, "GET", path, token).await.bytes);
    }
    for body in [json!({ "token": token, "x": 1 }), json!({ "token": [token] })] {
        let wrong = fixture.service_post("/service/v1/sessions/verify", body.to_string()).await;
        assert_eq!(wrong.status, 400);
        shown.push(wrong.bytes);
    }
    for bytes in shown {
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.contains(secret) && !text.contains("token_hash"), "{text}");
    }
}

/// A sign-in that is repeated gets a token too, since the first one is kept nowhere.
#[tokio::test]
async fn repeated_sign_in_gets_a_token_that_works() {
    let fixture = Fixture::new();
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let request = Request::post("/service/v1/sessions")
            .header("authorization", format!("Bearer {SERVICE_KEY}"))
            .header("content-type", "application/json")
            .header("idempotency-key", "sign-in-1");
        let body = json!({ "user_id": ALICE, "issue_token": true }).to_string();
        let created = fixture.service(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(created.status, 201);
        tokens.push(text(&created.json(), "token").to_owned());
    }
    assert_ne!(tokens[0], tokens[1]);
    for token in tokens {
        assert_eq!(with_token(&fixture, "GET", CURRENT, &token).await.status, 200);
    }
}
