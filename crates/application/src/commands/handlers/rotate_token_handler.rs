//! Rotate token command handler.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::ports::{
    Clock, PortError, SessionKey, SessionRepository, TokenGenerator, TokenRotation,
};
use domain::{Session, TokenHash, TokenPolicy, TokenSecret, TokenVerdict};
use thiserror::Error;

use crate::coherence::SessionRevoker;
use crate::commands::RotateToken;

/// Why a token was not replaced.
#[derive(Debug, Error)]
pub enum RotateTokenError {
    /// There is no such session.
    #[error("session_not_found")]
    SessionNotFound,
    /// The session is revoked or expired.
    #[error("session_ended")]
    SessionEnded,
    /// Another rotation has replaced the token that the caller has.
    #[error("token_replaced")]
    TokenReplaced,
    /// The store could not be read or written.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// A token that was issued. Its secret is kept nowhere else.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The session and its owner, which are in the token.
    pub session: SessionKey,
    /// The secret.
    pub secret: TokenSecret,
    /// When the session expires.
    pub expires_at: DateTime<Utc>,
}

/// Replaces the token of a session by a new one. The one before is good for a while yet: see
/// [`TokenPolicy::rotation_grace`](domain::TokenPolicy::rotation_grace).
pub struct RotateTokenHandler {
    session_repo: Arc<dyn SessionRepository>,
    revoker: Arc<SessionRevoker>,
    clock: Arc<dyn Clock>,
    tokens: Arc<dyn TokenGenerator>,
    policy: TokenPolicy,
}

impl RotateTokenHandler {
    /// Creates a handler over its ports.
    pub fn new(
        session_repo: Arc<dyn SessionRepository>,
        revoker: Arc<SessionRevoker>,
        clock: Arc<dyn Clock>,
        tokens: Arc<dyn TokenGenerator>,
        policy: TokenPolicy,
    ) -> Self {
        Self { session_repo, revoker, clock, tokens, policy }
    }

    /// Returns the new token, once every node accepts it. A session that has no token gets its
    /// first.
    ///
    /// # Errors
    /// See [`RotateTokenError`]. After [`PortError::OutcomeUnknown`], or if the response is lost,
    /// the token may have been replaced by one that no client has. The caller can rotate again with
    /// the token that it has, within the grace.
    pub async fn handle(&self, command: RotateToken) -> Result<IssuedToken, RotateTokenError> {
        let session = self.session_repo.find_by_id(command.session_id).await?;
        let session = session.ok_or(RotateTokenError::SessionNotFound)?.session;
        let now = self.clock.now();
        if !session.is_live(now) {
            return Err(RotateTokenError::SessionEnded);
        }
        let only_if = match command.presented {
            Some(presented) => Some(self.replaceable(&session, &presented, now)?),
            None => None,
        };
        let key = SessionKey { id: session.id, user_id: session.user_id };
        let (secret, hash) = self.tokens.next_token();
        let rotation = TokenRotation { hash, at: now, only_if };
        // Caches hold the hash of the token before, like sessions that are to be revoked.
        let pending = self.revoker.begin_sessions(&[session.id]);
        match self.session_repo.rotate_token(session.id, &rotation).await {
            Err(error) => Err(pending.failed(error).into()),
            Ok(false) => {
                pending.abort();
                // It was live, and had the token, just before.
                Err(match only_if {
                    Some(_) => RotateTokenError::TokenReplaced,
                    None => RotateTokenError::SessionEnded,
                })
            }
            Ok(true) => {
                pending.rotated(key).await;
                Ok(IssuedToken { session: key, secret, expires_at: session.expires_at })
            }
        }
    }
}

impl RotateTokenHandler {
    /// Returns the token that the rotation has to replace: the current one, where the caller has
    /// that or the one that it replaced.
    fn replaceable(
        &self,
        session: &Session,
        presented: &TokenHash,
        now: DateTime<Utc>,
    ) -> Result<TokenHash, RotateTokenError> {
        let tokens = session.tokens.as_ref().ok_or(RotateTokenError::TokenReplaced)?;
        match tokens.verify(presented, now, self.policy.rotation_grace) {
            TokenVerdict::Current | TokenVerdict::Replaced => Ok(tokens.current),
            TokenVerdict::Reused | TokenVerdict::Unknown => Err(RotateTokenError::TokenReplaced),
        }
    }
}

#[cfg(test)]
mod tests {
    use adapters_memory::MemorySessionCache;
    use chrono::TimeDelta;
    use domain::ports::SessionCache;
    use domain::{OnTokenReuse, Revocation};
    use testkit::memory::MemorySessionRepository;
    use testkit::{FixedClock, SequentialTokens, fixtures};

    use super::*;
    use crate::test_support;

    struct Fixture {
        repo: Arc<MemorySessionRepository>,
        cache: Arc<MemorySessionCache>,
        clock: Arc<FixedClock>,
        handler: RotateTokenHandler,
    }

    async fn fixture(session: &Session) -> Fixture {
        let repo = Arc::new(MemorySessionRepository::default());
        let cache = Arc::new(MemorySessionCache::new(10, fixtures::clock()));
        repo.insert(session, None).await.unwrap();
        cache.set(&Arc::new(session.clone()), &fixtures::read_version()).await;
        let revoker = test_support::revoker(cache.clone());
        let tokens = Arc::new(SequentialTokens::default());
        let clock = fixtures::clock();
        let policy =
            TokenPolicy { rotation_grace: TimeDelta::seconds(10), on_reuse: OnTokenReuse::Report };
        let handler = RotateTokenHandler::new(repo.clone(), revoker, clock.clone(), tokens, policy);
        Fixture { repo, cache, clock, handler }
    }

    #[tokio::test]
    async fn token_is_replaced_in_the_store_and_invalidated_in_the_cache() {
        let session = fixtures::session();
        let f = fixture(&session).await;
        let before = session.tokens.clone().unwrap();
        let command = RotateToken { session_id: session.id, presented: Some(before.current) };
        let issued = f.handler.handle(command).await.unwrap();
        assert_eq!(issued.session.user_id, session.user_id);
        let (_, hash) = SequentialTokens::default().next_token();
        let stored = testkit::find_session(&*f.repo, session.id).await.unwrap();
        assert_eq!(stored.tokens, Some(before.rotated(hash, fixtures::now()).into()));
        assert!(f.cache.get(session.id, session.user_id).await.is_none());
    }

    /// The response to the first rotation was lost. Within the grace the caller repeats it.
    #[tokio::test]
    async fn replaced_token_can_be_rotated_within_the_grace_and_not_after_it() {
        let session = fixtures::session();
        let f = fixture(&session).await;
        let presented = session.tokens.as_ref().map(|tokens| tokens.current);
        let command = RotateToken { session_id: session.id, presented };
        f.handler.handle(command).await.unwrap();
        assert!(f.handler.handle(command).await.is_ok(), "it was replaced just before");
        let again = f.handler.handle(command).await;
        assert!(matches!(again, Err(RotateTokenError::TokenReplaced)), "it was replaced twice");

        let tokens = testkit::find_session(&*f.repo, session.id).await.unwrap().tokens.unwrap();
        let replaced = tokens.replaced.map(|token| token.hash);
        f.clock.advance(TimeDelta::seconds(10));
        let late = f.handler.handle(RotateToken { presented: replaced, ..command }).await;
        assert!(matches!(late, Err(RotateTokenError::TokenReplaced)), "the grace has passed");
    }

    #[tokio::test]
    async fn only_a_live_session_gets_a_token() {
        let session = fixtures::session();
        let f = fixture(&session).await;
        let command = RotateToken { session_id: session.id, presented: None };
        let unknown = RotateToken { session_id: fixtures::session_number(404).id, ..command };
        let unknown = f.handler.handle(unknown).await;
        assert!(matches!(unknown, Err(RotateTokenError::SessionNotFound)));
        let revocation = Revocation { at: fixtures::now(), reason: None, actor: None };
        f.repo.revoke(&[session.id], &revocation).await.unwrap();
        let revoked = f.handler.handle(command).await;
        assert!(matches!(revoked, Err(RotateTokenError::SessionEnded)));
    }
}
