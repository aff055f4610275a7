//! What several handlers' tests start from.

use std::sync::Arc;
use std::time::Duration;

use adapters_memory::{MemoryDatabase, MemoryNodes, MemoryRevocationFeed};
use chrono::TimeDelta;
use domain::ports::SessionCache;
use testkit::{SteppingClock, fixtures};
use uuid::Uuid;

use crate::{ActivityBuffer, RevocationGuard, SessionEnds};

/// The guard of a node alone, which has not polled yet and so lets nothing through. `two_nodes.rs` has what depends on polls.
pub(crate) fn guard() -> Arc<RevocationGuard> {
    let feed = MemoryRevocationFeed::new(MemoryDatabase::default(), MemoryNodes::default(), Uuid::from_u128(1));
    let clock = Arc::new(SteppingClock::default());
    Arc::new(RevocationGuard::new(Arc::new(feed), clock, Duration::from_millis(500)))
}

/// What a command does with the sessions that it ended, on a node alone.
pub(crate) fn ends(cache: Arc<dyn SessionCache>) -> Arc<SessionEnds> {
    let activity = Arc::new(ActivityBuffer::new(TimeDelta::seconds(60)));
    Arc::new(SessionEnds::new(cache, activity, guard(), fixtures::clock()))
}
