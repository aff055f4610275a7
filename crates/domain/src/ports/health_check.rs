//! Whether a dependency can do its work.

use async_trait::async_trait;

use super::PortError;

/// Whether a dependency answers at all: for readiness, and for the operator's `doctor`.
#[async_trait]
pub trait HealthCheck: Send + Sync {
    /// Asks the dependency for a sign of life. MUST answer within one second, whatever state the
    /// dependency is in.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] with the reason if there is none.
    async fn check(&self) -> Result<(), PortError>;
}
