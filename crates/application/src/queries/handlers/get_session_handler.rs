//! Get session query handler.
//!
//! Retrieves a single session by its id, cache first, and checks that the caller owns it.

use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::coherence::{ReadVersion, SessionRead};
use domain::ports::{CachedSession, Layer, PortError, SessionCache, SessionRepository};
use domain::{Session, SessionId, UserId};
use thiserror::Error;

use crate::activity::ActivityBuffer;
use crate::queries::GetSession;

/// Why a session was not returned.
#[derive(Debug, Error)]
pub enum GetSessionError {
    /// There is no such session.
    #[error("{}", Self::SESSION_NOT_FOUND)]
    SessionNotFound,
    /// There is one, of another user.
    #[error("{}", Self::NOT_OWNER)]
    NotOwner,
    /// The store failed, so it is not known. Never the same as "not found".
    #[error(transparent)]
    Port(#[from] PortError),
}

impl GetSessionError {
    /// The code of [`GetSessionError::SessionNotFound`].
    pub const SESSION_NOT_FOUND: &'static str = "session_not_found";
    /// The code of [`GetSessionError::NotOwner`].
    pub const NOT_OWNER: &'static str = "not_session_owner";
}

/// A session as data, in any state: what [`GetSessionHandler::handle`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionResult {
    /// The session's id.
    pub id: SessionId,
    /// Its owner.
    pub user_id: UserId,
    /// The device in words.
    pub device_info: Option<Arc<str>>,
    /// The client's address at sign-in.
    pub ip_address: Option<IpAddr>,
    /// The place of that address in words.
    pub location: Option<Arc<str>>,
    /// When the user signed in.
    pub created_at: Option<DateTime<Utc>>,
    /// The time of the last activity.
    pub last_activity_at: Option<DateTime<Utc>>,
    /// When it expires, at the latest.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it was revoked. A revoked session is returned too: an owner may see an
    /// old device.
    pub is_revoked: bool,
    /// Whether it is the session that the request was made in. The caller sets this.
    pub is_current: bool,
}

/// A session that its owner may see, and where it came from: what [`GetSessionHandler::find`]
/// returns.
#[derive(Clone, Debug)]
pub struct FoundSession {
    /// The session, with activity that only this node has yet.
    ///
    /// Caches hold neither `user_agent` nor `metadata` nor `idempotency_key`: on a hit these are
    /// `None`. To read them, use `InspectSessionHandler`, which asks the database.
    pub session: Arc<Session>,
    /// The read version of the session, if the store knows it.
    pub version: Option<ReadVersion>,
    /// Where the session came from.
    pub layer: Layer,
}

/// Handles [`GetSession`]: tries the cache, falls back to the database, checks the owner, and
/// populates the cache on a miss.
pub struct GetSessionHandler {
    session_repo: Arc<dyn SessionRepository>,
    session_cache: Arc<dyn SessionCache>,
    pending_activity: Option<Arc<ActivityBuffer>>,
}

impl GetSessionHandler {
    /// Creates a handler over its two ports.
    pub fn new(
        session_repo: Arc<dyn SessionRepository>,
        session_cache: Arc<dyn SessionCache>,
    ) -> Self {
        Self { session_repo, session_cache, pending_activity: None }
    }

    /// Applies activity that is buffered in `activity` to the sessions that are returned.
    #[must_use]
    pub fn with_pending_activity(self, activity: Arc<ActivityBuffer>) -> Self {
        Self { pending_activity: Some(activity), ..self }
    }

    /// Returns the session as data, in any state.
    ///
    /// # Errors
    /// See [`GetSessionError`]. A port that fails is never "not found".
    pub async fn handle(&self, query: GetSession) -> Result<SessionResult, GetSessionError> {
        let found = self.find(query).await?;
        Ok(SessionResult::from(&*found.session))
    }

    /// Returns the entity, for callers that need its rules (`status`, `is_live`), its read version,
    /// or the layer that served it. [`handle`](Self::handle) returns the same as data.
    ///
    /// # Errors
    /// As for [`handle`](Self::handle).
    pub async fn find(&self, query: GetSession) -> Result<FoundSession, GetSessionError> {
        // Step 1: try the cache. The look-up is by session and user, so a hit is the owner's.
        let cached = self.session_cache.get(query.session_id, query.user_id).await;
        if let Some(CachedSession { session, version, layer }) = cached {
            return Ok(self.found(session, Some(version), layer));
        }

        // Step 2: fall back to the database.
        let read = self.session_repo.find_by_id(query.session_id).await?;

        // Step 3: there is none.
        let Some(SessionRead { session, version }) = read else {
            return Err(GetSessionError::SessionNotFound);
        };

        // Step 4: it is another user's.
        if session.user_id != query.user_id {
            return Err(GetSessionError::NotOwner);
        }

        // Step 5: populate the cache, unless the session is revoked. After the owner check, so that
        // a stranger leaves no trace.
        if let Some(version) = version.as_ref().filter(|_| !session.is_revoked()) {
            self.session_cache.set(&session, version).await;
        }

        Ok(self.found(session, version, Layer::Database))
    }

    fn found(
        &self,
        session: Arc<Session>,
        version: Option<ReadVersion>,
        layer: Layer,
    ) -> FoundSession {
        let session = match &self.pending_activity {
            Some(activity) => activity.with_pending_activity(session),
            None => session,
        };
        FoundSession { session, version, layer }
    }
}

impl From<&Session> for SessionResult {
    fn from(session: &Session) -> Self {
        Self {
            id: session.id,
            user_id: session.user_id,
            device_info: session.device_info.clone(),
            ip_address: session.ip_address,
            location: session.location.clone(),
            created_at: Some(session.created_at),
            last_activity_at: Some(session.last_activity_at),
            expires_at: Some(session.expires_at),
            is_revoked: session.is_revoked(),
            is_current: false, // Caller sets this
        }
    }
}

#[cfg(test)]
mod tests {
    use adapters_memory::MemorySessionCache;
    use domain::Revocation;
    use testkit::fixtures;
    use testkit::memory::{MemoryDatabase, MemorySessionRepository};

    use super::*;

    struct Fixture {
        database: MemoryDatabase,
        cache: Arc<MemorySessionCache>,
        handler: GetSessionHandler,
    }

    async fn fixture(sessions: &[&Session]) -> Fixture {
        let database = MemoryDatabase::default();
        let repo = Arc::new(MemorySessionRepository::new(database.clone()));
        for session in sessions {
            repo.insert(session, None).await.unwrap();
        }
        let cache = Arc::new(MemorySessionCache::new(100, fixtures::clock()));
        let handler = GetSessionHandler::new(repo, cache.clone());
        Fixture { database, cache, handler }
    }

    fn query(session: &Session) -> GetSession {
        GetSession { session_id: session.id, user_id: session.user_id }
    }

    #[tokio::test]
    async fn a_miss_is_served_by_the_database_and_populates_the_cache() {
        let session = fixtures::session();
        let s = fixture(&[&session]).await;

        assert_eq!(s.handler.find(query(&session)).await.unwrap().layer, Layer::Database);
        assert_eq!(s.handler.find(query(&session)).await.unwrap().layer, Layer::Near);
    }

    #[tokio::test]
    async fn the_result_has_the_fields_of_the_python_original() {
        let session = fixtures::session();
        let s = fixture(&[&session]).await;

        let from_database = s.handler.handle(query(&session)).await.unwrap();
        let from_cache = s.handler.handle(query(&session)).await.unwrap();
        assert_eq!(from_database, from_cache);
        assert_eq!(
            from_database,
            SessionResult {
                id: session.id,
                user_id: session.user_id,
                device_info: session.device_info,
                ip_address: session.ip_address,
                location: session.location,
                created_at: Some(session.created_at),
                last_activity_at: Some(session.last_activity_at),
                expires_at: Some(session.expires_at),
                is_revoked: false,
                is_current: false,
            }
        );
    }

    #[tokio::test]
    async fn nothing_found_is_session_not_found() {
        let s = fixture(&[]).await;
        let error = s.handler.handle(query(&fixtures::session())).await.unwrap_err();
        assert!(matches!(error, GetSessionError::SessionNotFound));
        assert_eq!(error.to_string(), "session_not_found");
    }

    #[tokio::test]
    async fn a_stranger_is_refused_and_leaves_no_trace() {
        let session = fixtures::session();
        let s = fixture(&[&session]).await;
        let stranger = GetSession { user_id: fixtures::another_user(), ..query(&session) };

        for _ in 0..2 {
            let error = s.handler.handle(stranger).await.unwrap_err();
            assert!(matches!(error, GetSessionError::NotOwner));
            assert_eq!(error.to_string(), "not_session_owner");
        }
        assert!(s.cache.get(session.id, session.user_id).await.is_none());
        assert!(s.cache.get(session.id, stranger.user_id).await.is_none());

        // Nor does an entry of the owner's let the stranger in.
        s.handler.handle(query(&session)).await.unwrap();
        assert!(matches!(s.handler.handle(stranger).await, Err(GetSessionError::NotOwner)));
    }

    #[tokio::test]
    async fn a_revoked_session_is_returned_as_data_and_never_cached() {
        let mut session = fixtures::session();
        session.revocation = Some(
            Revocation { at: session.created_at, reason: Some("lost phone".into()), actor: None }
                .into(),
        );
        let s = fixture(&[&session]).await;

        for _ in 0..2 {
            let found = s.handler.find(query(&session)).await.unwrap();
            assert_eq!(found.layer, Layer::Database);
            assert!(found.session.is_revoked());
        }
        assert!(s.handler.handle(query(&session)).await.unwrap().is_revoked);
    }

    #[tokio::test]
    async fn a_dead_database_is_neither_not_found_nor_an_obstacle_to_a_hit() {
        let session = fixtures::session();
        let s = fixture(&[]).await;
        s.database.take_down();
        assert!(matches!(
            s.handler.handle(query(&session)).await,
            Err(GetSessionError::Port(PortError::Unavailable(_)))
        ));

        s.cache.set(&Arc::new(session.clone()), &fixtures::read_version()).await;
        assert!(s.handler.handle(query(&session)).await.is_ok());
    }
}
