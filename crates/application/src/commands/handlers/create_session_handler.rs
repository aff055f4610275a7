//! Create session command handler.

use std::sync::Arc;

use domain::coherence::Scope;
use domain::ports::{
    Clock, DeviceEnricher, IdGenerator, Insertion, LocationEnricher, PortError, SessionKey,
    SessionListing, SessionRepository, TokenGenerator, TokenRotation,
};
use domain::{
    Device, ExpiryNotInTheFuture, IdempotencyKey, Revocation, Session, SessionId, SessionPolicy,
    SessionTokens, TokenHash, TokenSecret, UserId, truncated_user_agent,
};
use thiserror::Error;

use super::rotate_token_handler::IssuedToken;
use crate::coherence::{Acknowledge, SessionRevoker};
use crate::commands::CreateSession;

/// The most sessions of a user that are searched for those that a repeated sign-in had evicted.
const EVICTED_AMONG: u32 = 1000;

/// Why no session was created.
#[derive(Debug, Error)]
pub enum CreateSessionError {
    /// The wish for `expires_at` breaks a rule.
    #[error("expires_at {0}")]
    ExpiresAt(ExpiryNotInTheFuture),
    /// The user has all the live sessions that are allowed.
    #[error("session_limit_reached")]
    LimitReached,
    /// The idempotency key was given for another request.
    #[error("idempotency_key_reused")]
    KeyReused,
    /// The request was repeated, and its session is revoked or expired: a sign-in with it would be
    /// void.
    #[error("session_ended")]
    SessionEnded,
    /// The store could not be written.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// The outcome of a sign-in.
#[derive(Clone, Debug)]
pub struct CreatedSession {
    /// The new session.
    pub session: Session,
    /// Sessions that were evicted for it, the oldest first.
    pub evicted: Vec<SessionKey>,
    /// The session token, where one was asked for.
    pub token: Option<IssuedToken>,
}

/// Fills in what the backend does not say of a sign-in.
#[derive(Clone)]
pub struct Enrichers {
    /// The device of a user agent.
    pub device: Arc<dyn DeviceEnricher>,
    /// The place of an address; `None`: places are not looked up.
    pub location: Option<Arc<dyn LocationEnricher>>,
}

/// Creates the session of a sign-in.
pub struct CreateSessionHandler {
    session_repo: Arc<dyn SessionRepository>,
    revoker: Arc<SessionRevoker>,
    enrichers: Enrichers,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGenerator>,
    tokens: Arc<dyn TokenGenerator>,
    policy: SessionPolicy,
}

impl CreateSessionHandler {
    /// Creates a handler over its ports.
    pub fn new(
        session_repo: Arc<dyn SessionRepository>,
        revoker: Arc<SessionRevoker>,
        enrichers: Enrichers,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdGenerator>,
        tokens: Arc<dyn TokenGenerator>,
        policy: SessionPolicy,
    ) -> Self {
        Self { session_repo, revoker, enrichers, clock, ids, tokens, policy }
    }

    /// Stores the new session within the limit, and returns it. Its first read populates the
    /// caches. Sessions that it evicted are removed from them.
    ///
    /// With an idempotency key that was used before for the same request, returns the session of
    /// that sign-in, as it is now. Its token is a new one, because the first is kept nowhere.
    ///
    /// # Errors
    /// See [`CreateSessionError`]. After [`PortError::OutcomeUnknown`] all of it has happened or
    /// nothing; with an idempotency key it can be repeated.
    pub async fn handle(
        &self,
        command: CreateSession,
    ) -> Result<CreatedSession, CreateSessionError> {
        let issue_token = command.issue_token;
        if let Some(key) = &command.idempotency_key
            && let Some(repeated) = self.repeated(command.user_id, key).await?
        {
            return self.acknowledge_repeated(repeated, issue_token).await;
        }
        let limit = self.policy.limit(command.max_sessions);
        let (token, hash) = issue_token.then(|| self.tokens.next_token()).unzip();
        let session = self.session(command, hash)?;
        // Within a limit, any of the user's sessions may have to make room.
        let pending = self.revoker.begin(limit.map(|_| Scope::User(session.user_id)));
        match self.session_repo.insert(&session, limit).await {
            Ok(Insertion::LimitReached) => {
                pending.abort();
                Err(CreateSessionError::LimitReached)
            }
            Ok(Insertion::Stored { evicted }) => {
                if evicted.is_empty() {
                    pending.abort();
                } else {
                    pending.committed(&evicted, Acknowledge::Effective).await;
                }
                let token = token.map(|secret| issued(&session, secret));
                Ok(CreatedSession { session, evicted, token })
            }
            Err(PortError::Conflict(source)) => {
                pending.abort();
                // The same sign-in twice at once: the other one was first.
                let repeated = match &session.idempotency_key {
                    Some(key) => self.repeated(session.user_id, key).await?,
                    None => None,
                };
                match repeated {
                    Some(repeated) => self.acknowledge_repeated(repeated, issue_token).await,
                    None => Err(PortError::Conflict(source).into()),
                }
            }
            Err(error) => Err(pending.failed(error).into()),
        }
    }

    /// Returns the session as it is to be stored.
    fn session(
        &self,
        command: CreateSession,
        token: Option<TokenHash>,
    ) -> Result<Session, CreateSessionError> {
        let now = self.clock.now();
        let user_agent = command.user_agent.as_deref().map(truncated_user_agent);
        let device = user_agent.and_then(|text| self.enrichers.device.device(text));
        let place = |address| self.enrichers.location.as_ref()?.location(address);
        Ok(Session {
            id: SessionId(self.ids.next_id()),
            user_id: command.user_id,
            device_info: device.as_ref().and_then(Device::describe),
            device,
            user_agent: user_agent.map(Into::into),
            ip_address: command.ip_address,
            last_ip_address: command.ip_address,
            location: command.ip_address.and_then(place).map(Into::into),
            name: None,
            created_at: now,
            last_activity_at: now,
            expires_at: self
                .policy
                .expires_at(command.expires_at, now)
                .map_err(CreateSessionError::ExpiresAt)?,
            idle_timeout: self.policy.idle_timeout,
            renewal: self.policy.renewal(command.expires_at),
            metadata: command.metadata.map(Into::into),
            idempotency_key: command.idempotency_key,
            tokens: token.map(|hash| SessionTokens::issued(hash).into()),
            revocation: None,
        })
    }

    /// This response acknowledges the evictions of the first attempt, which may not be effective
    /// yet.
    async fn acknowledge_repeated(
        &self,
        repeated: CreatedSession,
        issue_token: bool,
    ) -> Result<CreatedSession, CreateSessionError> {
        let mut token = None;
        let mut is_live = repeated.session.is_live(self.clock.now());
        // Also if it finds none: they may have been deleted since, or be too many to list.
        let pending = self.revoker.begin([Scope::User(repeated.session.user_id)]);
        if issue_token {
            let (secret, hash) = self.tokens.next_token();
            let rotation = TokenRotation { hash, at: self.clock.now(), only_if: None };
            match self.session_repo.rotate_token(repeated.session.id, &rotation).await {
                Ok(true) => token = Some(issued(&repeated.session, secret)),
                // It has been terminated since it was read.
                Ok(false) => is_live = false,
                Err(error) => return Err(pending.failed(error).into()),
            }
        }
        // The session itself is live, so its buffered activity stays. The log keeps every node from
        // accepting the replaced token from a cache.
        pending.committed(&repeated.evicted, Acknowledge::Effective).await;
        if is_live {
            Ok(CreatedSession { token, ..repeated })
        } else {
            Err(CreateSessionError::SessionEnded)
        }
    }

    /// Returns the outcome of the earlier sign-in with this idempotency key (`Idempotency-Key`), if
    /// there was one.
    async fn repeated(
        &self,
        user_id: UserId,
        key: &IdempotencyKey,
    ) -> Result<Option<CreatedSession>, CreateSessionError> {
        let found = self.session_repo.find_by_idempotency_key(user_id, &key.text).await?;
        let Some(session) = found else { return Ok(None) };
        // A session from before hashes were kept has none.
        if session
            .idempotency_key
            .as_ref()
            .is_some_and(|first| first.request_hash != key.request_hash)
        {
            return Err(CreateSessionError::KeyReused);
        }
        let now = self.clock.now();
        let listing =
            SessionListing { user_id, now, active_only: false, limit: EVICTED_AMONG, after: None };
        let mut page = self.session_repo.list_by_user(&listing).await?.sessions;
        // It evicted them at the time of its own creation. The oldest first, as the first
        // response had them.
        let eviction = Some(Revocation::eviction(session.created_at).into());
        page.retain(|other| other.revocation == eviction && other.created_at <= session.created_at);
        let evicted = page.iter().rev().map(|other| SessionKey { id: other.id, user_id });
        Ok(Some(CreatedSession { evicted: evicted.collect(), session, token: None }))
    }
}

fn issued(session: &Session, secret: TokenSecret) -> IssuedToken {
    let key = SessionKey { id: session.id, user_id: session.user_id };
    IssuedToken { session: key, secret, expires_at: session.expires_at }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use adapters_memory::MemorySessionCache;
    use chrono::TimeDelta;
    use domain::ports::SessionCache;
    use domain::{DeviceKind, OnLimit, USER_AGENT_MAX_BYTES};
    use testkit::memory::{MemoryDatabase, MemorySessionRepository};
    use testkit::{SequentialIds, SequentialTokens, fixtures};

    use super::*;
    use crate::test_support;

    /// Knows one program and one address.
    struct Known;

    impl DeviceEnricher for Known {
        fn device(&self, user_agent: &str) -> Option<Device> {
            let kind = DeviceKind::Other;
            (user_agent == "curl/8.0").then(|| Device {
                browser: Some("curl".into()),
                system: None,
                kind,
            })
        }
    }

    impl LocationEnricher for Known {
        fn location(&self, address: std::net::IpAddr) -> Option<String> {
            (address.to_string() == "192.0.2.7").then(|| "Berlin, DE".into())
        }
    }

    struct Fixture {
        database: MemoryDatabase,
        repo: Arc<MemorySessionRepository>,
        cache: Arc<MemorySessionCache>,
        handler: CreateSessionHandler,
    }

    fn fixture(max_per_user: u32, on_limit: OnLimit) -> Fixture {
        let database = MemoryDatabase::default();
        let repo = Arc::new(MemorySessionRepository::new(database.clone()));
        let cache = Arc::new(MemorySessionCache::new(10, fixtures::clock()));
        let max_per_user = NonZeroU32::new(max_per_user);
        let policy = SessionPolicy {
            lifetime: TimeDelta::days(30),
            idle_timeout: Some(TimeDelta::days(1)),
            sliding: true,
            max_per_user,
            on_limit,
        };
        let ids = Arc::new(SequentialIds::default());
        let revoker = test_support::revoker(cache.clone());
        let enrichers = Enrichers { device: Arc::new(Known), location: Some(Arc::new(Known)) };
        let handler = CreateSessionHandler::new(
            repo.clone(),
            revoker,
            enrichers,
            fixtures::clock(),
            ids,
            Arc::new(SequentialTokens::default()),
            policy,
        );
        Fixture { database, repo, cache, handler }
    }

    fn command() -> CreateSession {
        CreateSession {
            user_id: fixtures::session().user_id,
            ip_address: "192.0.2.7".parse().ok(),
            user_agent: Some("curl/8.0".into()),
            expires_at: None,
            max_sessions: None,
            metadata: Some(fixtures::metadata()),
            idempotency_key: None,
            issue_token: false,
        }
    }

    #[tokio::test]
    async fn a_sign_in_becomes_a_stored_live_session() {
        let s = fixture(0, OnLimit::EvictOldest);
        let created = s.handler.handle(command()).await.unwrap();
        let CreatedSession { session, evicted, token } = created;
        assert!(token.is_none() && session.tokens.is_none(), "none was asked for");

        assert_eq!(testkit::find_session(&*s.repo, session.id).await, Some(session.clone()));
        assert!(session.is_live(fixtures::now()) && evicted.is_empty());
        assert_eq!(session.created_at, fixtures::now());
        assert_eq!(session.last_activity_at, fixtures::now());
        assert_eq!(session.expires_at, fixtures::now() + TimeDelta::days(30));
        assert_eq!(session.ip_address, session.last_ip_address);
        assert_eq!(
            (session.idle_timeout, session.renewal),
            (Some(TimeDelta::days(1)), Some(TimeDelta::days(30)))
        );
        assert_eq!(session.metadata.as_deref(), Some(&fixtures::metadata()));
    }

    #[tokio::test]
    async fn device_and_place_are_filled_in_where_they_are_known() {
        let s = fixture(0, OnLimit::EvictOldest);
        let session = s.handler.handle(command()).await.unwrap().session;
        assert_eq!(
            (session.device_info.as_deref(), session.location.as_deref()),
            (Some("curl"), Some("Berlin, DE"))
        );
        let unknown = CreateSession {
            user_agent: Some("x".into()),
            ip_address: "::1".parse().ok(),
            ..command()
        };
        let session = s.handler.handle(unknown).await.unwrap().session;
        assert_eq!((session.device_info, session.device, session.location), (None, None, None));
    }

    #[tokio::test]
    async fn an_end_that_was_asked_for_is_not_renewed() {
        let s = fixture(0, OnLimit::EvictOldest);
        let tomorrow = Some(fixtures::now() + TimeDelta::days(1));
        let session = s
            .handler
            .handle(CreateSession { expires_at: tomorrow, ..command() })
            .await
            .unwrap()
            .session;
        assert_eq!((Some(session.expires_at), session.renewal), (tomorrow, None));
    }

    #[tokio::test]
    async fn the_same_key_again_is_the_same_sign_in_again() {
        let s = fixture(1, OnLimit::EvictOldest);
        s.handler.handle(command()).await.unwrap();
        let with_key = CreateSession {
            idempotency_key: Some(fixtures::idempotency_key("a key")),
            ..command()
        };
        let first = s.handler.handle(with_key.clone()).await.unwrap();
        assert_eq!(first.evicted.len(), 1);
        let again = s.handler.handle(with_key.clone()).await.unwrap();
        assert_eq!((&again.session, &again.evicted), (&first.session, &first.evicted));
        assert!(again.token.is_none());
        assert_eq!(s.database.session_count(), 2);
        let strangers = CreateSession { user_id: fixtures::another_user(), ..with_key };
        assert_ne!(s.handler.handle(strangers).await.unwrap().session.id, first.session.id);
    }

    #[tokio::test]
    async fn token_is_issued_where_it_is_asked_for_and_a_repetition_rotates_it() {
        let s = fixture(0, OnLimit::EvictOldest);
        let hashes = SequentialTokens::default();
        let with_token = CreateSession {
            idempotency_key: Some(fixtures::idempotency_key("a key")),
            issue_token: true,
            ..command()
        };
        let first = s.handler.handle(with_token.clone()).await.unwrap();
        let issued = SessionTokens::issued(hashes.next_token().1);
        assert!(first.token.is_some());
        assert_eq!(first.session.tokens.as_deref(), Some(&issued));

        // The first response may have been lost, and the secret is kept nowhere.
        let again = s.handler.handle(with_token).await.unwrap();
        assert!(again.token.is_some());
        assert_eq!(again.session.id, first.session.id);
        let rotated = issued.rotated(hashes.next_token().1, fixtures::now());
        let stored = testkit::find_session(&*s.repo, first.session.id).await.unwrap();
        assert_eq!(stored.tokens.as_deref(), Some(&rotated));
    }

    #[tokio::test]
    async fn same_key_for_another_request_is_refused_and_stores_nothing() {
        let s = fixture(0, OnLimit::EvictOldest);
        let with_key = CreateSession {
            idempotency_key: Some(fixtures::idempotency_key("a key")),
            ..command()
        };
        s.handler.handle(with_key.clone()).await.unwrap();
        let another =
            IdempotencyKey { request_hash: [8; 32], ..fixtures::idempotency_key("a key") };
        let another = CreateSession { idempotency_key: Some(another), ..with_key };
        assert!(matches!(s.handler.handle(another).await, Err(CreateSessionError::KeyReused)));
        assert_eq!(s.database.session_count(), 1);
    }

    #[tokio::test]
    async fn repeated_sign_in_whose_session_is_terminated_is_refused() {
        let s = fixture(1, OnLimit::EvictOldest);
        let with_key = CreateSession {
            idempotency_key: Some(fixtures::idempotency_key("a key")),
            ..command()
        };
        s.handler.handle(with_key.clone()).await.unwrap();
        // It takes the place of the first one.
        s.handler.handle(command()).await.unwrap();
        assert!(matches!(s.handler.handle(with_key).await, Err(CreateSessionError::SessionEnded)));
        assert_eq!(s.database.session_count(), 2);
    }

    #[tokio::test]
    async fn two_sign_ins_are_two_sessions() {
        let s = fixture(0, OnLimit::EvictOldest);
        let first = s.handler.handle(command()).await.unwrap().session;
        assert_ne!(first.id, s.handler.handle(command()).await.unwrap().session.id);
    }

    #[tokio::test]
    async fn an_end_in_the_past_is_refused_and_nothing_is_stored() {
        let s = fixture(0, OnLimit::EvictOldest);
        let past = CreateSession { expires_at: Some(fixtures::now()), ..command() };
        assert!(matches!(s.handler.handle(past).await, Err(CreateSessionError::ExpiresAt(_))));
        assert_eq!(s.database.session_count(), 0);
    }

    #[tokio::test]
    async fn a_long_user_agent_is_cut() {
        let s = fixture(0, OnLimit::EvictOldest);
        let long = CreateSession { user_agent: Some("x".repeat(5000)), ..command() };
        let session = s.handler.handle(long).await.unwrap().session;
        assert_eq!(session.user_agent.map(|text| text.len()), Some(USER_AGENT_MAX_BYTES));
    }

    #[tokio::test]
    async fn evicted_sessions_are_returned_and_invalidated_in_the_cache() {
        let s = fixture(2, OnLimit::EvictOldest);
        let first = s.handler.handle(command()).await.unwrap().session;
        s.handler.handle(command()).await.unwrap();
        s.cache.set(&Arc::new(first.clone()), &fixtures::read_version()).await;

        let created = s.handler.handle(command()).await.unwrap();
        assert_eq!(created.evicted, [SessionKey { id: first.id, user_id: first.user_id }]);
        assert!(s.cache.get(first.id, first.user_id).await.is_none());
        assert!(testkit::find_session(&*s.repo, first.id).await.unwrap().is_revoked());
    }

    #[tokio::test]
    async fn the_callers_limit_outweighs_the_policys_and_a_limit_may_deny() {
        let s = fixture(1, OnLimit::Deny);
        let more = CreateSession { max_sessions: NonZeroU32::new(2), ..command() };
        s.handler.handle(more.clone()).await.unwrap();
        s.handler.handle(more.clone()).await.unwrap();
        for command in [more, command()] {
            assert!(matches!(
                s.handler.handle(command).await,
                Err(CreateSessionError::LimitReached)
            ));
        }
        assert_eq!(s.database.session_count(), 2);
    }
}
