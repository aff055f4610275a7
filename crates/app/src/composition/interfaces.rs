//! The two HTTP interfaces of a node.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::credentials::Credentials;
use super::node::Node;
use crate::auth::{ServiceKeys, TokenVerifier};
use crate::config::Settings;
use crate::http::Limits;
use crate::http::gateway::{self, GatewayState};
use crate::http::openapi;
use crate::http::public::{self, PublicState, Watches};
use crate::http::service::{self, MAX_EVENT_STREAMS, ServiceState};

/// The keys that callers are verified with, which can be replaced while they are used.
pub struct Keys {
    tokens: Arc<ArcSwap<TokenVerifier>>,
    service_keys: Arc<ArcSwap<ServiceKeys>>,
}

impl Keys {
    /// Takes the keys that a node starts with.
    pub fn new(credentials: Credentials) -> Self {
        Self {
            tokens: Arc::new(ArcSwap::from_pointee(credentials.tokens)),
            service_keys: Arc::new(ArcSwap::from_pointee(credentials.service_keys)),
        }
    }

    /// Replaces the keys. Keys that were fetched from an issuer are kept until they are fetched
    /// again.
    pub fn replace(&self, credentials: Credentials) {
        credentials.tokens.adopt_keys(&self.tokens.load());
        self.tokens.store(Arc::new(credentials.tokens));
        self.service_keys.store(Arc::new(credentials.service_keys));
    }
}

/// The routers of both listeners.
pub struct Interfaces {
    /// For end users.
    pub public: Router,
    /// For backends and operators.
    pub service: Router,
    /// The rate limits, shared by both listeners.
    pub limits: Arc<Limits>,
}

impl Interfaces {
    /// Puts them in front of a node. Event streams end when `shutdown` is cancelled.
    pub fn new(
        node: &Node,
        keys: &Keys,
        settings: &Settings,
        metrics: PrometheusHandle,
        shutdown: CancellationToken,
    ) -> Self {
        let limits = Arc::new(Limits::new(&settings.limits));
        let trusted_proxies: Arc<[_]> = settings.trusted_proxies.clone().into();
        let cookie_name: Arc<str> = settings.auth.cookie_name.as_str().into();
        let end_users = PublicState {
            application: node.application.clone(),
            clock: node.clock.clone(),
            tokens: keys.tokens.clone(),
            limits: limits.clone(),
            cookie_name: cookie_name.clone(),
            cors_origins: settings.cors_origins.clone().into(),
            trusted_proxies: trusted_proxies.clone(),
            watches: Arc::new(Watches::new(node.application.clone(), shutdown.clone())),
        };
        let public = public::router(end_users.clone());
        let gateway = gateway::router(GatewayState(end_users));
        let service = service::router(ServiceState {
            application: node.application.clone(),
            clock: node.clock.clone(),
            service_keys: keys.service_keys.clone(),
            tokens: keys.tokens.clone(),
            cookie_name,
            limits: limits.clone(),
            trusted_proxies,
            health: node.health.clone(),
            nodes: node.nodes.clone(),
            metrics,
            event_streams: Arc::new(Semaphore::new(MAX_EVENT_STREAMS)),
            shutdown,
        });
        Self { public, service: service.merge(gateway).merge(openapi::router()), limits }
    }
}
