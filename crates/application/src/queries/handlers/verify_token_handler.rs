//! Verify token query handler.

use std::sync::Arc;

use domain::ports::{Clock, PortError, SessionRepository};
use domain::{
    Actor, OnTokenReuse, REVOKED_BY_TOKEN_REUSE, Revocation, Session, TokenPolicy, TokenVerdict,
};
use thiserror::Error;

use super::get_session_handler::{FoundSession, GetSessionError, GetSessionHandler};
use crate::coherence::{Acknowledge, SessionRevoker};
use crate::queries::{GetSession, VerifyToken};

/// Why a session token is not accepted.
#[derive(Debug, Error)]
pub enum VerifyTokenError {
    /// There is no such session of this user.
    #[error("session_not_found")]
    SessionNotFound,
    /// The session has another token.
    #[error("token_unknown")]
    TokenUnknown,
    /// The token was replaced longer ago than the grace.
    #[error("token_reused")]
    TokenReused,
    /// The store failed, so it is not known.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Handles [`VerifyToken`]: gets the session in the token as [`GetSession`] does, and compares the
/// hash of the token with that in the session. This costs no look-up beyond that of the session.
pub struct VerifyTokenHandler {
    get_session: GetSessionHandler,
    session_repo: Arc<dyn SessionRepository>,
    revoker: Arc<SessionRevoker>,
    clock: Arc<dyn Clock>,
    policy: TokenPolicy,
}

impl VerifyTokenHandler {
    /// Creates a handler over the handler of [`GetSession`], and what records a reused token.
    pub fn new(
        get_session: GetSessionHandler,
        session_repo: Arc<dyn SessionRepository>,
        revoker: Arc<SessionRevoker>,
        clock: Arc<dyn Clock>,
        policy: TokenPolicy,
    ) -> Self {
        Self { get_session, session_repo, revoker, clock, policy }
    }

    /// Returns the session, in any state, if the token is its current one, or was replaced less
    /// than [`TokenPolicy::rotation_grace`] ago.
    ///
    /// A token that was replaced longer ago is an event, once per rotation; where the policy is
    /// [`OnTokenReuse::Revoke`], the session is revoked before this returns.
    ///
    /// # Errors
    /// See [`VerifyTokenError`]. A port that fails is never an unknown token.
    pub async fn handle(&self, query: VerifyToken) -> Result<FoundSession, VerifyTokenError> {
        let VerifyToken { session_id, user_id, hash } = query;
        let found = self.get_session.find(GetSession { session_id, user_id }).await;
        let found = found.map_err(|error| match error {
            GetSessionError::SessionNotFound | GetSessionError::NotOwner => {
                VerifyTokenError::SessionNotFound
            }
            GetSessionError::Port(error) => error.into(),
        })?;
        let tokens = found.session.tokens.as_ref().ok_or(VerifyTokenError::TokenUnknown)?;
        match tokens.verify(&hash, self.clock.now(), self.policy.rotation_grace) {
            TokenVerdict::Current | TokenVerdict::Replaced => Ok(found),
            TokenVerdict::Unknown => Err(VerifyTokenError::TokenUnknown),
            TokenVerdict::Reused => {
                self.record_reuse(&found.session, &query).await?;
                Err(VerifyTokenError::TokenReused)
            }
        }
    }

    async fn record_reuse(&self, session: &Session, query: &VerifyToken) -> Result<(), PortError> {
        let at = self.clock.now();
        if !session.is_live(at) {
            return Ok(());
        }
        if self.session_repo.mark_token_reused(session.id, &query.hash, at).await? {
            tracing::warn!(
                session_id = %session.id,
                user_id = %session.user_id,
                "a session token that was replaced has been used"
            );
        }
        if self.policy.on_reuse == OnTokenReuse::Revoke {
            let reason = Some(REVOKED_BY_TOKEN_REUSE.to_owned());
            let revocation = Revocation { at, reason, actor: Some(Actor::System) };
            let pending = self.revoker.begin_sessions(&[session.id]);
            match self.session_repo.revoke(&[session.id], &revocation).await {
                Err(error) => return Err(pending.failed(error)),
                Ok(revoked) => drop(pending.committed(&revoked, Acknowledge::Effective).await),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use adapters_memory::MemorySessionCache;
    use chrono::TimeDelta;
    use domain::ports::{EventOutbox, EventQuery, Layer, TokenRotation};
    use domain::{SessionEventKind, SessionTokens, TokenHash};
    use testkit::memory::{MemoryDatabase, MemoryEventOutbox, MemorySessionRepository};
    use testkit::{FixedClock, fixtures};

    use super::*;
    use crate::test_support;

    const FIRST: TokenHash = TokenHash([1; 32]);
    const SECOND: TokenHash = TokenHash([2; 32]);

    struct Fixture {
        database: MemoryDatabase,
        repo: Arc<MemorySessionRepository>,
        clock: Arc<FixedClock>,
        session: Session,
        handler: VerifyTokenHandler,
    }

    /// A session whose first token was replaced by the second.
    async fn fixture(on_reuse: OnTokenReuse) -> Fixture {
        let database = MemoryDatabase::default();
        let repo = Arc::new(MemorySessionRepository::new(database.clone()));
        let tokens = Some(SessionTokens::issued(FIRST).into());
        let session = Session { tokens, ..fixtures::session() };
        repo.insert(&session, None).await.unwrap();
        let rotation = TokenRotation { hash: SECOND, at: fixtures::now(), only_if: None };
        repo.rotate_token(session.id, &rotation).await.unwrap();
        let clock = fixtures::clock();
        let cache = Arc::new(MemorySessionCache::new(10, clock.clone()));
        let policy = TokenPolicy { rotation_grace: TimeDelta::seconds(10), on_reuse };
        let handler = VerifyTokenHandler::new(
            GetSessionHandler::new(repo.clone(), cache.clone()),
            repo.clone(),
            test_support::revoker(cache),
            clock.clone(),
            policy,
        );
        Fixture { database, repo, clock, session, handler }
    }

    impl Fixture {
        fn query(&self, hash: TokenHash) -> VerifyToken {
            VerifyToken { session_id: self.session.id, user_id: self.session.user_id, hash }
        }

        async fn reuse_events(&self) -> usize {
            let outbox = MemoryEventOutbox::new(self.database.clone());
            let query = EventQuery { limit: 100, ..EventQuery::default() };
            let events = outbox.events(&query).await.unwrap();
            events.iter().filter(|event| event.kind == SessionEventKind::TokenReused).count()
        }
    }

    #[tokio::test]
    async fn current_token_returns_the_session_from_the_database_and_then_from_the_cache() {
        let f = fixture(OnTokenReuse::Report).await;
        for layer in [Layer::Database, Layer::Near] {
            let found = f.handler.handle(f.query(SECOND)).await.unwrap();
            assert_eq!((found.session.id, found.layer), (f.session.id, layer));
        }
    }

    #[tokio::test]
    async fn replaced_token_is_accepted_within_the_grace_and_reported_once_after_it() {
        let f = fixture(OnTokenReuse::Report).await;
        assert!(f.handler.handle(f.query(FIRST)).await.is_ok());
        assert_eq!(f.reuse_events().await, 0);
        f.clock.advance(TimeDelta::seconds(10));
        for _ in 0..2 {
            let reused = f.handler.handle(f.query(FIRST)).await;
            assert!(matches!(reused, Err(VerifyTokenError::TokenReused)));
            assert_eq!(f.reuse_events().await, 1);
        }
        assert!(f.handler.handle(f.query(SECOND)).await.is_ok(), "the session goes on");
    }

    #[tokio::test]
    async fn reused_token_revokes_the_session_where_the_policy_says_so() {
        let f = fixture(OnTokenReuse::Revoke).await;
        f.clock.advance(TimeDelta::seconds(10));
        let reused = f.handler.handle(f.query(FIRST)).await;
        assert!(matches!(reused, Err(VerifyTokenError::TokenReused)));
        let revocation = testkit::find_session(&*f.repo, f.session.id).await.unwrap().revocation;
        let reason = revocation.map(|revocation| revocation.reason.clone());
        assert_eq!(reason, Some(Some("token_reused".to_owned())));
        assert_eq!(f.reuse_events().await, 1);
    }

    #[tokio::test]
    async fn other_tokens_users_and_sessions_are_refused() {
        let f = fixture(OnTokenReuse::Revoke).await;
        let unknown = f.handler.handle(f.query(TokenHash([7; 32]))).await;
        assert!(matches!(unknown, Err(VerifyTokenError::TokenUnknown)));
        for query in [
            VerifyToken { user_id: fixtures::another_user(), ..f.query(SECOND) },
            VerifyToken { session_id: fixtures::session_number(404).id, ..f.query(SECOND) },
        ] {
            let refused = f.handler.handle(query).await;
            assert!(matches!(refused, Err(VerifyTokenError::SessionNotFound)));
        }
        let bare = Session { id: fixtures::session_number(2).id, ..fixtures::bare_session() };
        f.repo.insert(&bare, None).await.unwrap();
        let without = VerifyToken { session_id: bare.id, ..f.query(SECOND) };
        let without = f.handler.handle(without).await;
        assert!(matches!(without, Err(VerifyTokenError::TokenUnknown)));
        assert_eq!(f.reuse_events().await, 0);
    }

    #[tokio::test]
    async fn dead_database_is_an_error_and_not_an_unknown_token() {
        let f = fixture(OnTokenReuse::Report).await;
        f.database.take_down();
        let failed = f.handler.handle(f.query(SECOND)).await;
        assert!(matches!(failed, Err(VerifyTokenError::Port(_))));
    }
}
