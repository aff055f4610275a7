//! Create session command handler.

use std::sync::Arc;

use domain::ports::{Clock, IdGenerator, PortError, SessionRepository};
use domain::{Session, SessionError, SessionId, SessionPolicy, truncated_user_agent};
use thiserror::Error;

use crate::commands::CreateSession;

/// Why no session was created.
#[derive(Debug, Error)]
pub enum CreateSessionError {
    /// The wish for `expires_at` breaks a rule.
    #[error("expires_at {0}")]
    ExpiresAt(SessionError),
    /// The store could not be written.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Makes a session of a sign-in.
pub struct CreateSessionHandler {
    session_repo: Arc<dyn SessionRepository>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGenerator>,
    policy: SessionPolicy,
}

impl CreateSessionHandler {
    /// A handler over its ports.
    pub fn new(
        session_repo: Arc<dyn SessionRepository>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdGenerator>,
        policy: SessionPolicy,
    ) -> Self {
        Self { session_repo, clock, ids, policy }
    }

    /// The new session, stored. Caches learn of it at its first read.
    ///
    /// # Errors
    /// See [`CreateSessionError`]. After [`PortError::Unavailable`] a row may or may not exist; nobody has its id.
    pub async fn handle(&self, command: CreateSession) -> Result<Session, CreateSessionError> {
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
        self.session_repo.insert(&session).await?;
        Ok(session)
    }
}

#[cfg(test)]
mod tests {
    use adapters_memory::MemorySessionRepository;
    use chrono::TimeDelta;
    use domain::USER_AGENT_MAX_BYTES;
    use testkit::{SequentialIds, fixtures};

    use super::*;

    fn setting() -> (Arc<MemorySessionRepository>, CreateSessionHandler) {
        let repo = Arc::new(MemorySessionRepository::default());
        let policy = SessionPolicy { lifetime: TimeDelta::days(30) };
        let handler =
            CreateSessionHandler::new(repo.clone(), fixtures::clock(), Arc::new(SequentialIds::default()), policy);
        (repo, handler)
    }

    fn command() -> CreateSession {
        CreateSession {
            user_id: fixtures::session().user_id,
            ip_address: "192.0.2.7".parse().ok(),
            user_agent: Some("curl/8.0".into()),
            expires_at: None,
        }
    }

    #[tokio::test]
    async fn a_sign_in_becomes_a_stored_live_session() {
        let (repo, handler) = setting();
        let session = handler.handle(command()).await.unwrap();

        assert_eq!(repo.find_by_id(session.id).await.unwrap(), Some(session.clone()));
        assert!(session.is_live(fixtures::now()));
        assert_eq!(session.created_at, fixtures::now());
        assert_eq!(session.last_activity_at, fixtures::now());
        assert_eq!(session.expires_at, fixtures::now() + TimeDelta::days(30));
        assert_eq!(session.ip_address, session.last_ip_address);
    }

    #[tokio::test]
    async fn two_sign_ins_are_two_sessions() {
        let (_, handler) = setting();
        assert_ne!(handler.handle(command()).await.unwrap().id, handler.handle(command()).await.unwrap().id);
    }

    #[tokio::test]
    async fn an_end_in_the_past_is_refused_and_nothing_is_stored() {
        let (repo, handler) = setting();
        let past = CreateSession { expires_at: Some(fixtures::now()), ..command() };
        assert!(matches!(handler.handle(past).await, Err(CreateSessionError::ExpiresAt(_))));
        assert_eq!(repo.len(), 0);
    }

    #[tokio::test]
    async fn a_long_user_agent_is_cut() {
        let (_, handler) = setting();
        let long = CreateSession { user_agent: Some("x".repeat(5000)), ..command() };
        assert_eq!(handler.handle(long).await.unwrap().user_agent.map(|ua| ua.len()), Some(USER_AGENT_MAX_BYTES));
    }
}
