//! Whether a dependency can do its work.

use async_trait::async_trait;

use super::PortError;

/// Whether a dependency responds at all: for readiness, and for the operator's `doctor`.
#[async_trait]
pub trait HealthCheck: Send + Sync {
    /// Asks the dependency for a sign of life. MUST return within one second, in any state of the
    /// dependency is in.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] with the reason if there is none.
    async fn check(&self) -> Result<(), PortError>;
}
