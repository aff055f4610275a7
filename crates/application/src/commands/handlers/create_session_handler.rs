//! Create session command handler.

use std::sync::Arc;

use domain::ports::{Clock, EndedSession, IdGenerator, Insertion, PortError, SessionCache, SessionRepository};
use domain::{Session, SessionError, SessionId, SessionPolicy, truncated_user_agent};
use thiserror::Error;

use crate::commands::CreateSession;

/// Why no session was created.
#[derive(Debug, Error)]
pub enum CreateSessionError {
    /// The wish for `expires_at` breaks a rule.
    #[error("expires_at {0}")]
    ExpiresAt(SessionError),
    /// The user has all the live sessions that are allowed.
    #[error("session_limit_reached")]
    LimitReached,
    /// The store could not be written.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// What came of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedSession {
    /// The new session.
    pub session: Session,
    /// Sessions that were ended to make room for it, the oldest first.
    pub evicted: Vec<EndedSession>,
}

/// Makes a session of a sign-in.
pub struct CreateSessionHandler {
    session_repo: Arc<dyn SessionRepository>,
    session_cache: Arc<dyn SessionCache>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGenerator>,
    policy: SessionPolicy,
}

impl CreateSessionHandler {
    /// A handler over its ports.
    pub fn new(
        session_repo: Arc<dyn SessionRepository>,
        session_cache: Arc<dyn SessionCache>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdGenerator>,
        policy: SessionPolicy,
    ) -> Self {
        Self { session_repo, session_cache, clock, ids, policy }
    }

    /// The new session, stored within the limit. Caches learn of it at its first read, and forget whom it evicted.
    ///
    /// # Errors
    /// See [`CreateSessionError`]. After [`PortError::Unavailable`] all of it has happened or nothing; nobody has the id.
    pub async fn handle(&self, command: CreateSession) -> Result<CreatedSession, CreateSessionError> {
        let now = self.clock.now();
        let session = Session {
            id: SessionId(self.ids.next_id()),
            user_id: command.user_id,
            device_info: None,
            user_agent: command.user_agent.as_deref().map(|text| truncated_user_agent(text).to_owned()),
            ip_address: command.ip_address,
            last_ip_address: command.ip_address,
            location: None,
            name: None,
            created_at: now,
            last_activity_at: now,
            expires_at: self.policy.expires_at(command.expires_at, now).map_err(CreateSessionError::ExpiresAt)?,
            revocation: None,
        };
        let limit = self.policy.limit(command.max_sessions);
        match self.session_repo.insert(&session, limit).await? {
            Insertion::LimitReached => Err(CreateSessionError::LimitReached),
            Insertion::Stored { evicted } => {
                self.session_cache.remove(&evicted).await;
                Ok(CreatedSession { session, evicted })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use adapters_memory::{MemorySessionCache, MemorySessionRepository};
    use chrono::TimeDelta;
    use domain::{OnLimit, USER_AGENT_MAX_BYTES};
    use testkit::{SequentialIds, fixtures};

    use super::*;

    struct Setting {
        repo: Arc<MemorySessionRepository>,
        cache: Arc<MemorySessionCache>,
        handler: CreateSessionHandler,
    }

    fn setting(max_per_user: u32, on_limit: OnLimit) -> Setting {
        let repo = Arc::new(MemorySessionRepository::default());
        let cache = Arc::new(MemorySessionCache::new(10, fixtures::clock()));
        let max_per_user = NonZeroU32::new(max_per_user);
        let policy = SessionPolicy { lifetime: TimeDelta::days(30), max_per_user, on_limit };
        let ids = Arc::new(SequentialIds::default());
        let handler = CreateSessionHandler::new(repo.clone(), cache.clone(), fixtures::clock(), ids, policy);
        Setting { repo, cache, handler }
    }

    fn command() -> CreateSession {
        CreateSession {
            user_id: fixtures::session().user_id,
            ip_address: "192.0.2.7".parse().ok(),
            user_agent: Some("curl/8.0".into()),
            expires_at: None,
            max_sessions: None,
        }
    }

    #[tokio::test]
    async fn a_sign_in_becomes_a_stored_live_session() {
        let s = setting(0, OnLimit::EvictOldest);
        let CreatedSession { session, evicted } = s.handler.handle(command()).await.unwrap();

        assert_eq!(s.repo.find_by_id(session.id).await.unwrap(), Some(session.clone()));
        assert!(session.is_live(fixtures::now()) && evicted.is_empty());
        assert_eq!(session.created_at, fixtures::now());
        assert_eq!(session.last_activity_at, fixtures::now());
        assert_eq!(session.expires_at, fixtures::now() + TimeDelta::days(30));
        assert_eq!(session.ip_address, session.last_ip_address);
    }

    #[tokio::test]
    async fn two_sign_ins_are_two_sessions() {
        let s = setting(0, OnLimit::EvictOldest);
        let first = s.handler.handle(command()).await.unwrap().session;
        assert_ne!(first.id, s.handler.handle(command()).await.unwrap().session.id);
    }

    #[tokio::test]
    async fn an_end_in_the_past_is_refused_and_nothing_is_stored() {
        let s = setting(0, OnLimit::EvictOldest);
        let past = CreateSession { expires_at: Some(fixtures::now()), ..command() };
        assert!(matches!(s.handler.handle(past).await, Err(CreateSessionError::ExpiresAt(_))));
        assert_eq!(s.repo.len(), 0);
    }

    #[tokio::test]
    async fn a_long_user_agent_is_cut() {
        let s = setting(0, OnLimit::EvictOldest);
        let long = CreateSession { user_agent: Some("x".repeat(5000)), ..command() };
        let session = s.handler.handle(long).await.unwrap().session;
        assert_eq!(session.user_agent.map(|text| text.len()), Some(USER_AGENT_MAX_BYTES));
    }

    #[tokio::test]
    async fn who_is_evicted_is_answered_and_forgotten_by_the_cache() {
        let s = setting(2, OnLimit::EvictOldest);
        let first = s.handler.handle(command()).await.unwrap().session;
        s.handler.handle(command()).await.unwrap();
        s.cache.set(&Arc::new(first.clone())).await;

        let created = s.handler.handle(command()).await.unwrap();
        assert_eq!(created.evicted, [EndedSession { id: first.id, user_id: first.user_id }]);
        assert!(s.cache.get(first.id, first.user_id).await.is_none());
        assert!(s.repo.find_by_id(first.id).await.unwrap().unwrap().is_revoked());
    }

    #[tokio::test]
    async fn the_callers_limit_outweighs_the_policys_and_a_limit_may_deny() {
        let s = setting(1, OnLimit::Deny);
        let more = CreateSession { max_sessions: NonZeroU32::new(2), ..command() };
        s.handler.handle(more.clone()).await.unwrap();
        s.handler.handle(more.clone()).await.unwrap();
        for command in [more, command()] {
            assert!(matches!(s.handler.handle(command).await, Err(CreateSessionError::LimitReached)));
        }
        assert_eq!(s.repo.len(), 2);
    }
}
