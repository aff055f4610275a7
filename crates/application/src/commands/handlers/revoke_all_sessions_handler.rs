//! Revoke all sessions command handler.

use std::sync::Arc;

use domain::Revocation;
use domain::coherence::Scope;
use domain::ports::{Clock, PortError, SessionRepository};

use crate::coherence::{Revoked, SessionRevoker};
use crate::commands::RevokeAllSessions;

/// Sessions that one statement revokes.
const BATCH: u32 = 2000;

/// Ends every session there is.
pub struct RevokeAllSessionsHandler {
    session_repo: Arc<dyn SessionRepository>,
    revoker: Arc<SessionRevoker>,
    clock: Arc<dyn Clock>,
}

impl RevokeAllSessionsHandler {
    /// Creates a handler over its ports.
    pub fn new(
        session_repo: Arc<dyn SessionRepository>,
        revoker: Arc<SessionRevoker>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { session_repo, revoker, clock }
    }

    /// Revokes them batch by batch, and returns how many were not revoked before. All sessions that
    /// were there when it began are revoked; of sessions that are made meanwhile, some are.
    ///
    /// # Errors
    /// [`PortError`] from the store. Some may be revoked by then; trying again is safe.
    pub async fn handle(&self, command: RevokeAllSessions) -> Result<Revoked, PortError> {
        let revocation =
            Revocation { at: self.clock.now(), reason: command.reason, actor: Some(command.actor) };
        let pending = self.revoker.begin([Scope::AllUsers]);
        let mut after = None;
        let mut count = 0;
        loop {
            let revoked =
                match self.session_repo.revoke_all_sessions(after, BATCH, &revocation).await {
                    Ok(revoked) => revoked,
                    Err(error) => return Err(pending.failed(error)),
                };
            let Some(last) = revoked.last() else { break };
            after = Some(last.id);
            count += revoked.len() as u64;
            pending.invalidate(&revoked).await;
        }
        let effective_by = pending.committed(&[], command.acknowledge).await;
        Ok(Revoked { count, effective_by })
    }
}

#[cfg(test)]
mod tests {
    use adapters_memory::MemorySessionCache;
    use domain::ports::SessionCache;
    use domain::{Actor, Session, UserId};
    use testkit::fixtures;
    use testkit::memory::MemorySessionRepository;
    use uuid::Uuid;

    use super::*;
    use crate::coherence::Acknowledge;
    use crate::test_support;

    #[tokio::test]
    async fn all_sessions_are_revoked_once_and_invalidated_in_the_cache() {
        let repo = Arc::new(MemorySessionRepository::default());
        let cache = Arc::new(MemorySessionCache::new(5000, fixtures::clock()));
        let revoker = test_support::revoker(cache.clone());
        let handler = RevokeAllSessionsHandler::new(repo.clone(), revoker, fixtures::clock());
        let count = u64::from(2 * BATCH) + 1;
        for n in 1..=count {
            let user_id = UserId(Uuid::from_u128(u128::from(n % 7)));
            repo.insert(&Session { user_id, ..fixtures::session_number(n) }, None).await.unwrap();
        }
        let one = testkit::find_session(&*repo, fixtures::session_number(3).id).await.unwrap();
        cache.set(&Arc::new(one.clone()), &fixtures::read_version()).await;

        let acknowledge = Acknowledge::Effective;
        let command =
            RevokeAllSessions { reason: Some("breach".into()), actor: Actor::Service, acknowledge };
        assert_eq!(handler.handle(command.clone()).await.unwrap().count, count);
        assert_eq!(handler.handle(command).await.unwrap().count, 0);
        assert!(cache.get(one.id, one.user_id).await.is_none());
    }
}
