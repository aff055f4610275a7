//! Revoke matching sessions command handler.

use std::sync::Arc;

use domain::ports::{
    Clock, ListPosition, MAX_EXAMINED, PortError, SessionRepository, SessionSearch,
};

use super::RevokeSessionsHandler;
use crate::coherence::Revoked;
use crate::commands::{RevokeMatchingSessions, RevokeSessions};

/// Sessions that one statement revokes.
const BATCH: u32 = 400;

/// Revokes the sessions that an operator's search finds, or counts them first.
pub struct RevokeMatchingSessionsHandler {
    session_repo: Arc<dyn SessionRepository>,
    revoke_sessions: RevokeSessionsHandler,
    clock: Arc<dyn Clock>,
}

impl RevokeMatchingSessionsHandler {
    /// Creates a handler over its ports, and the handler that revokes what it finds.
    pub fn new(
        session_repo: Arc<dyn SessionRepository>,
        revoke_sessions: RevokeSessionsHandler,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { session_repo, revoke_sessions, clock }
    }

    /// Revokes batch by batch those that are not revoked yet, and returns how many they were; with
    /// [`RevokeMatchingSessions::dry_run`], only counts them. Goes from the newest to the oldest: a
    /// session that is created meanwhile is not among them.
    ///
    /// # Errors
    /// [`PortError`] from the store. Some may be revoked by then; trying again is safe.
    pub async fn handle(&self, command: RevokeMatchingSessions) -> Result<Revoked, PortError> {
        let RevokeMatchingSessions { filter, reason, actor, acknowledge, dry_run } = command;
        let now = self.clock.now();
        let mut search =
            SessionSearch { filter, now, limit: BATCH, after: None, max_examined: MAX_EXAMINED };
        let mut total = Revoked { count: 0, effective_by: None };
        loop {
            let page = self.session_repo.search(&search).await?;
            let is_full = page.sessions.len() >= BATCH as usize;
            let last = page.sessions.last().filter(|_| is_full);
            let last = last.map(|last| ListPosition { created_at: last.created_at, id: last.id });
            let next = last.or(page.examined_until);
            let unrevoked = page.sessions.iter().filter(|session| !session.is_revoked());
            let session_ids: Vec<_> = unrevoked.map(|session| session.id).collect();
            if dry_run {
                total.count += session_ids.len() as u64;
            } else if !session_ids.is_empty() {
                let reason = reason.clone();
                let actor = actor.clone();
                let batch = RevokeSessions { session_ids, reason, actor, acknowledge };
                let revoked = self.revoke_sessions.handle(batch).await?;
                total.count += revoked.count;
                total.effective_by = total.effective_by.max(revoked.effective_by);
            }
            let Some(next) = next else { return Ok(total) };
            search.after = Some(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use adapters_memory::MemorySessionCache;
    use domain::ports::{SessionCache, SessionFilter};
    use domain::{Actor, Session};
    use testkit::fixtures;
    use testkit::memory::MemorySessionRepository;

    use super::*;
    use crate::coherence::Acknowledge;
    use crate::test_support;

    #[tokio::test]
    async fn matching_sessions_are_counted_first_and_then_revoked_once() {
        let repo = Arc::new(MemorySessionRepository::default());
        let cache = Arc::new(MemorySessionCache::new(5000, fixtures::clock()));
        let revoker = test_support::revoker(cache.clone());
        let revoke = RevokeSessionsHandler::new(repo.clone(), revoker, fixtures::clock());
        let handler = RevokeMatchingSessionsHandler::new(repo.clone(), revoke, fixtures::clock());
        let matching = u64::from(2 * BATCH);
        for n in 1..=matching + 1 {
            let session = fixtures::session_number(n);
            let address = [198, 51, 100, if n > matching { 1 } else { 7 }];
            let session = Session { ip_address: Some(address.into()), ..session };
            repo.insert(&session, None).await.unwrap();
            cache.set(&Arc::new(session), &fixtures::read_version()).await;
        }
        let ip_address = Some([198, 51, 100, 7].into());
        let command = RevokeMatchingSessions {
            filter: SessionFilter { ip_address, ..SessionFilter::default() },
            reason: Some("attack".into()),
            actor: Actor::Service,
            acknowledge: Acknowledge::Effective,
            dry_run: true,
        };
        assert_eq!(handler.handle(command.clone()).await.unwrap().count, matching);
        let first = fixtures::session_number(1);
        assert!(cache.get(first.id, first.user_id).await.is_some(), "nothing was revoked");
        let command = RevokeMatchingSessions { dry_run: false, ..command };
        assert_eq!(handler.handle(command.clone()).await.unwrap().count, matching);
        assert_eq!(handler.handle(command).await.unwrap().count, 0);
        for n in 1..=matching + 1 {
            let session = testkit::find_session(&*repo, fixtures::session_number(n).id).await;
            assert_eq!(session.unwrap().is_revoked(), n <= matching, "{n}");
        }
        assert!(cache.get(first.id, first.user_id).await.is_none());
    }
}
