//! Revoke all of a user's sessions command handler.

use std::sync::Arc;

use domain::Revocation;
use domain::coherence::Scope;
use domain::ports::{Clock, PortError, SessionRepository};

use crate::coherence::{Revoked, SessionRevoker};
use crate::commands::RevokeAllUserSessions;

/// Sessions that one statement revokes: nearly always all of them, and as many as a store can
/// revoke within its time-out.
const BATCH: u32 = 10_000;

/// Ends all of a user's sessions but one that is excepted.
pub struct RevokeAllUserSessionsHandler {
    session_repo: Arc<dyn SessionRepository>,
    revoker: Arc<SessionRevoker>,
    clock: Arc<dyn Clock>,
}

impl RevokeAllUserSessionsHandler {
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
    pub async fn handle(&self, command: RevokeAllUserSessions) -> Result<Revoked, PortError> {
        let revocation =
            Revocation { at: self.clock.now(), reason: command.reason, actor: Some(command.actor) };
        let pending = self.revoker.begin([Scope::User(command.user_id)]);
        let mut count = 0;
        loop {
            let revoked = self
                .session_repo
                .revoke_all_of_user(command.user_id, command.except, BATCH, &revocation)
                .await;
            let revoked = match revoked {
                Ok(revoked) => revoked,
                Err(error) => return Err(pending.failed(error)),
            };
            count += revoked.len() as u64;
            pending.invalidate(&revoked).await;
            if revoked.len() < BATCH as usize {
                break;
            }
        }
        let effective_by = pending.committed(&[], command.acknowledge).await;
        Ok(Revoked { count, effective_by })
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
    async fn all_but_the_excepted_one_are_revoked_once_and_invalidated_in_the_cache() {
        let repo = Arc::new(MemorySessionRepository::default());
        let cache = Arc::new(MemorySessionCache::new(10, fixtures::clock()));
        let revoker = test_support::revoker(cache.clone());
        let handler = RevokeAllUserSessionsHandler::new(repo.clone(), revoker, fixtures::clock());
        let sessions: Vec<_> = (1..=4).map(fixtures::session_number).collect();
        for session in &sessions {
            repo.insert(session, None).await.unwrap();
            cache.set(&Arc::new(session.clone()), &fixtures::read_version()).await;
        }
        let command = RevokeAllUserSessions {
            user_id: sessions[3].user_id,
            except: Some(sessions[3].id),
            reason: None,
            actor: Actor::User(sessions[3].user_id),
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
