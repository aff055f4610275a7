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
