//! Serves cached sessions, each only if it is servable then.

use std::sync::Arc;

use async_trait::async_trait;
use domain::coherence::ReadVersion;
use domain::ports::{CachedSession, SessionCache, SessionKey};
use domain::{Session, SessionId, UserId};

use super::RevocationState;

/// The near cache, then the shared one. Caches are not trusted: what they hold is served only if it
/// [is servable](RevocationState::is_servable) when it is returned. So no handler can
/// skip it, and none has to know of it.
pub struct CoherentSessionCache {
    near: Option<Arc<dyn SessionCache>>,
    shared: Option<Arc<dyn SessionCache>>,
    state: Arc<RevocationState>,
}

impl CoherentSessionCache {
    /// Creates a cache over these.
    pub fn new(
        near: Option<Arc<dyn SessionCache>>,
        shared: Option<Arc<dyn SessionCache>>,
        state: Arc<RevocationState>,
    ) -> Self {
        Self { near, shared, state }
    }

    fn is_servable(&self, cached: &CachedSession) -> bool {
        self.state.is_servable(cached.session.id, cached.session.user_id, &cached.version)
    }

    async fn get_servable(
        &self,
        cache: &Option<Arc<dyn SessionCache>>,
        session_id: SessionId,
        user_id: UserId,
    ) -> Option<CachedSession> {
        let cached = cache.as_ref()?.get(session_id, user_id).await?;
        self.is_servable(&cached).then_some(cached)
    }
}

#[async_trait]
impl SessionCache for CoherentSessionCache {
    async fn get(&self, session_id: SessionId, user_id: UserId) -> Option<CachedSession> {
        if let Some(cached) = self.get_servable(&self.near, session_id, user_id).await {
            return Some(cached);
        }
        let cached = self.get_servable(&self.shared, session_id, user_id).await?;
        if let Some(near) = &self.near {
            near.set(&cached.session, &cached.version).await;
            // Writing to it may have taken a while.
            return self.is_servable(&cached).then_some(cached);
        }
        Some(cached)
    }

    async fn set(&self, session: &Arc<Session>, version: &ReadVersion) {
        for cache in [&self.near, &self.shared].into_iter().flatten() {
            cache.set(session, version).await;
        }
    }

    async fn remove(&self, sessions: &[SessionKey]) {
        for cache in [&self.near, &self.shared].into_iter().flatten() {
            cache.remove(sessions).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use adapters_memory::MemorySessionCache;
    use domain::coherence::{LogPage, MonotonicInstant, SessionRead, Snapshot};
    use domain::ports::SessionRepository;
    use testkit::memory::{
        MemoryDatabase, MemoryNodes, MemoryRevocationFeed, MemorySessionRepository,
    };
    use testkit::{SteppingClock, fixtures};
    use uuid::Uuid;

    use super::*;
    use crate::coherence::RevocationFollower;

    const MAX_STALENESS: Duration = Duration::from_millis(500);

    /// A near cache that takes as long to write to as values are servable.
    struct SlowToWrite(MemorySessionCache, Arc<SteppingClock>);

    #[async_trait]
    impl SessionCache for SlowToWrite {
        async fn get(&self, session_id: SessionId, user_id: UserId) -> Option<CachedSession> {
            self.0.get(session_id, user_id).await
        }

        async fn set(&self, session: &Arc<Session>, version: &ReadVersion) {
            self.1.advance(MAX_STALENESS);
            self.0.set(session, version).await;
        }

        async fn remove(&self, sessions: &[SessionKey]) {
            self.0.remove(sessions).await;
        }
    }

    #[tokio::test]
    async fn value_is_checked_again_after_it_was_copied_to_the_near_cache() {
        let database = MemoryDatabase::default();
        let clock = Arc::new(SteppingClock::default());
        let repo = MemorySessionRepository::new(database.clone());
        repo.insert(&fixtures::session(), None).await.unwrap();
        let SessionRead { session, version } =
            repo.find_by_id(fixtures::session().id).await.unwrap().unwrap();
        let shared = Arc::new(MemorySessionCache::new(10, fixtures::clock()));
        shared.set(&session, &version.unwrap()).await;
        let feed = Arc::new(MemoryRevocationFeed::new(
            database,
            MemoryNodes::default(),
            Uuid::from_u128(1),
        ));
        let state = Arc::new(RevocationState::new(clock.clone(), MAX_STALENESS));
        RevocationFollower::new(feed, state.clone()).poll().await.unwrap();
        let get = async |near: Option<Arc<dyn SessionCache>>| {
            let cache = CoherentSessionCache::new(near, Some(shared.clone()), state.clone());
            cache.get(session.id, session.user_id).await.is_some()
        };
        assert!(get(None).await);
        let slow = SlowToWrite(MemorySessionCache::new(10, fixtures::clock()), clock.clone());
        assert!(!get(Some(Arc::new(slow))).await, "the last poll was too long ago by then");
    }

    /// A coherent cache over a near and a shared one, of a node that trusts every value that the
    /// suite sets.
    async fn trusting_cache() -> ((), Arc<CoherentSessionCache>) {
        let state =
            Arc::new(RevocationState::new(Arc::new(SteppingClock::default()), MAX_STALENESS));
        let page = LogPage {
            incarnation: fixtures::read_version().incarnation,
            entries: Vec::new(),
            snapshot: Snapshot::below(1),
            is_last: true,
            starts_over: Some(Snapshot::default()),
        };
        state.apply(&page, MonotonicInstant::default());
        let cache = || {
            Some(Arc::new(MemorySessionCache::new(100, fixtures::clock())) as Arc<dyn SessionCache>)
        };
        ((), Arc::new(CoherentSessionCache::new(cache(), cache(), state)))
    }

    testkit::session_cache_contract!(trusting_cache());
}
