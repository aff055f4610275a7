//! Revoke sessions command handler.

use std::sync::Arc;

use domain::Revocation;
use domain::ports::{Clock, PortError, SessionRepository};

use crate::coherence::{Revoked, SessionRevoker};
use crate::commands::RevokeSessions;

/// Ends the sessions of a list.
pub struct RevokeSessionsHandler {
    session_repo: Arc<dyn SessionRepository>,
    revoker: Arc<SessionRevoker>,
    clock: Arc<dyn Clock>,
}

impl RevokeSessionsHandler {
    /// Creates a handler over its ports.
    pub fn new(
        session_repo: Arc<dyn SessionRepository>,
        revoker: Arc<SessionRevoker>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { session_repo, revoker, clock }
    }

    /// Revokes them, and returns how many were not revoked before.
    ///
    /// # Errors
    /// [`PortError`] from the store. After [`PortError::OutcomeUnknown`] they may or may not be
    /// revoked; trying again is safe.
    pub async fn handle(&self, command: RevokeSessions) -> Result<Revoked, PortError> {
        let revocation =
            Revocation { at: self.clock.now(), reason: command.reason, actor: Some(command.actor) };
        let pending = self.revoker.begin_sessions(&command.session_ids);
        match self.session_repo.revoke(&command.session_ids, &revocation).await {
            Err(error) => Err(pending.failed(error)),
            Ok(keys) => {
                let effective_by = pending.committed(&keys, command.acknowledge).await;
                Ok(Revoked { count: keys.len() as u64, effective_by })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use adapters_memory::MemorySessionCache;
    use domain::Actor;
    use domain::ports::SessionCache;
    use testkit::fixtures;
    use testkit::memory::MemorySessionRepository;

    use super::*;
    use crate::coherence::Acknowledge;
    use crate::test_support;

    #[tokio::test]
    async fn listed_sessions_are_revoked_once_and_invalidated_in_the_cache() {
        let repo = Arc::new(MemorySessionRepository::default());
        let cache = Arc::new(MemorySessionCache::new(10, fixtures::clock()));
        let revoker = test_support::revoker(cache.clone());
        let handler = RevokeSessionsHandler::new(repo.clone(), revoker, fixtures::clock());
        let sessions: Vec<_> = (1..=4).map(fixtures::session_number).collect();
        for session in &sessions {
            repo.insert(session, None).await.unwrap();
            cache.set(&Arc::new(session.clone()), &fixtures::read_version()).await;
        }
        let command = RevokeSessions {
            session_ids: sessions[..3].iter().map(|session| session.id).collect(),
            reason: None,
            actor: Actor::Service,
            acknowledge: Acknowledge::Effective,
        };
        assert_eq!(handler.handle(command.clone()).await.unwrap().count, 3);
        assert_eq!(handler.handle(command).await.unwrap().count, 0);
        for (n, session) in sessions.iter().enumerate() {
            assert_eq!(cache.get(session.id, session.user_id).await.is_some(), n == 3);
            assert_eq!(
                testkit::find_session(&*repo, session.id).await.unwrap().is_revoked(),
                n != 3
            );
        }
    }
}
