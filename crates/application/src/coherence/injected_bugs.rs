//! Injected bugs that take more than a line. Tests switch them on by fail points.

use std::sync::PoisonError;
use std::time::Duration;

use domain::coherence::{MonotonicInstant, ReadVersion};
use domain::{SessionId, UserId};

use super::RevocationState;

/// A cached session is served up to and at the time at which a revocation is acknowledged. That
/// is an instant without length; so here the clock ticks, which by itself does no harm.
pub(super) const BOUNDARY: &str = "bug-boundary-on-both-sides";

/// Returns the last tick.
pub(super) fn tick(now: MonotonicInstant) -> MonotonicInstant {
    const TICK: u64 = 100;
    let millis = u64::try_from(now.0.as_millis()).unwrap_or(u64::MAX);
    MonotonicInstant(Duration::from_millis(millis / TICK * TICK))
}

pub(super) fn just_before(instant: MonotonicInstant) -> MonotonicInstant {
    MonotonicInstant(instant.0.saturating_sub(Duration::from_nanos(1)))
}

impl RevocationState {
    /// Returns whether the map has no objection, and only then whether it is recent enough.
    pub(super) fn is_servable_in_two_steps(
        &self,
        id: SessionId,
        user_id: UserId,
        version: &ReadVersion,
    ) -> bool {
        let map = || self.map().read().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = || self.now() < map().fresh_until();
        let had_no_objection =
            map().check(id, user_id, version, MonotonicInstant::default()).is_ok();
        if !is_fresh() {
            // The time between the two is short; not here.
            std::thread::sleep(Duration::from_millis(200));
        }
        had_no_objection && is_fresh()
    }
}
