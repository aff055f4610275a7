//! Whether this node can do its work, and what it has counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use application::coherence::RevocationState;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::coherence::Refusal;
use domain::ports::{HealthCheck, PortError};
use serde::Serialize;
use tokio::sync::Mutex;

use super::ServiceState;
use utoipa::ToSchema;

/// How long a response of `/readyz` is good: the route has no key, and must not become a way to
/// load the database.
const CACHED_FOR: Duration = Duration::from_millis(500);

/// Whether this node can do its work.
pub struct Health {
    store: Arc<dyn HealthCheck>,
    cache: Option<Arc<dyn HealthCheck>>,
    revocation_state: Arc<RevocationState>,
    stopping: AtomicBool,
    last: Mutex<Option<(Instant, Readiness)>>,
}

/// The response of `/readyz`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// Whether to send requests here.
    pub(crate) ready: bool,
    /// `up` or `down`; without it nothing can be served.
    store: &'static str,
    /// `up`, `down`, `refused` or `none`; without it reads are slower.
    pub(crate) cache: &'static str,
    /// `used`, or why what is cached is not served; then reads are slower.
    pub(crate) cached_sessions: &'static str,
}

impl Health {
    /// Health of a node with this store, this shared cache, and this state of revocations.
    pub fn new(
        store: Arc<dyn HealthCheck>,
        cache: Option<Arc<dyn HealthCheck>>,
        revocation_state: Arc<RevocationState>,
    ) -> Self {
        Self {
            store,
            cache,
            revocation_state,
            stopping: AtomicBool::new(false),
            last: Mutex::new(None),
        }
    }

    /// From now on the node is not ready: it is finishing what it has begun.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn readiness(&self) -> Readiness {
        let mut last = self.last.lock().await;
        let readiness = match *last {
            Some((at, readiness)) if at.elapsed() < CACHED_FOR => readiness,
            _ => self.ask().await,
        };
        if last.is_none_or(|(at, _)| at.elapsed() >= CACHED_FOR) {
            *last = Some((Instant::now(), readiness));
        }
        Readiness { ready: readiness.ready && !self.stopping.load(Ordering::Relaxed), ..readiness }
    }

    async fn ask(&self) -> Readiness {
        let word = |up: bool| if up { "up" } else { "down" };
        let cache = async {
            match &self.cache {
                None => "none",
                Some(cache) => match cache.check().await {
                    Ok(()) => "up",
                    // It responds, and refuses what a node asks of it: `sessiond doctor` names the
                    // command.
                    Err(PortError::Corrupt(_)) => "refused",
                    Err(_) => "down",
                },
            }
        };
        let (store, cache) = tokio::join!(self.store.check(), cache);
        let cached_sessions = self.revocation_state.trouble().map_or("used", Refusal::reason);
        Readiness { ready: store.is_ok(), store: word(store.is_ok()), cache, cached_sessions }
    }
}

/// Returns the metrics in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "render_metrics",
    tag = "health",
    responses((status = 200, description = "Metrics", body = String, content_type = "text/plain"))
)]
pub(super) async fn render_metrics(State(state): State<ServiceState>) -> Response {
    let content_type = [(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    )];
    (content_type, state.metrics.render()).into_response()
}

/// Responds that the process runs.
#[utoipa::path(
    get,
    path = "/livez",
    operation_id = "livez",
    tag = "health",
    responses((status = 200, description = "It runs", body = String, content_type = "text/plain"))
)]
pub(super) async fn livez() -> Response {
    "ok\n".into_response()
}

/// Responds whether the node can serve requests.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "health",
    responses(
        (status = 200, description = "It can serve requests", body = Readiness),
        (status = 503, description = "It cannot", body = Readiness),
    )
)]
pub(super) async fn readyz(State(state): State<ServiceState>) -> Response {
    let readiness = state.health.readiness().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}
