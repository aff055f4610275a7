//! An operator's read of one session.

use std::sync::Arc;

use domain::Session;
use domain::ports::{PortError, SessionRepository};
use thiserror::Error;

use crate::activity::ActivityBuffer;
use crate::queries::InspectSession;

/// Why a session was not returned to an operator.
#[derive(Debug, Error)]
pub enum InspectSessionError {
    /// There is no such session.
    #[error("session_not_found")]
    SessionNotFound,
    /// It could not be found out.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Handles [`InspectSession`] from the database alone: caches are looked up by session *and* user,
/// and an operator names no user.
pub struct InspectSessionHandler {
    session_repo: Arc<dyn SessionRepository>,
    activity: Arc<ActivityBuffer>,
}

impl InspectSessionHandler {
    /// Creates a handler over its port, which adds the activity that `activity` has not written
    /// yet.
    pub fn new(session_repo: Arc<dyn SessionRepository>, activity: Arc<ActivityBuffer>) -> Self {
        Self { session_repo, activity }
    }

    /// Returns the session, in any state.
    ///
    /// # Errors
    /// See [`InspectSessionError`].
    pub async fn handle(&self, query: InspectSession) -> Result<Arc<Session>, InspectSessionError> {
        let read = self.session_repo.find_by_id(query.session_id).await?;
        let read = read.ok_or(InspectSessionError::SessionNotFound)?;
        Ok(self.activity.with_pending_activity(read.session))
    }
}

#[cfg(test)]
mod tests {
    use testkit::fixtures;
    use testkit::memory::MemorySessionRepository;

    use super::*;
    use crate::test_support;

    #[tokio::test]
    async fn an_operator_sees_any_session() {
        let repo = Arc::new(MemorySessionRepository::default());
        let session = fixtures::session();
        repo.insert(&session, None).await.unwrap();
        let handler = InspectSessionHandler::new(repo, test_support::activity());

        assert_eq!(
            *handler.handle(InspectSession { session_id: session.id }).await.unwrap(),
            session
        );
    }

    #[tokio::test]
    async fn an_unknown_session_is_not_found() {
        let handler = InspectSessionHandler::new(
            Arc::new(MemorySessionRepository::default()),
            test_support::activity(),
        );
        let query = InspectSession { session_id: fixtures::session().id };
        assert!(matches!(handler.handle(query).await, Err(InspectSessionError::SessionNotFound)));
    }
}
