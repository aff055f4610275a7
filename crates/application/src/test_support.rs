//! What tests of several handlers start from: the parts of a node alone.

use std::sync::Arc;
use std::time::Duration;

use adapters_memory::{MemoryDatabase, MemoryNodes, MemoryRevocationFeed};
use chrono::TimeDelta;
use domain::ports::SessionCache;
use testkit::{SteppingClock, fixtures};
use uuid::Uuid;

use crate::activity::ActivityBuffer;
use crate::coherence::{CommitWait, RevocationState, SessionRevoker};

/// Returns the state of a node that has not polled, and so serves nothing from its caches.
/// `two_nodes.rs` has what depends on polls.
pub(crate) fn revocation_state() -> Arc<RevocationState> {
    state_by(Arc::new(SteppingClock::default()))
}

fn state_by(clock: Arc<SteppingClock>) -> Arc<RevocationState> {
    Arc::new(RevocationState::new(clock, Duration::from_millis(500)))
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
