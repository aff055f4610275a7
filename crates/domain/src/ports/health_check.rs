//! Whether a dependency can do its work.

use async_trait::async_trait;

use super::PortError;

/// Checks whether a dependency responds: for readiness, and for the operator's `doctor`.
#[async_trait]
pub trait HealthCheck: Send + Sync {
    /// Returns once the dependency has responded. MUST return within one second, in any state of
    /// the dependency.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] with the reason, if it does not respond.
    async fn check(&self) -> Result<(), PortError>;
}
