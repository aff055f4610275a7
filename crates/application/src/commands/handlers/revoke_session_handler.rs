//! Revoke session command handler.

use std::sync::Arc;

use domain::Revocation;
use domain::ports::{Clock, PortError, SessionKey, SessionRepository};
use fail::fail_point;
use thiserror::Error;

use crate::coherence::{Revoked, SessionRevoker};
use crate::commands::RevokeSession;

/// Why a session was not revoked.
#[derive(Debug, Error)]
pub enum RevokeSessionError {
    /// There is no such session.
    #[error("session_not_found")]
    SessionNotFound,
    /// There is one, of another user.
    #[error("not_session_owner")]
    NotOwner,
    /// The store could not be read or written.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Ends one session.
pub struct RevokeSessionHandler {
    session_repo: Arc<dyn SessionRepository>,
    revoker: Arc<SessionRevoker>,
    clock: Arc<dyn Clock>,
}

impl RevokeSessionHandler {
    /// Creates a handler over its ports.
    pub fn new(
        session_repo: Arc<dyn SessionRepository>,
        revoker: Arc<SessionRevoker>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { session_repo, revoker, clock }
    }

    /// Ends the session. Ending it again is no error and changes nothing.
    ///
    /// # Errors
    /// See [`RevokeSessionError`]. After [`PortError::OutcomeUnknown`] it may or may not be
    /// revoked; trying again is safe, and shows it.
    pub async fn handle(&self, command: RevokeSession) -> Result<Revoked, RevokeSessionError> {
        let session = self.session_repo.find_by_id(command.session_id).await?;
        let session = session.ok_or(RevokeSessionError::SessionNotFound)?.session;
        if command.owner.is_some_and(|owner| owner != session.user_id) {
            return Err(RevokeSessionError::NotOwner);
        }
        let revocation =
            Revocation { at: self.clock.now(), reason: command.reason, actor: Some(command.actor) };
        let pending = self.revoker.begin_sessions(&[session.id]);
        match self.session_repo.revoke(&[session.id], &revocation).await {
            Err(error) => Err(pending.failed(error).into()),
            Ok(keys) => {
                fail_point!("bug-second-revocation-at-once", keys.is_empty(), |_| Ok(Revoked {
                    count: 0,
                    effective_by: None
                }));
                // Even if it was revoked already: the earlier revocation may not be effective yet.
                let session = SessionKey { id: session.id, user_id: session.user_id };
                let effective_by = pending.committed(&[session], command.acknowledge).await;
                Ok(Revoked { count: keys.len() as u64, effective_by })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use adapters_memory::MemorySessionCache;
    use domain::ports::SessionCache;
    use domain::{Actor, Session};
    use testkit::fixtures;
    use testkit::memory::MemorySessionRepository;

    use super::*;
    use crate::coherence::Acknowledge;
    use crate::test_support;

    async fn fixture(
        session: &Session,
    ) -> (Arc<MemorySessionRepository>, Arc<MemorySessionCache>, RevokeSessionHandler) {
        let repo = Arc::new(MemorySessionRepository::default());
        let cache = Arc::new(MemorySessionCache::new(10, fixtures::clock()));
        let revoker = test_support::revoker(cache.clone());
        repo.insert(session, None).await.unwrap();
        cache.set(&Arc::new(session.clone()), &fixtures::read_version()).await;
        (repo.clone(), cache.clone(), RevokeSessionHandler::new(repo, revoker, fixtures::clock()))
    }

    fn command(session: &Session) -> RevokeSession {
        let reason = Some("lost phone".to_owned());
        RevokeSession {
            session_id: session.id,
            owner: Some(session.user_id),
            reason,
            actor: Actor::User(session.user_id),
            acknowledge: Acknowledge::Effective,
        }
    }

    #[tokio::test]
    async fn session_is_revoked_in_the_store_and_invalidated_in_the_cache() {
        let session = fixtures::session();
        let (repo, cache, handler) = fixture(&session).await;
        handler.handle(command(&session)).await.unwrap();

        let reason = Some("lost phone".to_owned());
        let expected =
            Revocation { at: fixtures::now(), reason, actor: Some(Actor::User(session.user_id)) };
        assert_eq!(
            testkit::find_session(&*repo, session.id).await.unwrap().revocation,
            Some(expected.into())
        );
        assert!(cache.get(session.id, session.user_id).await.is_none());
    }

    #[tokio::test]
    async fn ending_it_again_changes_nothing_but_a_cache_that_missed_it() {
        let session = fixtures::session();
        let (repo, cache, handler) = fixture(&session).await;
        handler.handle(command(&session)).await.unwrap();
        let first = testkit::find_session(&*repo, session.id).await;

        cache.set(&Arc::new(session.clone()), &fixtures::read_version()).await;
        handler
            .handle(RevokeSession { reason: None, actor: Actor::Service, ..command(&session) })
            .await
            .unwrap();
        assert_eq!(testkit::find_session(&*repo, session.id).await, first);
        assert!(cache.get(session.id, session.user_id).await.is_none());
    }

    #[tokio::test]
    async fn a_stranger_ends_nothing_and_changes_no_cache() {
        let session = fixtures::session();
        let (repo, cache, handler) = fixture(&session).await;
        let stranger = RevokeSession { owner: Some(fixtures::another_user()), ..command(&session) };
        assert!(matches!(handler.handle(stranger).await, Err(RevokeSessionError::NotOwner)));
        assert!(!testkit::find_session(&*repo, session.id).await.unwrap().is_revoked());
        assert!(cache.get(session.id, session.user_id).await.is_some());

        let unknown =
            RevokeSession { session_id: fixtures::session_number(404).id, ..command(&session) };
        assert!(matches!(handler.handle(unknown).await, Err(RevokeSessionError::SessionNotFound)));
    }

    #[tokio::test]
    async fn without_an_owner_any_users_session_is_revoked() {
        let session = fixtures::session();
        let (repo, _, handler) = fixture(&session).await;
        handler
            .handle(RevokeSession { owner: None, actor: Actor::Service, ..command(&session) })
            .await
            .unwrap();
        assert!(testkit::find_session(&*repo, session.id).await.unwrap().is_revoked());
    }
}
