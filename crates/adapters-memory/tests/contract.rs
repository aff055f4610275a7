//! The near cache keeps the contract of its port, and the suite finds one that does not.

use std::sync::Arc;

use adapters_memory::MemorySessionCache;
use domain::coherence::{ReadVersion, Snapshot};
use domain::ports::{CachedSession, SessionCache, SessionKey};
use domain::{Session, SessionId, UserId};

testkit::session_cache_contract!(async {
    ((), Arc::new(MemorySessionCache::new(100, testkit::fixtures::clock())))
});

/// A cache that returns sessions as they were set, and another read version.
struct DropsVersions(MemorySessionCache);

#[async_trait::async_trait]
impl SessionCache for DropsVersions {
    async fn get(&self, session_id: SessionId, user_id: UserId) -> Option<CachedSession> {
        let cached = self.0.get(session_id, user_id).await?;
        let snapshot = Snapshot::below(cached.version.snapshot.xmin());
        Some(CachedSession { version: ReadVersion { snapshot, ..cached.version }, ..cached })
    }

    async fn set(&self, session: &Arc<Session>, version: &ReadVersion) {
        self.0.set(session, version).await;
    }

    async fn remove(&self, sessions: &[SessionKey]) {
        self.0.remove(sessions).await;
    }
}

/// No node could serve what such a cache returns, or all could what they must not.
#[test]
fn cache_that_drops_read_versions_is_reported() {
    use testkit::conformance::{assert_fails, session_cache};

    assert_fails("set_then_get_returns_the_read_version", || async {
        let cache = DropsVersions(MemorySessionCache::new(100, testkit::fixtures::clock()));
        session_cache::set_then_get_returns_the_read_version(&cache).await;
    });
}
