//! How often a read from the near cache allocates memory.

use allocation_counter::measure;
use axum::body::Body;
use axum::http::Request;
use futures_util::FutureExt;
use testkit::fixtures;
use tower::ServiceExt;

use crate::setting::{Setting, bearer};

/// What a read from the near cache may ask the allocator for, from the head of its request to its
/// answer: a number that does not depend on the machine, so that what makes reads slower is seen
/// here first. `docs/performance.md` says what the allocations are.
const ALLOWED: u64 = 30;

#[tokio::test]
async fn a_read_from_memory_allocates_no_more_than_it_did() {
    let (setting, session) = (Setting::new(), fixtures::session());
    setting.store(&session).await;
    let authorization = bearer(session.user_id, session.id);
    let request = || {
        let request = Request::get(format!("/api/v1/sessions/{}", session.id))
            .header("authorization", &authorization);
        request.body(Body::empty()).unwrap()
    };
    let router = setting.public_router();
    // The first fills the caches, the second makes what is made once.
    for _ in 0..2 {
        router.clone().oneshot(request()).await.unwrap();
    }
    let request = request();
    let mut answer = None;
    let allocations = measure(|| answer = router.clone().oneshot(request).now_or_never());
    let answer = answer.unwrap().unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["cache-status"].to_str().unwrap()),
        (200, "sessiond; hit; detail=near")
    );
    assert!(allocations.count_total <= ALLOWED, "{}", allocations.count_total);
}
