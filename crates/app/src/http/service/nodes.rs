//! The nodes of the store, as each of them reports itself.

use std::sync::Arc;
use std::time::Duration;

use application::coherence::RevocationState;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use domain::ports::{NodeDirectory, NodeReport};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Health, ServiceState};
use crate::http::wire::problem::Problem;
use crate::http::wire::session_body::{micros, reads_by_layer};

/// How often a node reports itself.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// What does not change while a node runs.
#[derive(Clone)]
pub struct NodeIdentity {
    /// Its id.
    pub node: Uuid,
    /// The name of its machine.
    pub host: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
}

/// This node among the nodes of its store.
pub struct Nodes {
    directory: Arc<dyn NodeDirectory>,
    identity: NodeIdentity,
    health: Arc<Health>,
    revocation_state: Arc<RevocationState>,
}

impl Nodes {
    /// Creates the part of this node, which has not reported yet.
    pub fn new(
        directory: Arc<dyn NodeDirectory>,
        identity: NodeIdentity,
        health: Arc<Health>,
        revocation_state: Arc<RevocationState>,
    ) -> Self {
        Self { directory, identity, health, revocation_state }
    }

    /// Reports this node every five seconds, without end. What the store does not take is reported
    /// with the next report.
    pub async fn report_regularly(self: Arc<Self>) {
        loop {
            if let Err(error) = self.directory.report(&self.report().await).await {
                tracing::debug!(%error, "cannot report this node to operators");
            }
            tokio::time::sleep(REPORT_INTERVAL).await;
        }
    }

    /// Takes this node off the list, because it stops.
    pub async fn leave(&self) {
        if let Err(error) = self.directory.leave(self.identity.node).await {
            tracing::debug!(%error, "operators will see this node for a minute");
        }
    }

    async fn report(&self) -> NodeReport {
        let readiness = self.health.readiness().await;
        let NodeIdentity { node, host, started_at } = self.identity.clone();
        NodeReport {
            node,
            host,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at,
            is_ready: readiness.ready,
            shared_cache: readiness.cache.to_owned(),
            cached_sessions: readiness.cached_sessions.to_owned(),
            poll_age: self.revocation_state.poll_age(),
            reads: reads_by_layer(),
        }
    }
}

/// The nodes of the store.
#[derive(Serialize, ToSchema)]
pub(crate) struct NodesBody {
    nodes: Vec<NodeBody>,
}

/// A node, as it reported itself.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "01a21e13-b775-7696-86b9-c972aab8eae9",
    "host": "sessiond-0",
    "version": "0.1.0",
    "started_at": "2026-03-01T09:00:00Z",
    "reported_seconds_ago": 2.4,
    "ready": true,
    "cache": "up",
    "cached_sessions": "used",
    "poll_age_seconds": 0.07,
    "reads": {"near": 18230, "redis": 412, "database": 97},
}))]
struct NodeBody {
    /// Its id, which is new whenever it starts.
    id: Uuid,
    /// The name of its machine.
    host: String,
    version: String,
    #[serde(serialize_with = "micros")]
    started_at: DateTime<Utc>,
    /// How long ago it reported the following. It does so every 5 seconds; after 15 something is
    /// wrong with it, and after 60 it is not listed.
    reported_seconds_ago: f64,
    /// Whether requests should be sent to it.
    ready: bool,
    /// As in `/readyz`.
    cache: String,
    /// As in `/readyz`.
    cached_sessions: String,
    /// How long before its report its last poll of the revocation log was sent.
    poll_age_seconds: f64,
    /// The reads that it has served since it started.
    reads: ReadsBody,
}

/// Reads, by the layer that had the session.
#[derive(Serialize, ToSchema)]
struct ReadsBody {
    near: u64,
    redis: u64,
    database: u64,
}

impl From<(NodeReport, Duration)> for NodeBody {
    fn from((report, age): (NodeReport, Duration)) -> Self {
        let [near, redis, database] = report.reads;
        Self {
            id: report.node,
            host: report.host,
            version: report.version,
            started_at: report.started_at,
            reported_seconds_ago: age.as_secs_f64(),
            ready: report.is_ready,
            cache: report.shared_cache,
            cached_sessions: report.cached_sessions,
            poll_age_seconds: report.poll_age.as_secs_f64(),
            reads: ReadsBody { near, redis, database },
        }
    }
}

/// Lists the nodes that serve the store, those that started first at first, with their health,
/// cache shares and lag. Each reports itself every five seconds.
#[utoipa::path(
    get,
    path = "/service/v1/nodes",
    operation_id = "list_nodes",
    tag = "operators",
    responses((status = 200, description = "The nodes", body = NodesBody))
)]
pub(super) async fn list_nodes(State(state): State<ServiceState>) -> Result<Response, Problem> {
    let reports = state.nodes.directory.reports().await?;
    let nodes = reports.into_iter().map(NodeBody::from).collect();
    Ok(Json(NodesBody { nodes }).into_response())
}
