//! Sessions of another system, to be imported.

use async_trait::async_trait;

use super::PortError;
use crate::ids::SessionId;
use crate::session::Session;

/// A session of another system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSession {
    /// The session as it is to be here.
    pub session: Session,
    /// Whether it never expired there, and got an expiry for the import.
    pub never_expired: bool,
}

/// Another system's sessions, to be imported once or repeatedly.
#[async_trait]
pub trait SessionSource: Send + Sync {
    /// Returns about how many there are.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the source did not respond.
    async fn count(&self) -> Result<u64, PortError>;

    /// Returns at most `limit` sessions whose ids are greater than `after`, by ascending id; none
    /// after the last.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the source did not respond; [`PortError::Corrupt`] if a row
    /// makes no sense.
    async fn batch(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SourceSession>, PortError>;
}
