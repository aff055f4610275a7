//! The near cache: bounded, in this process, used in production.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use domain::coherence::ReadVersion;
use domain::ports::{CachedSession, Clock, Layer, SessionCache, SessionKey};
use domain::{Session, SessionId, UserId};
use quick_cache::sync::Cache;

/// How long an entry is served after it was set.
const TIME_TO_LIVE: TimeDelta = TimeDelta::seconds(60);
/// Texts that sessions share, at most.
const WORDS: usize = 4096;

/// [`SessionCache`] in the memory of this process: bounded by its number of entries, and each entry
/// by a minute.
///
/// Exact only where every write to the store goes through this process, as with an embedded store:
/// it has no part in those of other processes.
pub struct MemorySessionCache {
    /// `None` where there is no room for anything.
    entries: Option<Cache<SessionId, Entry>>,
    /// What many devices and places are called, so that sessions share it.
    words: Cache<Arc<str>, Arc<str>>,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
struct Entry {
    session: Arc<Session>,
    version: ReadVersion,
    set_at: DateTime<Utc>,
}

impl MemorySessionCache {
    /// Creates a cache of at most `capacity` sessions; of none, it never knows any.
    pub fn new(capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            entries: (capacity > 0).then(|| Cache::new(capacity)),
            words: Cache::new(WORDS),
            clock,
        }
    }

    /// Returns the number of cached sessions.
    pub fn len(&self) -> usize {
        self.entries.as_ref().map_or(0, Cache::len)
    }

    /// Makes `text` the same as those of other sessions that say the same.
    fn share(&self, text: &mut Arc<str>) {
        match self.words.get(&**text) {
            Some(known) => *text = known,
            None => self.words.insert(text.clone(), text.clone()),
        }
    }

    /// Returns whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[async_trait]
impl SessionCache for MemorySessionCache {
    async fn get(&self, session_id: SessionId, user_id: UserId) -> Option<CachedSession> {
        let entries = self.entries.as_ref()?;
        let entry = entries.get(&session_id).filter(|entry| entry.session.user_id == user_id)?;
        // An entry from the future means that the clock was set back: of unknown age, so not
        // served.
        let now = self.clock.now();
        let age = now - entry.set_at;
        if age < TimeDelta::zero() || age >= TIME_TO_LIVE {
            entries.remove(&session_id);
            return None;
        }
        let Entry { session, version, .. } = entry;
        session.is_live(now).then_some(CachedSession { session, version, layer: Layer::Near })
    }

    async fn set(&self, session: &Arc<Session>, version: &ReadVersion) {
        let Some(entries) = &self.entries else { return };
        if session.is_revoked() {
            return;
        }
        let mut session = session.for_cache();
        let device =
            session.device.iter_mut().flat_map(|device| [&mut device.browser, &mut device.system]);
        for text in device.chain([&mut session.device_info, &mut session.location]).flatten() {
            self.share(text);
        }
        let id = session.id;
        let version = version.clone();
        let set_at = self.clock.now();
        entries.insert(id, Entry { session: Arc::new(session), version, set_at });
    }

    async fn remove(&self, sessions: &[SessionKey]) {
        let Some(entries) = &self.entries else { return };
        for session in sessions {
            entries.remove(&session.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use testkit::{FixedClock, fixtures};

    use super::*;

    #[tokio::test]
    async fn an_entry_is_served_for_a_minute() {
        let clock = Arc::new(FixedClock::at(fixtures::now()));
        let cache = MemorySessionCache::new(10, clock.clone());
        let session = Arc::new(fixtures::session());
        cache.set(&session, &fixtures::read_version()).await;

        clock.advance(TIME_TO_LIVE - TimeDelta::microseconds(1));
        assert!(cache.get(session.id, session.user_id).await.is_some());
        clock.advance(TimeDelta::microseconds(1));
        assert!(cache.get(session.id, session.user_id).await.is_none());
    }

    #[tokio::test]
    async fn a_clock_set_back_makes_entries_misses() {
        let clock = Arc::new(FixedClock::at(fixtures::now()));
        let cache = MemorySessionCache::new(10, clock.clone());
        let session = Arc::new(fixtures::session());
        cache.set(&session, &fixtures::read_version()).await;

        clock.advance(TimeDelta::seconds(-1));
        assert!(cache.get(session.id, session.user_id).await.is_none());
    }

    #[tokio::test]
    async fn it_holds_no_more_than_its_capacity() {
        let cache = MemorySessionCache::new(10, fixtures::clock());
        for n in 0..1000 {
            cache.set(&Arc::new(fixtures::session_number(n)), &fixtures::read_version()).await;
        }
        assert!((1..=10).contains(&cache.len()));
    }

    #[tokio::test]
    async fn sessions_share_what_their_devices_and_places_are_called() {
        let cache = MemorySessionCache::new(10, fixtures::clock());
        let mut texts = Vec::new();
        for n in 1..=2 {
            let session = Arc::new(fixtures::session_number(n));
            cache.set(&session, &fixtures::read_version()).await;
            let session = cache.get(session.id, session.user_id).await.unwrap().session;
            let device = session.device.clone().unwrap();
            texts.push([
                device.browser,
                device.system,
                session.device_info.clone(),
                session.location.clone(),
            ]);
        }
        let pairs = texts[0].iter().flatten().zip(texts[1].iter().flatten());
        assert_eq!(pairs.filter(|(one, other)| Arc::ptr_eq(one, other)).count(), 4);
    }

    #[tokio::test]
    async fn without_capacity_it_never_knows_anything() {
        let cache = MemorySessionCache::new(0, fixtures::clock());
        let session = Arc::new(fixtures::session());
        cache.set(&session, &fixtures::read_version()).await;
        assert!(cache.get(session.id, session.user_id).await.is_none());
    }
}
