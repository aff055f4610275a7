//! What tests of several handlers start from: the parts of a node alone.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use domain::ports::{DeviceEnricher, RevocationFeed, SessionCache};
use domain::{Device, OnLimit, OnTokenReuse, SessionPolicy, TokenPolicy};
use testkit::memory::{
    MemoryDatabase, MemoryEventOutbox, MemoryNodes, MemoryRevocationFeed, MemorySessionRepository,
    MemorySessionRetention,
};
use testkit::{SequentialIds, SequentialTokens, SteppingClock, fixtures};
use uuid::Uuid;

use crate::activity::ActivityBuffer;
use crate::application::{Policies, Ports};
use crate::coherence::{CommitWait, RevocationState, SessionRevoker};
use crate::commands::handlers::Enrichers;

/// The maximum staleness of nodes in tests.
pub(crate) const MAX_STALENESS: Duration = Duration::from_millis(500);

/// The policy for session tokens in tests.
pub(crate) const TOKEN_POLICY: TokenPolicy =
    TokenPolicy { rotation_grace: TimeDelta::seconds(10), on_reuse: OnTokenReuse::Report };

struct NoDevices;

impl DeviceEnricher for NoDevices {
    fn device(&self, _: &str) -> Option<Device> {
        None
    }
}

/// Returns the ports of a node without caches, on this database.
pub(crate) fn ports(database: &MemoryDatabase, feed: Arc<dyn RevocationFeed>) -> Ports {
    Ports {
        session_repo: Arc::new(MemorySessionRepository::new(database.clone())),
        near_cache: None,
        shared_cache: None,
        revocation_feed: feed,
        event_outbox: Arc::new(MemoryEventOutbox::new(database.clone())),
        session_retention: Arc::new(MemorySessionRetention::new(database.clone())),
        enrichers: Enrichers { device: Arc::new(NoDevices), location: None },
        clock: fixtures::clock(),
        monotonic_clock: Arc::new(SteppingClock::default()),
        ids: Arc::new(SequentialIds::default()),
        tokens: Arc::new(SequentialTokens::default()),
    }
}

/// Returns the policies of a node with the defaults of the configuration.
pub(crate) fn policies() -> Policies {
    let sessions = SessionPolicy {
        lifetime: TimeDelta::days(30),
        idle_timeout: None,
        sliding: false,
        max_per_user: None,
        on_limit: OnLimit::EvictOldest,
    };
    Policies {
        sessions,
        tokens: TOKEN_POLICY,
        activity_window: TimeDelta::seconds(60),
        retention: TimeDelta::days(30),
        max_staleness: MAX_STALENESS,
    }
}

/// Returns the state of a node that has not polled, and so serves nothing from its caches.
/// `two_nodes.rs` has what depends on polls.
pub(crate) fn revocation_state() -> Arc<RevocationState> {
    state_by(Arc::new(SteppingClock::default()))
}

fn state_by(clock: Arc<SteppingClock>) -> Arc<RevocationState> {
    Arc::new(RevocationState::new(clock, MAX_STALENESS))
}

/// Returns an empty activity buffer.
pub(crate) fn activity() -> Arc<ActivityBuffer> {
    Arc::new(ActivityBuffer::new(TimeDelta::seconds(60), Arc::new(SteppingClock::default())))
}

/// Returns the revoker of a node alone, over this cache.
pub(crate) fn revoker(cache: Arc<dyn SessionCache>) -> Arc<SessionRevoker> {
    let feed = MemoryRevocationFeed::new(
        MemoryDatabase::default(),
        MemoryNodes::default(),
        Uuid::from_u128(1),
    );
    let clock = Arc::new(SteppingClock::default());
    let state = state_by(clock.clone());
    let commit_wait = Arc::new(CommitWait::new(Arc::new(feed), clock, state.clone()));
    Arc::new(SessionRevoker::new(cache, activity(), state, commit_wait, fixtures::clock()))
}
