use async_trait::async_trait;

use super::PortError;
use crate::{Session, SessionId};

/// Reads one session: what a query needs of a [`SessionRepository`](super::SessionRepository).
#[async_trait]
pub trait SessionReader: Send + Sync {
    /// The session with this id, in whatever state it is.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not answer in time; [`PortError::Corrupt`] if the row makes no sense.
    async fn find_by_id(&self, session_id: SessionId) -> Result<Option<Session>, PortError>;
}
