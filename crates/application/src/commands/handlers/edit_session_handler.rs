//! Edit session command handler.

use std::sync::Arc;

use domain::Session;
use domain::ports::{PortError, SessionCache, SessionKey, SessionRepository};
use thiserror::Error;

use crate::commands::EditSession;

/// Why a session was not changed.
#[derive(Debug, Error)]
pub enum EditSessionError {
    /// There is no such session.
    #[error("session_not_found")]
    SessionNotFound,
    /// There is one, of another user.
    #[error("not_session_owner")]
    NotOwner,
    /// It no longer has the fields that the edit expects.
    #[error("precondition_failed")]
    PreconditionFailed,
    /// The store could not be read or written.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Changes what people keep with a session: its name, its metadata.
pub struct EditSessionHandler {
    session_repo: Arc<dyn SessionRepository>,
    session_cache: Arc<dyn SessionCache>,
}

impl EditSessionHandler {
    /// Creates a handler over its ports.
    pub fn new(
        session_repo: Arc<dyn SessionRepository>,
        session_cache: Arc<dyn SessionCache>,
    ) -> Self {
        Self { session_repo, session_cache }
    }

    /// Edits the session, and returns it as it is afterwards. One that is terminated can be changed
    /// too: its owner may look at an old device.
    ///
    /// # Errors
    /// See [`EditSessionError`]. After [`PortError::OutcomeUnknown`] it may or may not be changed;
    /// trying again is safe.
    pub async fn handle(&self, command: EditSession) -> Result<Session, EditSessionError> {
        let session = self.session_repo.find_by_id(command.session_id).await?;
        let session = session.ok_or(EditSessionError::SessionNotFound)?.session;
        if command.owner.is_some_and(|owner| owner != session.user_id) {
            return Err(EditSessionError::NotOwner);
        }
        let edited = self.session_repo.edit(session.id, &command.edit).await;
        // After any outcome, caches go on from what they read next.
        self.session_cache.remove(&[SessionKey { id: session.id, user_id: session.user_id }]).await;
        // It was there just before.
        let or_else = match command.edit.only_if {
            Some(_) => EditSessionError::PreconditionFailed,
            None => EditSessionError::SessionNotFound,
        };
        edited?.ok_or(or_else)
    }
}

#[cfg(test)]
mod tests {
    use adapters_memory::MemorySessionCache;
    use domain::ports::{EditableFields, SessionEdit};
    use testkit::fixtures;
    use testkit::memory::MemorySessionRepository;

    use super::*;

    #[tokio::test]
    async fn an_owner_names_a_device_and_a_stranger_does_not() {
        let repo = Arc::new(MemorySessionRepository::default());
        let cache = Arc::new(MemorySessionCache::new(10, fixtures::clock()));
        let handler = EditSessionHandler::new(repo.clone(), cache.clone());
        let session = fixtures::session();
        repo.insert(&session, None).await.unwrap();
        cache.set(&Arc::new(session.clone()), &fixtures::read_version()).await;
        let edit =
            SessionEdit { name: Some(Some("kitchen".into())), metadata: None, only_if: None };
        let command = |owner| EditSession { session_id: session.id, owner, edit: edit.clone() };

        let stranger = handler.handle(command(Some(fixtures::another_user()))).await;
        assert!(matches!(stranger, Err(EditSessionError::NotOwner)));
        assert!(cache.get(session.id, session.user_id).await.is_some());
        let unknown = EditSession { session_id: fixtures::session_number(404).id, ..command(None) };
        assert!(matches!(handler.handle(unknown).await, Err(EditSessionError::SessionNotFound)));

        let stale = SessionEdit { only_if: Some(EditableFields::default()), ..edit.clone() };
        let stale = EditSession { edit: stale, ..command(None) };
        assert!(matches!(handler.handle(stale).await, Err(EditSessionError::PreconditionFailed)));

        let edited = handler.handle(command(Some(session.user_id))).await.unwrap();
        assert_eq!(edited, Session { name: Some("kitchen".into()), ..session.clone() });
        assert_eq!(testkit::find_session(&*repo, session.id).await, Some(edited));
        assert!(cache.get(session.id, session.user_id).await.is_none());
    }
}
