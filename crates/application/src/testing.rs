//! What several handlers' tests start from.

use std::sync::Arc;
use std::time::Duration;

use adapters_memory::{MemoryDatabase, MemoryNodes, MemoryRevocationFeed};
use chrono::TimeDelta;
use domain::ports::SessionCache;
use testkit::{SteppingClock, fixtures};
use uuid::Uuid;

use crate::{ActivityBuffer, RevocationGuard, SessionEnds};

/// What a command does with the sessions that it ended, on a node alone.
pub(crate) fn ends(cache: Arc<dyn SessionCache>) -> Arc<SessionEnds> {
    let feed = MemoryRevocationFeed::new(MemoryDatabase::default(), MemoryNodes::default(), Uuid::from_u128(1));
    let clock = Arc::new(SteppingClock::default());
    let guard = Arc::new(RevocationGuard::new(Arc::new(feed), clock, Duration::from_millis(500)));
    Arc::new(SessionEnds::new(cache, Arc::new(ActivityBuffer::new(TimeDelta::seconds(60))), guard, fixtures::clock()))
}
