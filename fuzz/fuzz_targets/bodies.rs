//! Any body for any route of the service listener: it is accepted or refused, and
//! never a 5xx.

#![no_main]

use axum::body::Body;
use axum::http::{Method, Request};
use libfuzzer_sys::fuzz_target;
use fixture::{SERVICE_KEY, Fixture, bearer};
use testkit::fixtures;

#[expect(dead_code, reason = "the tests of the HTTP interface use the rest")]
#[path = "../../crates/app/tests/http/fixture.rs"]
mod fixture;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, body)) = data.split_first() else { return };
    let id = fixtures::session().id;
    let user = fixtures::session().user_id;
    let (method, path, is_public) = match choice % 9 {
        0 => (Method::POST, "/service/v1/sessions".to_owned(), false),
        1 => (Method::POST, "/service/v1/sessions/revoke".to_owned(), false),
        2 => (Method::PATCH, format!("/service/v1/sessions/{id}"), false),
        3 => (Method::DELETE, format!("/service/v1/sessions/{id}"), false),
        4 => (Method::POST, format!("/service/v1/sessions/{id}/activity"), false),
        5 => (Method::DELETE, format!("/service/v1/users/{user}/sessions"), false),
        6 => (Method::PATCH, "/api/v1/sessions/current".to_owned(), true),
        7 => (Method::DELETE, format!("/api/v1/sessions/{id}"), true),
        _ => (Method::DELETE, "/api/v1/sessions".to_owned(), true),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let fixture = Fixture::new();
        fixture.store(&fixtures::session()).await;
        let authorization =
            if is_public { bearer(user, id) } else { format!("Bearer {SERVICE_KEY}") };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", authorization)
            .header("content-type", "application/json")
            .body(Body::from(body.to_vec()))
            .unwrap();
        let response =
            if is_public { fixture.public(request).await } else { fixture.service(request).await };
        assert!(response.status.as_u16() < 500, "{}", response.status);
        let is_object = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        assert!(
            body.is_empty() || is_object || response.status.as_u16() >= 400,
            "what is no object was accepted"
        );
    });
});
