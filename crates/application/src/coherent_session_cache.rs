use std::sync::Arc;

use async_trait::async_trait;
use domain::ports::{CachedSession, EndedSession, SessionCache};
use domain::{Session, SessionId, UserId};

use crate::RevocationGuard;

/// The near cache, then the shared one, and at the moment of the answer the guard. Caches are not trusted: what they hold is answered
/// only if the guard lets it through, so that no handler can forget to ask and none has to know.
pub struct CoherentSessionCache {
    near: Option<Arc<dyn SessionCache>>,
    shared: Option<Arc<dyn SessionCache>>,
    guard: Arc<RevocationGuard>,
}

impl CoherentSessionCache {
    /// Over these caches, with this guard.
    pub fn new(
        near: Option<Arc<dyn SessionCache>>,
        shared: Option<Arc<dyn SessionCache>>,
        guard: Arc<RevocationGuard>,
    ) -> Self {
        Self { near, shared, guard }
    }

    async fn ask(
        &self,
        cache: &Option<Arc<dyn SessionCache>>,
        session_id: SessionId,
        user_id: UserId,
    ) -> Option<CachedSession> {
        let cached = cache.as_ref()?.get(session_id, user_id).await?;
        self.guard.lets_through(&cached.session).then_some(cached)
    }
}

#[async_trait]
impl SessionCache for CoherentSessionCache {
    async fn get(&self, session_id: SessionId, user_id: UserId) -> Option<CachedSession> {
        if let Some(cached) = self.ask(&self.near, session_id, user_id).await {
            return Some(cached);
        }
        let cached = self.ask(&self.shared, session_id, user_id).await?;
        if let Some(near) = &self.near {
            near.set(&cached.session).await;
        }
        // Remembering it may have taken a while.
        self.guard.lets_through(&cached.session).then_some(cached)
    }

    async fn set(&self, session: &Arc<Session>) {
        // What does not know when it was read could not be answered anyhow.
        if session.stamp.0.is_none() {
            return;
        }
        for cache in [&self.near, &self.shared].into_iter().flatten() {
            cache.set(session).await;
        }
    }

    async fn remove(&self, sessions: &[EndedSession]) {
        for cache in [&self.near, &self.shared].into_iter().flatten() {
            cache.remove(sessions).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use adapters_memory::{
        MemoryDatabase, MemoryNodes, MemoryRevocationFeed, MemorySessionCache, MemorySessionRepository,
    };
    use domain::ports::{SessionReader, SessionRepository};
    use testkit::{SteppingClock, fixtures};
    use uuid::Uuid;

    use super::*;

    const DELTA: Duration = Duration::from_millis(500);

    /// A near cache that takes as long to write to as values are servable.
    struct SlowToWrite(MemorySessionCache, Arc<SteppingClock>);

    #[async_trait]
    impl SessionCache for SlowToWrite {
        async fn get(&self, session_id: SessionId, user_id: UserId) -> Option<CachedSession> {
            self.0.get(session_id, user_id).await
        }

        async fn set(&self, session: &Arc<Session>) {
            self.1.advance(DELTA);
            self.0.set(session).await;
        }

        async fn remove(&self, sessions: &[EndedSession]) {
            self.0.remove(sessions).await;
        }
    }

    #[tokio::test]
    async fn value_is_checked_again_after_it_was_copied_to_the_near_cache() {
        let (database, clock) = (MemoryDatabase::default(), Arc::new(SteppingClock::default()));
        let repo = MemorySessionRepository::new(database.clone());
        repo.insert(&fixtures::session(), None).await.unwrap();
        let session = Arc::new(repo.find_by_id(fixtures::session().id).await.unwrap().unwrap());
        let shared = Arc::new(MemorySessionCache::new(10, fixtures::clock()));
        shared.set(&session).await;
        let feed = MemoryRevocationFeed::new(database, MemoryNodes::default(), Uuid::from_u128(1));
        let guard = Arc::new(RevocationGuard::new(Arc::new(feed), clock.clone(), DELTA));
        guard.follow().await.unwrap();
        let get = async |near: Option<Arc<dyn SessionCache>>| {
            let cache = CoherentSessionCache::new(near, Some(shared.clone()), guard.clone());
            cache.get(session.id, session.user_id).await.is_some()
        };
        assert!(get(None).await);
        let slow = SlowToWrite(MemorySessionCache::new(10, fixtures::clock()), clock.clone());
        assert!(!get(Some(Arc::new(slow))).await, "the last poll was too long ago by then");
    }
}
