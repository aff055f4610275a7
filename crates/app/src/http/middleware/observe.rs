//! What every request has: an id, a span, its metrics, and a response even after a
//! panic.

use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::Route;
use domain::ports::IdGenerator;
use futures_util::FutureExt;
use ipnetwork::IpNetwork;
use metrics::{Counter, Histogram};
use tower::Service;
use tower::layer::layer_fn;
use tracing::Instrument;
use uuid::fmt::Hyphenated;

use crate::http::wire::client_address::is_from_proxy;
use crate::http::wire::problem::Problem;
use crate::system::SystemIds;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Whose `X-Request-Id` is kept.
pub(crate) enum RequestIds {
    /// That of every caller: all have a service key.
    OfCallers,
    /// That of trusted proxies: an end user must not choose what operators search their logs for.
    OfProxies(Arc<[IpNetwork]>),
}

/// Gives every request an id, a span and its metrics, turns a panic into a 500, and
/// keeps every response out of caches.
pub(crate) fn layer(router: Router, listener: &'static str, request_ids: RequestIds) -> Router {
    let observer =
        Arc::new(Observer { series: Series { listener, routes: RwLock::default() }, request_ids });
    router.layer(layer_fn(move |route| Observed { route, observer: observer.clone() }))
}

/// A route under observation. A service, because what `axum::middleware::from_fn` makes of a
/// function allocates several times in each request.
#[derive(Clone)]
struct Observed {
    route: Route,
    observer: Arc<Observer>,
}

struct Observer {
    series: Series,
    request_ids: RequestIds,
}

impl Service<Request> for Observed {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.route, cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let info = RequestInfo::new(&request, &self.observer.request_ids);
        let serving = self
            .route
            .call(request)
            .map(|response| response.unwrap_or_else(|never| match never {}));
        Box::pin(self.observer.clone().observe(info, serving).map(Ok))
    }
}

/// What is known of a request before it is served.
struct RequestInfo {
    at: Instant,
    id: HeaderValue,
    method: &'static str,
    /// The route, not the path: paths hold ids, and would make metrics without end.
    path: Option<MatchedPath>,
}

impl RequestInfo {
    fn new(request: &Request, ids: &RequestIds) -> Self {
        let path = request.extensions().get::<MatchedPath>().cloned();
        Self {
            at: Instant::now(),
            id: request_id(request, ids),
            method: known_method(request.method()),
            path,
        }
    }
}

impl Observer {
    async fn observe(
        self: Arc<Self>,
        RequestInfo { at, id, method, path }: RequestInfo,
        serving: impl Future<Output = Response> + Send,
    ) -> Response {
        let route = path.as_ref().map_or("none", MatchedPath::as_str);
        // A span allocates, and writes its fields out, whether anything is logged in it or not. So
        // at the usual level only changes have one.
        let span = if matches!(method, "GET" | "HEAD") {
            tracing::debug_span!("request", id = id.to_str().unwrap_or_default(), method, route)
        } else {
            tracing::info_span!("request", id = id.to_str().unwrap_or_default(), method, route)
        };

        let served = AssertUnwindSafe(serving.instrument(span.clone())).catch_unwind().await;
        // The hook has logged and counted the panic.
        let mut response = served.unwrap_or_else(|_| Problem::internal_error().into_response());

        let took = at.elapsed();
        let status = response.status();
        span.in_scope(|| {
            tracing::debug!(
                status = status.as_u16(),
                took_us = took.as_micros() as u64,
                "responded"
            )
        });
        self.series.count(method, route, status, took);
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id);
        // A response is about one user's session now, unless it is a public file.
        let is_public = |value: &HeaderValue| value.as_bytes().starts_with(b"public");
        if !headers.get(header::CACHE_CONTROL).is_some_and(is_public) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        response
    }
}

/// Returns the caller's own id if it is trusted, short and plain, so that it can be followed
/// through logs; else a new one.
fn request_id(request: &Request, ids: &RequestIds) -> HeaderValue {
    let plain = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=64).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    let own = || {
        let mut text = [0; Hyphenated::LENGTH];
        let text = SystemIds.next_id().hyphenated().encode_lower(&mut text);
        HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("none"))
    };
    let is_trusted = |_: &&HeaderValue| match ids {
        RequestIds::OfCallers => true,
        RequestIds::OfProxies(trusted) => is_from_proxy(request.extensions(), trusted),
    };
    request.headers().get(REQUEST_ID).filter(plain).filter(is_trusted).cloned().unwrap_or_else(own)
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
        _ => "_OTHER",
    }
}

/// The metrics of one listener's requests. Looking one up by its labels each time costs more than
/// counting, so those that are in use are kept: one for each route of the router, known method and
/// status.
struct Series {
    listener: &'static str,
    routes: RwLock<HashMap<String, Vec<OfRoute>>>,
}

struct OfRoute {
    method: &'static str,
    status: StatusCode,
    requests: Counter,
    duration: Histogram,
}

impl Series {
    fn count(&self, method: &'static str, route: &str, status: StatusCode, took: Duration) {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let found = routes
            .get(route)
            .and_then(|of_route| of_route.iter().find(|one| one.is(method, status)));
        if let Some(one) = found {
            return one.count(took);
        }
        drop(routes);
        let one = OfRoute::new(self.listener, method, route, status);
        one.count(took);
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let of_route = routes.entry(route.to_owned()).or_default();
        // Another task may have been faster.
        if !of_route.iter().any(|other| other.is(method, status)) {
            of_route.push(one);
        }
    }
}

impl OfRoute {
    fn new(listener: &'static str, method: &'static str, route: &str, status: StatusCode) -> Self {
        let route = route.to_owned();
        let code = status.as_str().to_owned();
        let requests = metrics::counter!(
            "sessiond_http_requests_total",
            "listener" => listener,
            "method" => method,
            "route" => route.clone(),
            "status" => code
        );
        let duration = metrics::histogram!(
            "sessiond_http_request_duration_seconds",
            "listener" => listener,
            "method" => method,
            "route" => route
        );
        Self { method, status, requests, duration }
    }

    fn is(&self, method: &'static str, status: StatusCode) -> bool {
        self.method == method && self.status == status
    }

    fn count(&self, took: Duration) {
        self.requests.increment(1);
        self.duration.record(took);
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    /// The hook, which logs and counts, is the process's own.
    #[tokio::test]
    async fn panic_is_a_500_for_that_request_and_no_other() {
        async fn panics() -> &'static str {
            panic!("a bug")
        }
        let router =
            Router::new().route("/panics", get(panics)).route("/", get(|| async { "fine" }));
        let router = layer(router, "test", RequestIds::OfCallers);
        let send = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
            (parts, to_bytes(body, 1024).await.unwrap())
        };
        let (parts, body) = send("/panics").await;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (parts.status.as_u16(), &body["code"]),
            (500, &serde_json::json!("internal_error"))
        );
        assert_eq!(parts.headers["content-type"], "application/problem+json");
        assert!(parts.headers.contains_key("x-request-id") && !body.to_string().contains("a bug"));
        assert_eq!(send("/").await.1, "fine");
    }
}
