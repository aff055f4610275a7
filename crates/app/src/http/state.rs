//! What handlers need.

use std::sync::Arc;

use application::Application;
use arc_swap::ArcSwap;
use domain::ports::Clock;
use ipnetwork::IpNetwork;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::health::Health;
use super::limits::Limits;
use crate::auth::{ServiceKeys, TokenVerifier};

/// What the public routes need.
#[derive(Clone)]
pub struct PublicState {
    /// The use cases.
    pub application: Arc<Application>,
    /// The wall clock, for the verdict on a session.
    pub clock: Arc<dyn Clock>,
    /// Verifies end users' tokens; replaced when keys are read again.
    pub tokens: Arc<ArcSwap<TokenVerifier>>,
    /// How much one caller may ask for.
    pub limits: Arc<Limits>,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Arc<[IpNetwork]>,
}

/// What the service routes need.
#[derive(Clone)]
pub struct ServiceState {
    /// The use cases.
    pub application: Arc<Application>,
    /// The wall clock, for the verdict on a session.
    pub clock: Arc<dyn Clock>,
    /// Which service keys are accepted; replaced when keys are read again.
    pub service_keys: Arc<ArcSwap<ServiceKeys>>,
    /// How much one caller may ask for.
    pub limits: Arc<Limits>,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Arc<[IpNetwork]>,
    /// Whether this node can do its work.
    pub health: Arc<Health>,
    /// What `/metrics` renders.
    pub metrics: PrometheusHandle,
    /// Places for event streams.
    pub event_streams: Arc<Semaphore>,
    /// Cancelled when the listener stops: streams then end.
    pub shutdown: CancellationToken,
}
