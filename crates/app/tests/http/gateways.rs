//! What gateways ask: forward authentication, and token introspection.

use axum::body::Body;
use axum::http::Request;
use chrono::TimeDelta;
use serde_json::{Value, json};
use testkit::fixtures;

use crate::fixture::{Fixture, ORIGIN, READ_KEY, Reply, SERVICE_KEY, bearer};

const ALICE: &str = "00000000-0000-4000-8000-00000000000a";
const FORWARD_AUTH: &str = "/service/v1/forward-auth";
const INTROSPECT: &str = "/service/v1/introspect";

async fn sign_in(fixture: &Fixture) -> (String, String) {
    let body = json!({ "user_id": ALICE, "issue_token": true }).to_string();
    let created = fixture.service_post("/service/v1/sessions", body).await.json();
    let text = |field: &str| created[field].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

async fn ask(fixture: &Fixture, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::get(FORWARD_AUTH);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    fixture.service(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn forward_auth_names_the_user_of_any_credential_and_needs_no_service_key() {
    let fixture = Fixture::new();
    let (id, token) = sign_in(&fixture).await;
    let jwt = bearer(ALICE.parse().unwrap(), id.parse().unwrap());
    let by_token = format!("Bearer {token}");
    let cookie = format!("a=b; __Host-session={token}");
    for header in [("authorization", &*jwt), ("authorization", &*by_token), ("cookie", &*cookie)] {
        let allowed = ask(&fixture, &[header]).await;
        assert_eq!(allowed.status, 204, "{header:?}");
        assert_eq!((allowed.header("x-user-id"), allowed.header("x-session-id")), (ALICE, &*id));
        assert!(allowed.bytes.is_empty());
    }
    fixture.service_delete(&format!("/service/v1/sessions/{id}"), "").await;
    for header in [("authorization", &*jwt), ("cookie", &*cookie)] {
        let refused = ask(&fixture, &[header]).await;
        assert_eq!(refused.problem(), (401, "session_ended".to_owned()));
        assert_eq!(refused.header("x-user-id"), "");
    }
    for headers in [&[][..], &[("authorization", "Bearer x")], &[("cookie", "__Host-session=x")]] {
        assert_eq!(ask(&fixture, headers).await.problem(), (401, "unauthenticated".to_owned()));
    }
    // A service key is no end user.
    let key = format!("Bearer {SERVICE_KEY}");
    assert_eq!(ask(&fixture, &[("authorization", &key)]).await.status, 401);
}

/// By the cookie, a change is refused where another site may have made the browser ask for it.
#[tokio::test]
async fn forward_auth_goes_by_the_method_of_the_request_that_is_asked_about() {
    let fixture = Fixture::with_origins(&[ORIGIN]);
    let (_, token) = sign_in(&fixture).await;
    let cookie = format!("__Host-session={token}");
    for name in ["x-forwarded-method", "x-original-method"] {
        for (method, others, expected) in [
            ("GET", [("sec-fetch-site", "cross-site")], 204),
            ("POST", [("sec-fetch-site", "cross-site")], 403),
            ("POST", [("sec-fetch-site", "same-origin")], 204),
            ("DELETE", [("origin", ORIGIN)], 204),
            ("DELETE", [("origin", "https://evil.example")], 403),
            ("no method", [("sec-fetch-site", "cross-site")], 403),
        ] {
            let headers = [&[("cookie", &*cookie), (name, method)][..], &others].concat();
            assert_eq!(ask(&fixture, &headers).await.status, expected, "{headers:?}");
        }
        // Without a cookie no other site can make it so.
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", &*authorization), (name, "POST")];
        assert_eq!(ask(&fixture, &headers).await.status, 204);
    }
}

/// Envoy asks with the method of the request, appends its path, and takes 200 for a yes. A client's
/// header about its method does not turn a change into a read.
#[tokio::test]
async fn forward_auth_takes_the_method_and_the_path_that_envoy_sends() {
    let fixture = Fixture::with_origins(&[ORIGIN]);
    let (id, token) = sign_in(&fixture).await;
    let cookie = format!("__Host-session={token}");
    for (method, site, expected) in [
        ("GET", "cross-site", 200),
        ("POST", "cross-site", 403),
        ("POST", "same-origin", 200),
        ("PROPFIND", "cross-site", 403),
        ("OPTIONS", "same-origin", 200),
    ] {
        for path in ["/", "/api/orders/7?x=1", "/current"] {
            let request = Request::builder().method(method).uri(format!("{FORWARD_AUTH}{path}"));
            let request = request.header("cookie", &cookie).header("sec-fetch-site", site);
            let request = match method {
                "GET" => request,
                _ => request.header("x-forwarded-method", "GET"),
            };
            let asked = fixture.service(request.body(Body::empty()).unwrap()).await;
            assert_eq!(asked.status, expected, "{method} {path} {site}");
            let user = if expected == 200 { ALICE } else { "" };
            assert_eq!(asked.header("x-user-id"), user, "{method} {path} {site}");
        }
    }
    fixture.service_delete(&format!("/service/v1/sessions/{id}"), "").await;
    let request = Request::put(format!("{FORWARD_AUTH}/x")).header("cookie", &cookie);
    let request = request.header("sec-fetch-site", "same-origin").body(Body::empty()).unwrap();
    assert_eq!(fixture.service(request).await.problem(), (401, "session_ended".to_owned()));
}

#[tokio::test]
async fn forward_auth_counts_as_activity_and_an_outage_is_no_logout() {
    let fixture = Fixture::new();
    let (id, token) = sign_in(&fixture).await;
    fixture.clock.advance(TimeDelta::minutes(5));
    let authorization = format!("Bearer {token}");
    assert_eq!(ask(&fixture, &[("authorization", &authorization)]).await.status, 204);
    let session = fixture.service_get(&format!("/service/v1/sessions/{id}")).await.json();
    assert_ne!(session["last_activity_at"], session["created_at"]);
    let (_, other) = sign_in(&fixture).await;
    fixture.take_database_down();
    let unknown = ask(&fixture, &[("authorization", &format!("Bearer {other}"))]).await;
    assert_eq!(unknown.problem(), (503, "dependency_unavailable".to_owned()));
}

async fn introspect(fixture: &Fixture, authorization: &str, form: &str) -> Reply {
    let request = Request::post(INTROSPECT)
        .header("authorization", authorization)
        .header("content-type", "application/x-www-form-urlencoded");
    fixture.service(request.body(Body::from(form.to_owned())).unwrap()).await
}

#[tokio::test]
async fn introspection_describes_a_good_token_and_says_nothing_of_others() {
    let fixture = Fixture::new();
    let (id, token) = sign_in(&fixture).await;
    let key = format!("Bearer {SERVICE_KEY}");
    let jwt = bearer(ALICE.parse().unwrap(), id.parse().unwrap());
    let now = fixtures::now().timestamp();
    let expected = json!({
        "active": true,
        "sub": ALICE,
        "sid": id,
        "iat": now,
        "exp": now + 30 * 24 * 3600,
        "token_type": "Bearer",
    });
    for token in [&*token, jwt.trim_start_matches("Bearer ")] {
        for form in [format!("token={token}"), format!("token_type_hint=x&token={token}&y=z")] {
            let active = introspect(&fixture, &key, &form).await;
            assert_eq!((active.status.as_u16(), active.json()), (200, expected.clone()));
        }
    }
    let inactive = json!({ "active": false });
    for other in ["x", "", "sds_x", "eyJhbGciOiJIUzI1NiJ9.e30.x"] {
        let other = introspect(&fixture, &key, &format!("token={other}")).await;
        assert_eq!((other.status.as_u16(), other.json()), (200, inactive.clone()));
    }
    fixture.service_delete(&format!("/service/v1/sessions/{id}"), "").await;
    let revoked = introspect(&fixture, &key, &format!("token={token}")).await;
    assert_eq!(revoked.json(), inactive);
}

#[tokio::test]
async fn introspection_takes_a_key_as_oauth_libraries_send_it_and_no_bad_form() {
    let fixture = Fixture::new();
    let (_, token) = sign_in(&fixture).await;
    let form = format!("token={token}");
    let basic = |text: &str| format!("Basic {}", base64(text));
    for key in [
        format!("Bearer {READ_KEY}"),
        basic(&format!("gateway:{SERVICE_KEY}")),
        basic(&format!("gateway:{}", READ_KEY.replace('-', "%2D"))),
    ] {
        let active = introspect(&fixture, &key, &form).await;
        assert_eq!(active.json()["active"], true, "{key}");
    }
    for (key, expected) in [
        (basic("gateway:wrong"), (403, "forbidden")),
        (basic("without a colon"), (401, "unauthenticated")),
        ("Basic !".to_owned(), (401, "unauthenticated")),
    ] {
        let refused = introspect(&fixture, &key, &form).await;
        assert_eq!(refused.problem(), (expected.0, expected.1.to_owned()), "{key}");
    }
    let key = format!("Bearer {SERVICE_KEY}");
    for (form, field) in [("", "token"), ("tok=x", "token"), ("token=a&token=b", "token")] {
        let refused = introspect(&fixture, &key, form).await;
        assert_eq!(refused.problem(), (400, "invalid_request".to_owned()), "{form}");
        assert_eq!(refused.bad_field(), field);
    }
    let json = fixture.service_post(INTROSPECT, json!({ "token": token }).to_string()).await;
    assert_eq!(json.problem(), (415, "unsupported_media_type".to_owned()));
    // Elsewhere a password is no key.
    let request = Request::get("/service/v1/events")
        .header("authorization", basic(&format!("gateway:{SERVICE_KEY}")));
    let elsewhere = fixture.service(request.body(Body::empty()).unwrap()).await;
    assert_eq!(elsewhere.problem(), (401, "unauthenticated".to_owned()));
    // It does not count as activity.
    fixture.clock.advance(TimeDelta::minutes(5));
    introspect(&fixture, &key, &format!("token={token}")).await;
    let list = fixture.service_get(&format!("/service/v1/users/{ALICE}/sessions")).await.json();
    let session: &Value = &list["sessions"][0];
    assert_eq!(session["last_activity_at"], session["created_at"]);
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(text)
}
