//! What the nodes of a store report of themselves, for operators.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::PortError;

/// How long a report is kept. After that, a node that is silent is not listed.
pub const REPORT_RETENTION: Duration = Duration::from_secs(60);

/// What a node reports of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// Its id, which is new whenever it starts.
    pub node: Uuid,
    /// The name of its machine.
    pub host: String,
    /// Its version, such as "1.2.3".
    pub version: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Whether requests should be sent to it.
    pub is_ready: bool,
    /// Whether the shared cache responds: a word of `/readyz`.
    pub shared_cache: String,
    /// Whether cached sessions are served: a word of `/readyz`.
    pub cached_sessions: String,
    /// How long before the report its last poll of the revocation log was sent.
    pub poll_age: Duration,
    /// How many reads the cache in its process, the shared cache and the database have served since
    /// it started.
    pub reads: [u64; 3],
}

/// Where the nodes of a store report, and see each other's reports. Nothing that the protocol
/// promises depends on it.
///
/// Each item below is a test of `testkit::conformance::node_directory`.
#[async_trait]
pub trait NodeDirectory: Send + Sync {
    /// Replaces the report of a node, and removes those that are older than [`REPORT_RETENTION`].
    ///
    /// - `report_replaces_the_one_before`
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not respond in time.
    async fn report(&self, report: &NodeReport) -> Result<(), PortError>;

    /// Returns every report with its age by the store's clock, in the order in which their nodes
    /// started.
    ///
    /// - `every_node_is_listed_with_the_age_of_its_report`
    ///
    /// # Errors
    /// As for [`report`](Self::report).
    async fn reports(&self) -> Result<Vec<(NodeReport, Duration)>, PortError>;

    /// Removes the report of a node, which stops.
    ///
    /// - `node_that_has_left_is_not_listed`
    ///
    /// # Errors
    /// As for [`report`](Self::report).
    async fn leave(&self, node: Uuid) -> Result<(), PortError>;
}
