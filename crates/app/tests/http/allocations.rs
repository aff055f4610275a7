//! How often a read from the near cache allocates memory.

use allocation_counter::measure;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use domain::ports::{SessionKey, TokenGenerator};
use domain::{Session, SessionTokens};
use futures_util::FutureExt;
use secrecy::ExposeSecret;
use sessiond::auth::session_token::{self, RandomTokens};
use testkit::fixtures;
use tower::ServiceExt;

use crate::fixture::{Fixture, bearer};

/// What a read from the near cache may ask the allocator for, from the head of its request to its
/// response: a number that does not depend on the machine, so that what makes reads slower is seen
/// here first. `docs/performance.md` says what the allocations are.
const ALLOWED: u64 = 30;

/// Counts the allocations of the caller's read of their own session, with this header.
async fn allocations(router: &Router, path: &str, header: (&str, &str)) -> u64 {
    let request = || {
        let request = Request::get(path).header(header.0, header.1);
        request.body(Body::empty()).unwrap()
    };
    // The first fills the caches, the second makes what is made once.
    for _ in 0..2 {
        router.clone().oneshot(request()).await.unwrap();
    }
    let request = request();
    let mut response = None;
    let allocations = measure(|| response = router.clone().oneshot(request).now_or_never());
    let response = response.unwrap().unwrap();
    assert_eq!(
        (response.status().as_u16(), response.headers()["cache-status"].to_str().unwrap()),
        (200, "sessiond; hit; detail=near")
    );
    allocations.count_total
}

/// By a session token, in a header or in the cookie, a read costs no more than by a JWT that was
/// verified before.
#[tokio::test]
async fn a_read_from_memory_allocates_no_more_than_it_did_by_any_credential() {
    let fixture = Fixture::new();
    let (secret, hash) = RandomTokens.next_token();
    let tokens = Some(SessionTokens::issued(hash).into());
    let session = Session { tokens, ..fixtures::session() };
    fixture.store(&session).await;
    let key = SessionKey { id: session.id, user_id: session.user_id };
    let token = session_token::format(key, &secret);
    let token = token.expose_secret();
    let router = fixture.public_router();
    let path = format!("/api/v1/sessions/{}", session.id);
    let by_jwt =
        allocations(&router, &path, ("authorization", &bearer(session.user_id, session.id))).await;
    let by_token = allocations(&router, &path, ("authorization", &format!("Bearer {token}"))).await;
    let by_cookie =
        allocations(&router, &path, ("cookie", &format!("__Host-session={token}"))).await;
    assert!(by_jwt <= ALLOWED, "{by_jwt}");
    assert!(by_token <= by_jwt && by_cookie <= by_jwt, "{by_token} {by_cookie} {by_jwt}");
}
