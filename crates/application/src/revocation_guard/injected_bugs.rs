//! Injected bugs that take more than a line. Tests switch them on by fail points.

use std::sync::PoisonError;
use std::time::Duration;

use domain::coherence::{Monotonic, Stamp};
use domain::{SessionId, UserId};

use super::RevocationGuard;

/// What is remembered is good up to and at the moment at which an end is acknowledged. That is a moment without length; so here the
/// clock ticks, which by itself does no harm.
pub(super) const BOUNDARY: &str = "bug-boundary-on-both-sides";

/// The last tick.
pub(super) fn tick(now: Monotonic) -> Monotonic {
    const TICK: u64 = 100;
    let millis = u64::try_from(now.0.as_millis()).unwrap_or(u64::MAX);
    Monotonic(Duration::from_millis(millis / TICK * TICK))
}

pub(super) fn just_before(moment: Monotonic) -> Monotonic {
    Monotonic(moment.0.saturating_sub(Duration::from_nanos(1)))
}

impl RevocationGuard {
    /// Whether the map lets the session through, and only then whether it is fresh.
    pub(super) fn lets_through_in_two_steps(&self, id: SessionId, user_id: UserId, stamp: Stamp) -> bool {
        let map = || self.map.read().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = || self.clock.now() < map().fresh_until();
        let was_let_through = map().check_read(id, user_id, stamp, Monotonic::default()).is_ok();
        if !is_fresh() {
            // The moment between the two is short; not here.
            std::thread::sleep(Duration::from_millis(200));
        }
        was_let_through && is_fresh()
    }
}
