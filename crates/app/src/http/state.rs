use std::sync::Arc;

use application::Application;
use domain::ports::Clock;
use ipnetwork::IpNetwork;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::health::Health;
use crate::auth::{ServiceKeys, TokenVerifier};

/// What the public routes need.
#[derive(Clone)]
pub struct PublicState {
    /// The use cases.
    pub application: Arc<Application>,
    /// The wall clock, for the verdict on a session.
    pub clock: Arc<dyn Clock>,
    /// Who end users are.
    pub tokens: Arc<TokenVerifier>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[IpNetwork]>,
}

/// What the service routes need.
#[derive(Clone)]
pub struct ServiceState {
    /// The use cases.
    pub application: Arc<Application>,
    /// The wall clock, for the verdict on a session.
    pub clock: Arc<dyn Clock>,
    /// Which service keys are accepted.
    pub service_keys: Arc<ServiceKeys>,
    /// Whether this node can do its work.
    pub health: Arc<Health>,
    /// What `/metrics` renders.
    pub metrics: PrometheusHandle,
    /// Places for event streams.
    pub event_streams: Arc<Semaphore>,
    /// Cancelled when the listener stops: streams then end.
    pub shutdown: CancellationToken,
}
