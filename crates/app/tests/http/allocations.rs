//! How often a read from the near cache allocates memory.

use allocation_counter::measure;
use axum::body::Body;
use axum::http::Request;
use futures_util::FutureExt;
use testkit::fixtures;
use tower::ServiceExt;

use crate::fixture::{Fixture, bearer};

/// What a read from the near cache may ask the allocator for, from the head of its request to its
/// response: a number that does not depend on the machine, so that what makes reads slower is seen
/// here first. `docs/performance.md` says what the allocations are.
const ALLOWED: u64 = 30;

#[tokio::test]
async fn a_read_from_memory_allocates_no_more_than_it_did() {
    let fixture = Fixture::new();
    let session = fixtures::session();
    fixture.store(&session).await;
    let authorization = bearer(session.user_id, session.id);
    let request = || {
        let request = Request::get(format!("/api/v1/sessions/{}", session.id))
            .header("authorization", &authorization);
        request.body(Body::empty()).unwrap()
    };
    let router = fixture.public_router();
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
    assert!(allocations.count_total <= ALLOWED, "{}", allocations.count_total);
}
