//! What happens to a request between its route and its handler: who is calling, the body, a permit
//! to work in, and a deadline.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use application::Application;
use axum::Router;
use axum::body::HttpBody;
use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::Route;
use futures_util::FutureExt;
use metrics::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;
use tower::layer::layer_fn;
use tracing::Instrument;

use crate::http::wire::body::{MAX_BODY_BYTES, MAX_IDS_BYTES, with_body_read};
use crate::http::wire::problem::Problem;

/// How long a request may take once it is there, besides the commit wait of a revocation.
const DEADLINE: Duration = Duration::from_secs(1);
/// Revokes sessions by their ids, or all.
const REVOKE: &str = "/service/v1/sessions/revoke";
/// Revoke as many sessions as there are, which takes as long as it takes.
const WITHOUT_DEADLINE: [&str; 2] = [REVOKE, "/service/v1/users/{user_id}/sessions"];

/// The callers of a listener, and how they authenticate. The state of its router implements this.
pub(crate) trait Audience: Clone + Send + Sync + 'static {
    /// `public` or `service`, for metrics.
    const LISTENER: &'static str;

    /// Authenticates the caller without waiting and puts who it is among the request's extensions.
    /// Returns whether that was possible; if not, `authenticate` is asked.
    fn recall(&self, parts: &mut Parts) -> bool;

    /// Authenticates the caller, and puts who it is among the request's extensions.
    ///
    /// # Errors
    /// 401, 403 or 429 if the caller is not admitted; 503 if that cannot be known.
    fn authenticate(&self, parts: &mut Parts) -> impl Future<Output = Result<(), Problem>> + Send;

    /// Returns the use cases: revocations may take as long as their commit wait.
    fn application(&self) -> &Arc<Application>;

    /// Returns the permits of the concurrency limit; `None`: there is no limit.
    fn permits(&self) -> Option<Arc<Semaphore>>;
}

/// Puts each route behind authentication, the concurrency limit, and a deadline. Paths
/// and methods that do not exist stay what they are.
pub(crate) fn layer<A: Audience>(router: Router<A>, audience: A) -> Router<A> {
    let shared = Arc::new(Shared { permits: audience.permits(), audience });
    router.route_layer(layer_fn(move |route| Work { route, shared: shared.clone() }))
}

/// Returns the counter of requests that were not served in time.
pub(crate) fn deadlines_missed(listener: &'static str) -> Counter {
    metrics::counter!("sessiond_deadlines_missed_total", "listener" => listener)
}

/// Returns the route of a request, such as `/api/v1/sessions/{id}`.
pub(crate) fn route_of(parts: &Parts) -> &str {
    parts.extensions.get::<MatchedPath>().map_or("none", MatchedPath::as_str)
}

struct Shared<A> {
    audience: A,
    permits: Option<Arc<Semaphore>>,
}

/// A route whose work is bounded.
struct Work<A> {
    route: Route,
    shared: Arc<Shared<A>>,
}

impl<A> Clone for Work<A> {
    fn clone(&self) -> Self {
        Self { route: self.route.clone(), shared: self.shared.clone() }
    }
}

impl<A: Audience> Service<Request> for Work<A> {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.route, cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let shared = self.shared.clone();
        let (mut parts, body) = request.into_parts();
        // Most requests read, with a token that was verified before. They need no second copy of
        // the route.
        if body.is_end_stream() && shared.audience.recall(&mut parts) {
            let call = Call::of(&parts);
            return match shared.permit() {
                Ok(permit) => {
                    let working = hold(permit, self.route.call(Request::from_parts(parts, body)));
                    Box::pin(async move { Ok(shared.finish(call, working).await) })
                }
                Err(problem) => Box::pin(async move { Ok(problem.into_response()) }),
            };
        }
        let mut route = self.route.clone();
        Box::pin(async move {
            let served = async {
                shared.audience.authenticate(&mut parts).await?;
                let call = Call::of(&parts);
                let request =
                    with_body_read(Request::from_parts(parts, body), call.max_body_bytes).await?;
                let working = hold(shared.permit()?, route.call(request));
                Ok::<_, Problem>(shared.finish(call, working).await)
            };
            Ok(served.await.unwrap_or_else(IntoResponse::into_response))
        })
    }
}

/// What kind of work a request asks for.
#[derive(Clone, Copy)]
struct Call {
    is_read: bool,
    is_bounded: bool,
    max_body_bytes: usize,
}

impl Call {
    fn of(parts: &Parts) -> Self {
        let route = route_of(parts);
        Self {
            is_read: matches!(parts.method, Method::GET | Method::HEAD),
            is_bounded: !WITHOUT_DEADLINE.contains(&route),
            max_body_bytes: if route == REVOKE { MAX_IDS_BYTES } else { MAX_BODY_BYTES },
        }
    }
}

impl<A: Audience> Shared<A> {
    fn permit(&self) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        take_permit(self.permits.as_ref())
    }

    /// Waits for the work, but not for ever.
    async fn finish(
        &self,
        call: Call,
        working: impl Future<Output = Response> + Send + 'static,
    ) -> Response {
        if call.is_read {
            within(DEADLINE, working, Problem::dependency_unavailable, A::LISTENER).await
        } else if call.is_bounded {
            // It goes on, though its outcome is not reported.
            let limit = DEADLINE + self.audience.application().longest_commit_wait();
            within(limit, detached(working), Problem::outcome_unknown, A::LISTENER).await
        } else {
            detached(working).await
        }
    }
}

/// Takes one of the permits of the concurrency limit; `None`: there is no limit.
///
/// # Errors
/// 503 `overloaded` if all are taken.
fn take_permit(permits: Option<&Arc<Semaphore>>) -> Result<Option<OwnedSemaphorePermit>, Problem> {
    permits.cloned().map(Semaphore::try_acquire_owned).transpose().map_err(|_| {
        metrics::counter!("sessiond_rate_limited_total", "limit" => "in_flight").increment(1);
        Problem::overloaded()
    })
}

/// Runs work that holds a permit, and releases the permit when the work is done.
fn hold(
    permit: Option<OwnedSemaphorePermit>,
    working: impl Future<Output = Result<Response, Infallible>>,
) -> impl Future<Output = Response> {
    working.map(move |response| {
        drop(permit);
        response.unwrap_or_else(|never| match never {})
    })
}

async fn within(
    limit: Duration,
    working: impl Future<Output = Response>,
    otherwise: fn() -> Problem,
    listener: &'static str,
) -> Response {
    tokio::time::timeout(limit, working).await.unwrap_or_else(|_| {
        deadlines_missed(listener).increment(1);
        tracing::warn!("a request took too long");
        otherwise().into_response()
    })
}

/// Runs in a task of its own: what has begun to change something is finished, caches and all,
/// though its client may go away. The permit that it has taken is given back when it is done.
async fn detached(working: impl Future<Output = Response> + Send + 'static) -> Response {
    match tokio::spawn(working.in_current_span()).await {
        Ok(response) => response,
        // The hook has logged it.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Problem::outcome_unknown().into_response(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_beyond_the_places_is_refused_until_some_is_done() {
        let permits = Arc::new(Semaphore::new(1));
        let permit = take_permit(Some(&permits)).unwrap();
        let refused = take_permit(Some(&permits)).unwrap_err().into_response();
        assert_eq!(
            (refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()),
            (503, &b"1"[..])
        );
        // The permit is given back by the work itself, though its request may be gone.
        let response = hold(permit, async { Ok(().into_response()) }).await;
        assert!(response.status().is_success() && take_permit(Some(&permits)).is_ok());
        assert!(take_permit(None).unwrap().is_none());
    }

    /// It unwinds to the task that serves the request, as it does where the work is not detached.
    #[tokio::test]
    async fn panic_of_detached_work_reaches_its_request() {
        let panics = async { panic!("a bug") };
        let caught = std::panic::AssertUnwindSafe(detached(panics)).catch_unwind().await;
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"a bug"));
    }

    #[tokio::test(start_paused = true)]
    async fn detached_work_goes_on_when_its_request_does_not() {
        let (done, is_done) = tokio::sync::oneshot::channel();
        let work = async {
            tokio::time::sleep(10 * DEADLINE).await;
            let _ = done.send(());
            "done".into_response()
        };
        let response = within(DEADLINE, detached(work), Problem::outcome_unknown, "test").await;
        assert_eq!(response.status().as_u16(), 503);
        is_done.await.unwrap();
    }
}
