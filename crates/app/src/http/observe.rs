use std::sync::Arc;
use std::time::{Duration, Instant};

use application::Application;
use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use domain::ports::IdGenerator;
use tracing::Instrument;

use super::problem::Problem;
use crate::system::SystemIds;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long a request may take, besides the wait for an end to be final.
const DEADLINE: Duration = Duration::from_secs(1);
/// Ends as many sessions as there are, which takes as long as it takes.
const WITHOUT_DEADLINE: &str = "/service/v1/sessions/revoke";

/// Gives every request an id, a span, a deadline and its place in the metrics, and keeps every answer out of caches.
pub(super) fn layer(router: Router, listener: &'static str, application: Arc<Application>) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| observe(listener, application.clone(), request, next)))
}

async fn observe(listener: &'static str, application: Arc<Application>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let method = known_method(request.method());
    // The route, not the path: paths hold ids, and would make metrics without end.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default(), method, route);

    let answering = next.run(request).instrument(span.clone());
    let mut response = if matches!(method, "GET" | "HEAD") {
        in_time(DEADLINE, answering, Problem::dependency_unavailable).await
    } else if route == WITHOUT_DEADLINE {
        uninterrupted(answering).await
    } else {
        // It goes on, though nobody hears how it ends.
        in_time(DEADLINE + application.guard.longest_wait(), uninterrupted(answering), Problem::outcome_unknown).await
    };

    let took = started.elapsed();
    let status = response.status().as_u16().to_string();
    span.in_scope(|| tracing::debug!(status, took_us = took.as_micros() as u64, "answered"));
    let labels =
        [("listener", listener.to_owned()), ("method", method.to_owned()), ("route", route), ("status", status)];
    metrics::counter!("sessiond_http_requests_total", &labels).increment(1);
    metrics::histogram!("sessiond_http_request_duration_seconds", &labels[..3]).record(took);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    // Whatever is answered here is about somebody's sign-in, at this moment.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn in_time(limit: Duration, answering: impl Future<Output = Response>, otherwise: fn() -> Problem) -> Response {
    tokio::time::timeout(limit, answering).await.unwrap_or_else(|_| {
        tracing::warn!("a request took too long");
        otherwise().into_response()
    })
}

/// In a task of its own: what has begun to change something goes on to its end, caches and all, though its client may go away.
async fn uninterrupted(answering: impl Future<Output = Response> + Send + 'static) -> Response {
    tokio::spawn(answering).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request failed");
        Problem::internal_error().into_response()
    })
}

/// The caller's own id if it is short and plain, so that it can be followed through logs; else a new one.
fn request_id(request: &Request) -> HeaderValue {
    let plain = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=64).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    let own = || HeaderValue::try_from(SystemIds.next_id().to_string()).unwrap_or(HeaderValue::from_static("none"));
    request.headers().get(REQUEST_ID).filter(plain).cloned().unwrap_or_else(own)
}

fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
